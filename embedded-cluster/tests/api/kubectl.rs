//! kubectl against the API. Ignored, with the reason, where there is no kubectl.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::fake_node::FakeNode;
use crate::server::{Server, TOKEN, running_pod};
use needs::needs;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// The longest time that one kubectl command may take.
const DEADLINE: Duration = Duration::from_secs(60);

const OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: COLOUR}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: example/image:1
        env:
        - {name: A, value: COLOUR}
        - {name: B, value: same}
"#;

struct Kubectl {
    _dir: tempfile::TempDir,
    config: PathBuf,
}

impl Kubectl {
    /// Writes a kubeconfig for the server. A test that calls this has `#[needs(kubectl)]`.
    fn new(server: &Server) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("config");
        let text = serde_json::to_string(&server.kubeconfig(TOKEN)).expect("JSON");
        std::fs::write(
            &config,
            text.replace("\"token\":null", &format!("\"token\":{TOKEN:?}")),
        )
        .expect("written");
        Self { _dir: dir, config }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        let cache = self.config.with_file_name("cache");
        command
            .env("KUBECONFIG", &self.config)
            .arg("--cache-dir")
            .arg(cache)
            .args(args);
        command
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    async fn finish(&self, args: &[&str], input: &str) -> (bool, String) {
        let mut child = self.command(args).spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("written");
        drop(stdin);
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
            .await
            .unwrap_or_else(|_| panic!("kubectl {args:?} did not end within {DEADLINE:?}"))
            .expect("kubectl ran");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.success(), text.concat())
    }

    async fn run(&self, args: &[&str]) -> String {
        self.run_with(args, "").await
    }

    #[track_caller]
    fn expect(args: &[&str], (good, text): (bool, String)) -> String {
        assert!(good, "kubectl {args:?} failed: {text}");
        text
    }

    async fn run_with(&self, args: &[&str], input: &str) -> String {
        Self::expect(args, self.finish(args, input).await)
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("kubectl starts")
    }
}

#[needs(kubectl)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_applied_changed_scaled_and_deleted() {
    let server = Server::start();
    let kubectl = Kubectl::new(&server);
    let red = OBJECTS.replace("COLOUR", "red");
    let applied = kubectl.run_with(&["apply", "-f", "-"], &red).await;
    assert!(applied.contains("statefulset.apps/web created"), "{applied}");
    let again = kubectl.run_with(&["apply", "-f", "-"], &red).await;
    assert_eq!(again.matches("unchanged").count(), 3, "{again}");
    let changed = kubectl
        .run_with(&["apply", "-f", "-"], &OBJECTS.replace("COLOUR", "blue"))
        .await;
    assert!(changed.contains("statefulset.apps/web configured") && changed.contains("service/web unchanged"));
    let env = kubectl
        .run(&[
            "get",
            "sts",
            "web",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].env}",
        ])
        .await;
    assert_eq!(
        env,
        r#"[{"name":"A","value":"blue"},{"name":"B","value":"same"}]"#
    );

    assert!(
        kubectl
            .run(&["scale", "sts/web", "--replicas=4"])
            .await
            .contains("scaled")
    );
    let table = kubectl.run(&["get", "sts,svc,cm"]).await;
    assert!(
        table.contains("0/4") && table.contains("ClusterIP") && table.contains("settings"),
        "{table}"
    );
    let patch = r#"{"metadata":{"labels":{"x":"y"}}}"#;
    assert!(
        kubectl
            .run(&["patch", "cm", "settings", "--type=merge", "-p", patch])
            .await
            .contains("patched")
    );
    assert!(
        kubectl
            .run(&["rollout", "restart", "sts/web"])
            .await
            .contains("restarted")
    );
    assert!(
        kubectl
            .run(&["get", "all", "-A", "-o", "wide"])
            .await
            .contains("statefulset.apps/web")
    );
    assert!(
        kubectl
            .run(&["label", "sts/web", "a=b"])
            .await
            .contains("labeled")
    );
    assert!(
        kubectl
            .run(&["annotate", "sts/web", "a=b"])
            .await
            .contains("annotated")
    );
    let deleted = kubectl
        .run(&["delete", "sts/web", "svc/web", "cm/settings"])
        .await;
    assert_eq!(deleted.matches("deleted").count(), 3, "{deleted}");
}

