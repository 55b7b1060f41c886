//! helm against the API: upgrades over changes by others, and over releases of an older helm.
//! Ignored, with the reason, where helm or kubectl is missing.

use std::path::Path;
use std::process::Command;

use crate::server::{Server, TOKEN};
use needs::needs;

const TEMPLATE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: example/image:{{ .Values.tag }}
        resources: {}
        ports: [{name: http, containerPort: 8080}]
        env: [{name: A, value: {{ .Values.tag | quote }}}]
"#;

#[needs(helm, kubectl)]
#[test]
fn an_upgrade_keeps_what_kubectl_has_set() -> Result<(), String> {
    with_cluster(over_kubectl)
}

#[needs(helm, kubectl)]
#[test]
fn a_release_applied_client_side_is_upgraded() -> Result<(), String> {
    with_cluster(over_client_side)
}

fn with_cluster(test: fn(&Path) -> Result<(), String>) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let _server = prepare(dir.path()).expect("files can be written");
    test(dir.path())
}

/// Starts a server, and writes its kubeconfig and a chart into `dir`.
fn prepare(dir: &Path) -> std::io::Result<(Server, tokio::runtime::Runtime)> {
    let runtime = tokio::runtime::Runtime::new()?;
    let guard = runtime.enter();
    let server = Server::start();
    drop(guard);
    let config = serde_json::to_string(&server.kubeconfig(TOKEN)).expect("a kubeconfig is JSON");
    let config = config.replace("\"token\":null", &format!("\"token\":{TOKEN:?}"));
    std::fs::write(dir.join("config"), config)?;
    std::fs::create_dir_all(dir.join("chart/templates"))?;
    std::fs::write(
        dir.join("chart/Chart.yaml"),
        "apiVersion: v2\nname: web\nversion: 0.1.0\n",
    )?;
    std::fs::write(dir.join("chart/values.yaml"), "tag: one\n")?;
    std::fs::write(dir.join("chart/templates/all.yaml"), TEMPLATE)?;
    Ok((server, runtime))
}

fn run(dir: &Path, command: &str) -> Result<String, String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .current_dir(dir)
        .env("KUBECONFIG", dir.join("config"))
        .env("HELM_CACHE_HOME", dir.join("cache"))
        .env("HELM_DATA_HOME", dir.join("data"))
        .env("HELM_CONFIG_HOME", dir.join("helm"))
        .output()
        .map_err(|error| format!("{command}: {error}"))?;
    let text = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{command}: {text}"))
    }
}

fn container(dir: &Path) -> Result<String, String> {
    run(
        dir,
        "kubectl get sts web -o jsonpath={.spec.template.spec.containers[0]}",
    )
}

fn holds(text: &str, wanted: &str) -> Result<(), String> {
    text.contains(wanted)
        .then_some(())
        .ok_or_else(|| format!("{wanted} is not in {text}"))
}

fn over_kubectl(dir: &Path) -> Result<(), String> {
    run(dir, "helm install web chart")?;
    run(dir, "kubectl set env sts/web B=2")?;
    run(dir, "kubectl set resources sts/web --limits=memory=64Mi")?;
    run(dir, "helm upgrade web chart --set tag=two")?;
    let container = container(dir)?;
    for wanted in [
        "example/image:two",
        r#"{"name":"A","value":"two"}"#,
        r#"{"name":"B","value":"2"}"#,
        r#""memory":"64Mi""#,
    ] {
        holds(&container, wanted)?;
    }
    Ok(())
}

fn over_client_side(dir: &Path) -> Result<(), String> {
    // Only helm 4 has server-side apply. An older helm already covers the second half of this test.
    let four = run(dir, "helm version --short")?.starts_with("v4");
    let (client, server) = if four {
        (" --server-side=false", " --server-side=true")
    } else {
        ("", "")
    };
    run(dir, &format!("helm install web chart{client}"))?;
    run(dir, &format!("helm upgrade web chart --set tag=two{server}"))?;
    holds(&container(dir)?, "example/image:two")?;
    run(dir, &format!("helm upgrade web chart --set tag=three{server}"))?;
    holds(&container(dir)?, "example/image:three")
}
