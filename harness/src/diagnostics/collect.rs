//! Fetching the evidence. Whatever cannot be had is noted as a gap; nothing here fails, and nothing waits for long: the trial
//! has failed already.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, LogParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::evidence::Evidence;
use crate::release::Object;
use crate::trial::observer::is_server;
use crate::trial::{Context, run};
use crate::wait::conditions;

/// How long one question to the API or to a server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many of a container's last lines are kept: a crash at start is far shorter, a busy server's log far longer.
const LOG_LINES: i64 = 400;

/// Fetches everything that can be fetched of a trial that ended with `error`.
pub async fn collect(context: &Context, error: &anyhow::Error) -> Evidence {
    let mut evidence = Evidence {
        error: context.redact(&run::format_error(error)),
        ..Evidence::default()
    };
    let gaps = &mut evidence.gaps;
    evidence.pods = list(context, "pods", gaps).await;
    evidence.jobs = list(context, "jobs", gaps).await;
    evidence.claims = list(context, "claims", gaps).await;
    evidence.services = list(context, "services", gaps).await;
    evidence.slices = list(context, "endpoint slices", gaps).await;
    evidence.events = list(context, "events", gaps).await;
    evidence
        .events
        .sort_by_key(|event: &Event| event.last_timestamp.clone().map(|time| time.0));
    if let Some(release) = context.release() {
        let hooks = release.deployed().hooks.iter();
        evidence.hooks = hooks
            .map(|hook| (hook.object.name().to_owned(), hook.events.clone()))
            .collect();
        let jobs = release.deployed().hooks.iter();
        evidence.hook_pods = jobs
            .filter_map(|hook| Some((hook.object.name().to_owned(), pod_labels(context, &hook.object)?)))
            .collect();
        evidence.manifests = context.redact(&release.deployed().to_yaml());
    }
    evidence.removed_pods = context.removed_pods().clone();
    evidence.keys = context.accounted().cloned();
    evidence.hook_outputs = context.hook_outputs().to_vec();
    for line in evidence
        .hook_outputs
        .iter_mut()
        .flat_map(|output| &mut output.lines)
    {
        *line = context.redact(line);
    }
    logs(context, &mut evidence).await;
    servers(context, &mut evidence).await;
    evidence.timeline = context.timeline().entries();
    for entry in &mut evidence.timeline {
        entry.text = context.redact(&entry.text);
    }
    evidence
}

/// The labels of the pods that a Job makes.
fn pod_labels(context: &Context, job: &Object) -> Option<BTreeMap<String, String>> {
    let labels = job.content.data.pointer("/spec/template/metadata/labels")?;
    serde_json::from_value(clean(context, labels)).ok()
}

async fn list<K>(context: &Context, what: &str, gaps: &mut Vec<String>) -> Vec<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + Debug,
{
    let api: Api<K> = Api::namespaced(context.client(), context.namespace());
    match tokio::time::timeout(PATIENCE, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => list.items.iter().map(|item| clean(context, item)).collect(),
        Ok(Err(error)) => {
            gaps.push(format!("{what}: {error}"));
            Vec::new()
        }
        Err(_) => {
            gaps.push(format!("{what}: no answer within {} s", PATIENCE.as_secs()));
            Vec::new()
        }
    }
}

/// The same without passwords: an object's specification may have them in environments and on command lines.
fn clean<T: Serialize + DeserializeOwned>(context: &Context, found: &T) -> T {
    let mut tree = serde_json::to_value(found).expect("what was read from the API is plain JSON");
    context.redactor().redact_json(&mut tree);
    serde_json::from_value(tree).expect("without passwords it is of the same kind")
}

async fn logs(context: &Context, evidence: &mut Evidence) {
    for pod in evidence.pods.clone() {
        let name = pod.name_any();
        for status in conditions::container_statuses(&pod) {
            let key = format!("{name}/{}", status.name);
            if let Some(text) = log(context, &pod, &status.name, false).await {
                evidence.logs.insert(key.clone(), text);
            }
            if status.restart_count > 0
                && let Some(text) = log(context, &pod, &status.name, true).await
            {
                evidence.logs.insert(format!("{key} (previous)"), text);
            }
        }
    }
}

/// A log that does not exist (yet) is not worth a gap: the pod's status says that its container has not run.
async fn log(context: &Context, pod: &Pod, container: &str, previous: bool) -> Option<String> {
    let container = Some(container.to_owned());
    let params = LogParams {
        container,
        previous,
        tail_lines: Some(LOG_LINES),
        ..LogParams::default()
    };
    let pods = context.pods();
    let name = pod.name_any();
    let text = tokio::time::timeout(PATIENCE, pods.logs(&name, &params))
        .await
        .ok()?
        .ok()?;
    Some(context.redact(&text))
}

/// What the servers themselves say, if anything was installed.
async fn servers(context: &Context, evidence: &mut Evidence) {
    match tokio::time::timeout(2 * PATIENCE, context.observe()).await {
        Ok(Ok(seen)) => evidence.observation = Some(clean(context, &seen)),
        Ok(Err(error)) => evidence.gaps.push(format!(
            "the servers' views: {}",
            context.redact(&error.to_string())
        )),
        Err(_) => evidence
            .gaps
            .push("the servers' views: no answer in time".to_owned()),
    }
    for pod in evidence
        .pods
        .iter()
        .filter(|pod| is_server(pod) && conditions::is_running(pod))
    {
        let name = pod.name_any();
        let read = context.read_file(&name, "/data/nodes.conf");
        if let Ok(Ok(text)) = tokio::time::timeout(PATIENCE, read).await {
            evidence.nodes_conf.insert(name, context.redact(&text));
        }
    }
}