#[needs(kubectl)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_as_kubernetes_tells_them() {
    let server = Server::start();
    let kubectl = Kubectl::new(&server);
    let (good, text) = kubectl
        .finish(&["apply", "-f", "-"], &OBJECTS.replace("colour:", "1 2:"))
        .await;
    assert!(
        !good && text.contains("a valid config key must consist of"),
        "{text}"
    );
    let (good, text) = kubectl
        .finish(
            &["apply", "-f", "-"],
            &OBJECTS.replace("serviceName", "servicename"),
        )
        .await;
    assert!(
        !good && text.contains("unknown field \"spec.servicename\""),
        "{text}"
    );
    let (good, text) = kubectl.finish(&["get", "daemonsets"], "").await;
    assert!(
        !good && text.contains("the server doesn't have a resource type \"daemonsets\""),
        "{text}"
    );
    let (good, text) = kubectl.finish(&["get", "pod", "gone"], "").await;
    assert!(
        !good && text.contains("Error from server (NotFound): pods \"gone\" not found"),
        "{text}"
    );
}

#[needs(kubectl)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_watched_described_and_entered() {
    let server = Server::start();
    let kubectl = Kubectl::new(&server);
    server.api.set_pod_runtime(FakeNode::shared(None));
    let mut watch = kubectl.start(&["get", "pods", "-w"]);
    running_pod(&server.client(), "a").await;
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let seen = tokio::time::timeout(DEADLINE, async {
        while let Some(line) = lines.next_line().await.expect("readable") {
            if line.starts_with("a ") && line.contains("Running") {
                return Some(line);
            }
        }
        None
    });
    let line = seen
        .await
        .expect("the pod shows up in time")
        .expect("the watch goes on");
    assert!(line.contains("1/1"), "{line}");
    watch.kill().await.expect("killed");

    assert_eq!(kubectl.run(&["logs", "a", "--tail=1"]).await, "main: three\n");
    assert_eq!(
        kubectl
            .run_with(&["exec", "-i", "a", "--", "cat"], "through")
            .await,
        "through"
    );
    let (good, text) = kubectl.finish(&["exec", "a", "--", "exit", "3"], "").await;
    assert!(
        !good && text.contains("command terminated with exit code 3"),
        "{text}"
    );
    let uid = kubectl
        .run(&["get", "pod", "a", "-o", "jsonpath={.metadata.uid}"])
        .await;
    let event = r#"{"apiVersion":"v1","kind":"Event","metadata":{"name":"e"},"reason":"Pulled","message":"it is here",
        "type":"Normal","involvedObject":{"kind":"Pod","namespace":"default","name":"a","uid":"UID"},"source":{"component":"kubelet"}}"#;
    kubectl
        .run_with(&["create", "-f", "-"], &event.replace("UID", &uid))
        .await;
    let described = kubectl.run(&["describe", "pod", "a"]).await;
    assert!(
        described.contains("it is here") && described.contains("10.244.0.9"),
        "{described}"
    );
    assert!(kubectl.run(&["get", "events"]).await.contains("it is here"));
    let (good, text) = kubectl.finish(&["port-forward", "a", "0:6379"], "").await;
    assert!(
        !good && text.contains("not supported by the embedded cluster"),
        "{text}"
    );
    assert!(
        kubectl
            .run(&["delete", "pod", "a", "--force", "--grace-period=0"])
            .await
            .contains("deleted")
    );
}

