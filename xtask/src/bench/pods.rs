//! Time of a pod from its creation to Running, with its image in the store.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use harness::wait::{self, Expectation, Verdict, conditions};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use super::stats::percentile_ms;
use super::table::{Figure, Goal, Unit};
use super::{Bench, DEADLINE, isolated, timed};

/// Number of pods, one after the other. With so many, the 95th percentile is not the worst value.
const PODS: usize = 20;

/// A few times the kernel's own time for the namespaces and mounts.
const TARGET_MS: f64 = 150.0;

const FLOOR: &str = "valkey-server, run with --version by unshare(1) in new namespaces";

/// Takes the measurement.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let image = bench
        .images
        .first()
        .context("the store has no image")?
        .reference
        .clone();
    let cluster = bench.cluster().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let (mut starts, mut floors) = (Vec::new(), Vec::new());
    for index in 0..PODS {
        starts.push(run_one(&pods, &format!("bench-{index}"), &image).await?);
        floors.push(timed(isolated(&bench.binaries.server, "--version")).await?);
    }
    cluster.stop().await;
    let figure = |name, percent| Figure {
        name,
        unit: Unit::Milliseconds,
        measured: percentile_ms(&starts, percent),
        floor: percentile_ms(&floors, percent),
        floor_is: FLOOR,
        target: Goal::AtMost(TARGET_MS),
    };
    Ok(vec![
        figure("pod running, median", 50.0),
        figure("pod running, p95", 95.0),
    ])
}

/// Creates a pod, measures until a watching client sees it Running, and removes the pod.
async fn run_one(pods: &Api<Pod>, name: &str, image: &str) -> Result<Duration> {
    let watch = WatchParams::default().fields(&format!("metadata.name={name}"));
    // The watch starts before the pod, so that its set-up is not measured.
    let events = pods.watch(&watch, "0").await.context("pods cannot be watched")?;
    let begun = Instant::now();
    pods.create(&PostParams::default(), &pod(name, image))
        .await
        .context("the pod was refused")?;
    let what = Expectation::new(format!("pod {name}"), "to run", DEADLINE);
    let verdicts = events.map(|event| Ok(judge(event)));
    let took = wait::until(what, verdicts).await.map(|()| begun.elapsed())?;
    remove(pods, name).await?;
    Ok(took)
}

fn judge(event: kube::Result<WatchEvent<Pod>>) -> Verdict<()> {
    match event {
        Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
            if conditions::is_running(&pod) {
                return Verdict::Ready(());
            }
            conditions::terminal_state(&pod).map_or_else(
                || Verdict::NotYet(conditions::describe(Some(&pod))),
                |state| Verdict::Never(state.to_string()),
            )
        }
        Ok(WatchEvent::Deleted(_)) => Verdict::Never("it was deleted".to_owned()),
        Ok(WatchEvent::Bookmark(_)) => Verdict::NotYet("nothing new".to_owned()),
        Ok(WatchEvent::Error(status)) => Verdict::Never(status.message),
        Err(error) => Verdict::Never(format!("the watch broke: {error}")),
    }
}

/// Waits for the removal, so that the next pod does not share the machine with the last one.
async fn remove(pods: &Api<Pod>, name: &str) -> Result<()> {
    pods.delete(name, &DeleteParams::default().grace_period(0))
        .await
        .context("the pod cannot be deleted")?;
    let what = Expectation::new(format!("pod {name}"), "to be gone", DEADLINE);
    let gone = wait::object(pods, name, what, |pod: Option<&Pod>| match pod {
        None => Verdict::Ready(()),
        Some(_) => Verdict::NotYet("it is still there".to_owned()),
    });
    Ok(gone.await?)
}

/// Returns a pod with a server that neither listens nor persists. Only the start of the pod
/// matters.
fn pod(name: &str, image: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "containers": [{
                "name": "valkey",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["valkey-server", "--port", "0", "--save", ""],
            }],
        },
    }))
    .expect("a literal pod has the shape of one")
}
