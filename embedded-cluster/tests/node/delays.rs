//! Tests of the delays and the order in which a node with a real cluster's delays reacts.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use embedded_cluster::supervisor::{EmbeddedCluster, Options};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::pods::{Outcome, check, create, exec, phase, pod, pods, ready, until, waiting};

/// Seconds to watch for changes: longer than every reaction except the kubelet's sync.
const WATCHED: &str = "5";

pub(crate) async fn mounted_objects_follow_at_the_next_sync(images: PathBuf) -> Outcome {
    let cluster = EmbeddedCluster::start(Options::new("late", &images)).await?;
    let client = cluster.client();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map = json!({"metadata": {"name": "m"}, "data": {"key": "first"}});
    maps.create(&PostParams::default(), &serde_json::from_value(map)?)
        .await?;
    let mut late = pod(
        "late",
        json!({"command": ["sleep", "1000"], "volumeMounts": [
            {"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/file", "subPath": "key"}]}),
    );
    late["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "m"}}]);
    create(&client, late).await?;
    until(&client, "late", "Ready", ready).await?;
    // Let the effects of the container's start pass.
    exec(&client, "late", &["sleep", "2"]).await?;
    let second = Patch::Merge(json!({"data": {"key": "second"}}));
    maps.patch("m", &PatchParams::default(), &second).await?;
    let script = format!("sleep {WATCHED}; cat /v/key");
    let (said, _) = exec(&client, "late", &["sh", "-c", &script]).await?;
    check(
        said == "first",
        format!("it followed before the next sync: {said}"),
    )?;
    let label = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    pods(&client)
        .patch("late", &PatchParams::default(), &label)
        .await?;
    let begun = Instant::now();
    let script = "i=0; until grep -q second /v/key; do i=$((i + 1)); test $i -lt 100 || exit 1; sleep 0.1; done; cat /file";
    let (said, status) = exec(&client, "late", &["sh", "-c", script]).await?;
    check(
        status.is_empty(),
        format!("a change of the pod brings it up to date: {status}"),
    )?;
    let took = begun.elapsed();
    check(
        took > Duration::from_millis(500),
        format!("followed after {took:?}"),
    )?;
    check(said == "first", format!("a sub path never follows: {said}"))
}

pub(crate) async fn post_start_comes_before_running_and_ready(client: Client) -> Outcome {
    let hook = json!({"exec": {"command": ["sh", "-c", "sleep 2; touch /tmp/hooked"]}});
    let container = json!({"command": ["sleep", "1000"], "lifecycle": {"postStart": hook},
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/hooked"]}, "periodSeconds": 1, "failureThreshold": 1}});
    create(&client, pod("hooked", container)).await?;
    let running = async {
        until(&client, "hooked", "Running", |pod| {
            waiting(pod).is_none() && phase(pod) == "Running"
        })
        .await?;
        let (said, _) = exec(&client, "hooked", &["ls", "/tmp"]).await?;
        check(said.contains("hooked"), "running before the hook was done")
    };
    running.await?;
    until(&client, "hooked", "Ready", ready).await?;
    let events = crate::pods::reasons(&client, "hooked").await?;
    let probed = events.iter().any(|(reason, _)| reason == "Unhealthy");
    check(!probed, format!("probed while the hook ran: {events:?}"))?;
    crate::pods::delete(&client, "hooked").await
}
