//! Fetching the evidence of a failed trial. Evidence that is not available is noted as a gap.
//! Nothing here returns an error or waits for long.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{Api, ListParams, LogParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::evidence::{Evidence, SecretEntry};
use super::failure::Failure;
use crate::release::Object;
use crate::trial::observer::is_server;
use crate::trial::recorder::Noted;
use crate::trial::{Context, format_error};
use crate::wait::conditions;

/// Deadline of one request to the API or to a server.
const DEADLINE: Duration = Duration::from_secs(5);

/// Number of lines kept from the end of a container's log. A crash at start logs far fewer, a busy
/// server far more.
const LOG_LINES: i64 = 400;

/// Number of bytes kept from those lines, as a line may have any length.
const LOG_BYTES: i64 = 1 << 20;

/// Fetches all available evidence of a trial that ended with `error`. `noted` holds the
/// promises that were seen broken earlier.
pub(crate) async fn collect(context: &Context, error: &anyhow::Error, noted: Noted) -> Evidence {
    let mut evidence = Evidence {
        error: context.credentials.redact(&format_error(error)),
        ..Evidence::default()
    };
    let (failure, mut violations) = Failure::of(error);
    evidence.decisive = violations.len();
    violations.extend(noted.violations);
    evidence.earlier = clean(context, &noted.observations);
    evidence.failure = clean(context, &failure);
    evidence.violations = clean(context, &violations);
    let gaps = &mut evidence.gaps;
    evidence.pods = list(context, "pods", gaps).await;
    evidence.jobs = list(context, "jobs", gaps).await;
    evidence.claims = list(context, "claims", gaps).await;
    evidence.services = list(context, "services", gaps).await;
    evidence.secrets = secrets(context, gaps).await;
    evidence.slices = list(context, "endpoint slices", gaps).await;
    evidence.events = list(context, "events", gaps).await;
    evidence
        .events
        .sort_by_key(|event: &Event| event.last_timestamp.clone().map(|time| time.0));
    if let Some(release) = context.deployment.release() {
        let hooks = release.deployed().hooks.iter();
        evidence.hooks = hooks
            .map(|hook| (hook.object.name().to_owned(), hook.events.clone()))
            .collect();
        let jobs = release.deployed().hooks.iter();
        evidence.hook_pods = jobs
            .filter_map(|hook| Some((hook.object.name().to_owned(), pod_labels(context, &hook.object)?)))
            .collect();
        evidence.manifests = context.credentials.redact(&release.deployed().to_yaml());
    }
    evidence.removed_pods = context.deployment.removed_pods().clone();
    evidence.keys = context.data.accounted().cloned();
    evidence.hook_outputs = context.deployment.hook_outputs().to_vec();
    for line in evidence
        .hook_outputs
        .iter_mut()
        .flat_map(|output| &mut output.lines)
    {
        *line = context.credentials.redact(line);
    }
    logs(context, &mut evidence).await;
    servers(context, &mut evidence).await;
    evidence.timeline = context.timeline().entries();
    for entry in &mut evidence.timeline {
        entry.text = context.credentials.redact(&entry.text);
    }
    evidence
}

/// Returns the entries of the Secrets without their values. The Secrets are fetched unredacted,
/// because redacted data is not valid base64.
async fn secrets(context: &Context, gaps: &mut Vec<String>) -> Vec<SecretEntry> {
    let found: Vec<Secret> = fetch(context, "secrets", gaps).await;
    let entry = |secret: &Secret, key: &String, value: &[u8]| SecretEntry {
        secret: secret.name_any(),
        key: key.clone(),
        ends_with_newline: value.last() == Some(&b'\n'),
    };
    found
        .iter()
        .filter(|secret| secret.type_.as_deref() == Some("Opaque"))
        .flat_map(|secret| {
            secret
                .data
                .iter()
                .flatten()
                .map(move |(key, value)| entry(secret, key, &value.0))
        })
        .collect()
}

/// Returns the labels of the pods that a Job makes.
fn pod_labels(context: &Context, job: &Object) -> Option<BTreeMap<String, String>> {
    let labels = job.content.data.pointer("/spec/template/metadata/labels")?;
    serde_json::from_value(clean(context, labels)).ok()
}

/// Lists the objects of the trial's namespace, without passwords.
async fn list<K>(context: &Context, what: &str, gaps: &mut Vec<String>) -> Vec<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + Debug,
{
    let found: Vec<K> = fetch(context, what, gaps).await;
    found.iter().map(|item| clean(context, item)).collect()
}

/// Lists the objects of the trial's namespace unredacted.
async fn fetch<K>(context: &Context, what: &str, gaps: &mut Vec<String>) -> Vec<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(context.client(), context.namespace());
    match tokio::time::timeout(DEADLINE, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => list.items,
        Ok(Err(error)) => {
            gaps.push(format!("{what}: {error}"));
            Vec::new()
        }
        Err(_) => {
            gaps.push(format!("{what}: no answer within {} s", DEADLINE.as_secs()));
            Vec::new()
        }
    }
}

/// Removes passwords from an object: its environments and command lines may hold some.
fn clean<T: Serialize + DeserializeOwned>(context: &Context, found: &T) -> T {
    let mut tree = serde_json::to_value(found).expect("what was read from the API is plain JSON");
    context.credentials.redactor().redact_json(&mut tree);
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

/// Fetches the log of a container. A log that does not exist (yet) is no gap: the pod's status says
/// that its container has not run.
async fn log(context: &Context, pod: &Pod, container: &str, previous: bool) -> Option<String> {
    let container = Some(container.to_owned());
    let params = LogParams {
        container,
        previous,
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        ..LogParams::default()
    };
    let pods = context.pods();
    let name = pod.name_any();
    let text = tokio::time::timeout(DEADLINE, pods.logs(&name, &params))
        .await
        .ok()?
        .ok()?;
    Some(context.credentials.redact(&text))
}

/// Collects the servers' own views, if anything was installed.
async fn servers(context: &Context, evidence: &mut Evidence) {
    match tokio::time::timeout(2 * DEADLINE, context.observe()).await {
        Ok(Ok(seen)) => evidence.observation = Some(clean(context, &seen)),
        Ok(Err(error)) => evidence.gaps.push(format!(
            "the servers' views: {}",
            context.credentials.redact(&error.to_string())
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
        if let Ok(Ok(text)) = tokio::time::timeout(DEADLINE, read).await {
            evidence
                .nodes_conf
                .insert(name, context.credentials.redact(&text));
        }
    }
}