#[needs(kubectl)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_tells_what_it_serves() {
    let server = Server::start();
    let kubectl = Kubectl::new(&server);
    let resources = kubectl.run(&["api-resources"]).await;
    assert!(
        resources.contains("statefulsets") && resources.contains("sts"),
        "{resources}"
    );
    assert!(!resources.contains("daemonsets"), "{resources}");
    assert!(kubectl.run(&["version"]).await.contains("Server Version: v1.37"));
    assert!(
        kubectl
            .run(&["auth", "can-i", "create", "pods"])
            .await
            .contains("yes")
    );
    assert!(kubectl.run(&["auth", "whoami"]).await.contains("admin"));
    assert!(
        kubectl
            .run(&["create", "namespace", "n"])
            .await
            .contains("created")
    );
    let literal = "--from-literal=k=v";
    assert!(
        kubectl
            .run(&["create", "configmap", "c", literal, "-n", "n"])
            .await
            .contains("created")
    );
    assert!(
        kubectl
            .run(&["create", "secret", "generic", "s", literal, "-n", "n"])
            .await
            .contains("created")
    );
    let objects = OBJECTS.replace("COLOUR", "red");
    let applied = kubectl
        .run_with(&["apply", "--server-side", "-n", "n", "-f", "-"], &objects)
        .await;
    assert_eq!(applied.matches("serverside-applied").count(), 3, "{applied}");
    let diff = kubectl
        .run_with(&["diff", "--server-side", "-n", "n", "-f", "-"], &objects)
        .await;
    assert_eq!(diff, "");
    assert!(kubectl.run(&["get", "ns"]).await.contains("Active"));
    let explained = kubectl
        .run(&["explain", "statefulset.spec.podManagementPolicy"])
        .await;
    assert!(explained.contains("controls how pods are created"), "{explained}");
    let explained = kubectl
        .run(&["explain", "pod.spec.containers", "--recursive"])
        .await;
    assert!(explained.contains("secretKeyRef"), "{explained}");
    for (verb, change) in [("annotate", "note=x"), ("label", "tier=data")] {
        assert!(
            kubectl
                .run(&[verb, "configmap", "c", "-n", "n", change])
                .await
                .contains("ed")
        );
    }
    let patch = r#"{"data":{"k":null,"l":"w"}}"#;
    kubectl
        .run(&["patch", "configmap", "c", "-n", "n", "-p", patch])
        .await;
    let data = kubectl
        .run(&[
            "get",
            "configmap",
            "c",
            "-n",
            "n",
            "-o",
            "jsonpath={.data}{.metadata.labels}",
        ])
        .await;
    assert_eq!(data, r#"{"l":"w"}{"tier":"data"}"#);
}

#[needs(kubectl)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kubectl_creates_in_protobuf_is_taken() {
    let server = Server::start();
    let kubectl = Kubectl::new(&server);
    for (command, field, expected) in [
        (
            "role reader --verb=get,list --resource=pods,statefulsets.apps",
            "{.rules[1].resources[0]}",
            "statefulsets",
        ),
        (
            "clusterrole all --verb=get --non-resource-url=/x",
            "{.rules[0].nonResourceURLs[0]}",
            "/x",
        ),
        (
            "rolebinding readers --role=reader --serviceaccount=default:default --user=u",
            "{.subjects[*].name}",
            "u default",
        ),
        (
            "clusterrolebinding admins --clusterrole=cluster-admin --group=g",
            "{.subjects[0].name}",
            "g",
        ),
        (
            "job once --image=example/image:1 -- sh -c true",
            "{.spec.template.spec.containers[0].command[2]}",
            "true",
        ),
        (
            "pdb web --selector=app=web --min-available=50%",
            "{.spec.minAvailable}",
            "50%",
        ),
        (
            "pdb two --selector=app=web --max-unavailable=2",
            "{.spec.maxUnavailable}",
            "2",
        ),
        (
            "service clusterip web --tcp=80:8080",
            "{.spec.ports[0].targetPort}",
            "8080",
        ),
        (
            "service nodeport out --tcp=80:http --node-port=30080",
            "{.spec.ports[0].nodePort}",
            "30080",
        ),
        (
            "service loadbalancer more --tcp=81:http",
            "{.spec.ports[0].targetPort}",
            "http",
        ),
        (
            "priorityclass urgent --value=1000 --description=soon",
            "{.value}",
            "1000",
        ),
    ] {
        let mut args = vec!["create"];
        args.extend(command.split(' '));
        kubectl.run(&args).await;
        let (kind, name) = match args.as_slice() {
            ["create", "service", _, name, ..] => ("service", *name),
            ["create", kind, name, ..] => (*kind, *name),
            other => panic!("{other:?} names nothing"),
        };
        let value = kubectl
            .run(&["get", kind, name, "-o", &format!("jsonpath={field}")])
            .await;
        assert_eq!(value, expected, "{command}");
    }
    assert_eq!(
        kubectl
            .run(&["auth", "can-i", "list", "pods", "--as=u"])
            .await
            .trim(),
        "yes"
    );
    let (allowed, text) = kubectl
        .finish(&["auth", "can-i", "delete", "pods", "--as=u"], "")
        .await;
    assert!(!allowed && text.trim() == "no", "{text}");
}
