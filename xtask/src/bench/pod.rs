//! From a pod's creation to its running container, with the image present. The floor is the same program started bare.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use harness::images;
use harness::wait::{self, Expectation, Verdict, conditions};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::{Row, median, milliseconds};

/// How long one pod may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures one pod after another.
pub(super) async fn row(client: &Client, repeat: usize) -> anyhow::Result<Row> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let mut measured = Vec::new();
    for index in 0..repeat {
        measured.push(start_one(&pods, &format!("bench-{index}")).await?);
    }
    let binaries = tokio::task::spawn_blocking(images::host_binaries).await??;
    let mut floors = Vec::new();
    for _ in 0..repeat {
        let began = Instant::now();
        let mut server = Command::new(&binaries.server);
        server
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .context("valkey-server does not run")?;
        floors.push(began.elapsed());
    }
    Ok(Row {
        what: "pod created to container running",
        unit: "ms",
        measured: milliseconds(median(measured)),
        floor: milliseconds(median(floors)),
        floor_is: "valkey-server --version, bare",
        goal: "under 150 ms".to_owned(),
    })
}

async fn start_one(pods: &Api<Pod>, name: &str) -> anyhow::Result<Duration> {
    let image = format!("perconalab/valkey:{}", manifests::release::APP_VERSION);
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "server", "image": image, "command": ["valkey-server", "--save", ""]}]},
    }))?;
    let running = wait::object(
        pods,
        name,
        Expectation::new(name, "to run", PATIENCE),
        |pod: Option<&Pod>| match pod {
            Some(pod) if conditions::is_running(pod) => Verdict::Ready(Instant::now()),
            Some(pod) => conditions::doom(pod).map_or_else(
                || Verdict::NotYet(conditions::describe(Some(pod))),
                Verdict::Never,
            ),
            None => Verdict::NotYet("absent".to_owned()),
        },
    );
    let create = async {
        let began = Instant::now();
        pods.create(&PostParams::default(), &pod).await.map(|_| began)
    };
    let (running, began) = tokio::join!(running, create);
    let took = running?.duration_since(began?);
    pods.delete(&pod.name_any(), &DeleteParams::default()).await?;
    Ok(took)
}
