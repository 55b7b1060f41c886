//! Helpers for the tests: pods, waits and observations.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{AttachParams, DeleteParams, ListParams, PostParams};
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use libtest_mimic::Failed;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::host_image;

/// The deadline of every wait. It only bounds failing tests: most events take milliseconds, and
/// events that depend on a probe's period take seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) type Outcome = Result<(), Failed>;

pub(crate) fn pods(client: &Client) -> Api<Pod> {
    Api::default_namespaced(client.clone())
}

/// Builds a pod with one container `c`, which has the fields of `container`.
#[expect(clippy::needless_pass_by_value, reason = "every caller writes a literal")]
pub(crate) fn pod(name: &str, container: Value) -> Value {
    let mut full = json!({"name": "c", "image": host_image::NAME});
    for (key, value) in container.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": "embedded-node", "terminationGracePeriodSeconds": 2, "containers": [full]}})
}

pub(crate) async fn create(client: &Client, pod: Value) -> Outcome {
    pods(client)
        .create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    Ok(())
}

/// Watches the pod until it meets the condition.
pub(crate) async fn until(
    client: &Client,
    name: &str,
    what: &str,
    condition: impl Fn(&Pod) -> bool,
) -> Result<Pod, Failed> {
    let mut last = None;
    let wait = async {
        let mut stream = std::pin::pin!(watch_object(pods(client), name));
        while let Some(seen) = stream.try_next().await? {
            if let Some(pod) = seen {
                if condition(&pod) {
                    return Ok::<Pod, Failed>(pod);
                }
                last = Some(pod);
            }
        }
        Err("the watch ended".into())
    };
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(result) => result,
        Err(_) => {
            let events = reasons(client, name).await.unwrap_or_default();
            let status = last.and_then(|pod| pod.status);
            Err(
                format!("pod {name} did not reach {what:?}; last seen: {status:#?}; events: {events:#?}")
                    .into(),
            )
        }
    }
}

pub(crate) async fn gone(client: &Client, name: &str) -> Outcome {
    let wait = async {
        let mut stream = std::pin::pin!(watch_object(pods(client), name));
        while let Some(seen) = stream.try_next().await? {
            if seen.is_none() {
                return Ok::<(), Failed>(());
            }
        }
        Err("the watch ended".into())
    };
    tokio::time::timeout(DEADLINE, wait)
        .await
        .map_err(|_| format!("pod {name} is still there"))?
}

pub(crate) async fn delete(client: &Client, name: &str) -> Outcome {
    pods(client).delete(name, &DeleteParams::default()).await?;
    gone(client, name).await
}

pub(crate) async fn phases_until_gone(api: Api<Pod>, name: String) -> Vec<String> {
    let mut phases = Vec::new();
    let mut stream = std::pin::pin!(watch_object(api, &name));
    while let Ok(Some(Some(pod))) = stream.try_next().await {
        if phases.last() != Some(&phase(&pod)) {
            phases.push(phase(&pod));
        }
    }
    phases
}

pub(crate) async fn exec(client: &Client, name: &str, command: &[&str]) -> Result<(String, String), Failed> {
    let params = AttachParams::default().stdout(true).stderr(false);
    let mut process = pods(client).exec(name, command.iter().copied(), &params).await?;
    let status = process.take_status().ok_or("no status")?;
    let mut output = String::new();
    if let Some(mut stdout) = process.stdout() {
        tokio::time::timeout(DEADLINE, stdout.read_to_string(&mut output)).await??;
    }
    let status = tokio::time::timeout(DEADLINE, status)
        .await?
        .and_then(|status| status.message)
        .unwrap_or_default();
    Ok((output, status))
}

pub(crate) async fn reasons(client: &Client, name: &str) -> Result<Vec<(String, String)>, Failed> {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let all = events.list(&ListParams::default()).await?;
    let of_pod = all
        .items
        .into_iter()
        .filter(|event| event.involved_object.name.as_deref() == Some(name));
    Ok(of_pod
        .map(|event| {
            (
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
            )
        })
        .collect())
}

/// Waits for an event with this text and a count of at least `count`.
pub(crate) async fn event(client: &Client, name: &str, reason: &str, message: &str, count: i32) -> Outcome {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let wait = async {
        let stream = kube::runtime::watcher(events, kube::runtime::watcher::Config::default());
        let mut stream = std::pin::pin!(kube::runtime::WatchStreamExt::applied_objects(stream));
        while let Some(event) = stream.try_next().await? {
            if event.involved_object.name.as_deref() == Some(name)
                && event.reason.as_deref() == Some(reason)
                && event.message.as_deref() == Some(message)
                && event.count.unwrap_or(0) >= count
            {
                return Ok::<(), Failed>(());
            }
        }
        Err("the watch ended".into())
    };
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "no event {reason} {message:?}; there are {:#?}",
            reasons(client, name).await?
        )
        .into()),
    }
}

pub(crate) fn phase(pod: &Pod) -> String {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.clone())
        .unwrap_or_default()
}

pub(crate) fn ip(pod: &Pod) -> Option<String> {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone())
}

pub(crate) fn status(pod: &Pod) -> Option<ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first().cloned()
}

pub(crate) fn status_restarts(pod: &Pod) -> i32 {
    status(pod).map_or(0, |status| status.restart_count)
}

pub(crate) fn waiting(pod: &Pod) -> Option<String> {
    status(pod)?.state?.waiting?.reason
}

pub(crate) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn summary(pod: &Pod) -> String {
    let ip = if ip(pod).is_some() { "+ip" } else { "" };
    let ready = if ready(pod) { "+ready" } else { "" };
    let phase = phase(pod);
    debug_assert!(!pod.name_any().is_empty());
    format!("{phase}{ip}{ready}")
}

pub(crate) fn check(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(otherwise.into().into())
    }
}
