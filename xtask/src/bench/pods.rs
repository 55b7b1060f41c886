//! How long a pod takes from its creation to Running, when its image is there.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use harness::wait::{self, Expectation, Verdict, conditions};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use super::stats::percentile_ms;
use super::table::{Figure, Target, Unit};
use super::{Bench, PATIENCE, isolated, timed};

/// How many pods, one after the other. Enough for a 95th percentile that is not simply the worst.
const PODS: usize = 20;

/// A few times what the kernel needs for the namespaces and mounts.
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
        target: Target::AtMost(TARGET_MS),
    };
    Ok(vec![
        figure("pod running, median", 50.0),
        figure("pod running, p95", 95.0),
    ])
}

/// Creates a pod, measures until a client that watches sees it Running, and removes it again.
async fn run_one(pods: &Api<Pod>, name: &str, image: &str) -> Result<Duration> {
    let watch = WatchParams::default().fields(&format!("metadata.name={name}"));
    // The watch is there before the pod is, so that its own set-up is not measured.
    let events = pods.watch(&watch, "0").await.context("pods cannot be watched")?;
    let begun = Instant::now();
    pods.create(&PostParams::default(), &pod(name, image))
        .await
        .context("the pod was refused")?;
    let what = Expectation::new(format!("pod {name}"), "to run", PATIENCE);
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
            conditions::doom(&pod).map_or_else(
                || Verdict::NotYet(conditions::describe(Some(&pod))),
                Verdict::Never,
            )
        }
        Ok(WatchEvent::Deleted(_)) => Verdict::Never("it was deleted".to_owned()),
        Ok(WatchEvent::Bookmark(_)) => Verdict::NotYet("nothing new".to_owned()),
        Ok(WatchEvent::Error(status)) => Verdict::Never(status.message),
        Err(error) => Verdict::Never(format!("the watch broke: {error}")),
    }
}

/// Pods come one after the other: the next one must not share the machine with the end of the last.
async fn remove(pods: &Api<Pod>, name: &str) -> Result<()> {
    pods.delete(name, &DeleteParams::default().grace_period(0))
        .await
        .context("the pod cannot be deleted")?;
    let what = Expectation::new(format!("pod {name}"), "to be gone", PATIENCE);
    let gone = wait::object(pods, name, what, |pod: Option<&Pod>| match pod {
        None => Verdict::Ready(()),
        Some(_) => Verdict::NotYet("it is still there".to_owned()),
    });
    Ok(gone.await?)
}

/// A server that listens nowhere and keeps nothing: what is measured is the start of a pod, not of Valkey.
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
