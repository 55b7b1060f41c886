//! Writes one file for each kind of evidence, named so that a person opens the right one first.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use serde::Serialize;

use super::evidence::Evidence;
use super::gist::{GIST_FILE, gist};
use super::triage::recognised;
use crate::wait::conditions;

/// Writes `evidence` into `folder`, which is created if necessary.
pub fn write(evidence: &Evidence, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let file = |name: &str, text: &str| fs::write(folder.join(name), text);
    file("summary.txt", &summary(evidence))?;
    file(
        GIST_FILE,
        &serde_json::to_string(&gist(evidence)).map_err(io::Error::other)?,
    )?;
    file("timeline.txt", &lines(&evidence.timeline))?;
    file(
        "events.txt",
        &evidence
            .events
            .iter()
            .map(|event| event_line(event) + "\n")
            .collect::<String>(),
    )?;
    file("manifests.yaml", &evidence.manifests)?;
    file("pods.yaml", &yaml(&evidence.pods))?;
    file("jobs.yaml", &yaml(&evidence.jobs))?;
    file("claims.yaml", &yaml(&evidence.claims))?;
    file("services.yaml", &yaml(&evidence.services))?;
    file("endpoint-slices.yaml", &yaml(&evidence.slices))?;
    if let Some(seen) = &evidence.observation {
        file("valkey.json", &json(seen))?;
    }
    for (name, text) in &evidence.logs {
        file(&format!("{}.log", file_name(name)), text)?;
    }
    for (pod, text) in &evidence.nodes_conf {
        file(&format!("{}.nodes.conf", file_name(pod)), text)?;
    }
    Ok(())
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string())
}

fn summary(evidence: &Evidence) -> String {
    let mut text = String::new();
    if let Some(cause) = recognised(evidence).map(|found| found.cause.to_string()) {
        let _ = writeln!(text, "most likely: {cause}\n");
    }
    let _ = writeln!(text, "{}\n\npods:", evidence.error);
    for pod in &evidence.pods {
        let _ = writeln!(
            text,
            "  {:<40} {}",
            pod.name_any(),
            conditions::describe(Some(pod))
        );
    }
    if !evidence.gaps.is_empty() {
        let _ = writeln!(text, "\nnot found:\n  {}", evidence.gaps.join("\n  "));
    }
    text
}

fn lines(entries: &[crate::timeline::Entry]) -> String {
    entries.iter().map(|entry| format!("{entry}\n")).collect()
}

fn event_line(event: &Event) -> String {
    let object = &event.involved_object;
    format!(
        "{}  {}/{}  {} (×{}): {}",
        event
            .last_timestamp
            .as_ref()
            .map_or_else(|| "?".to_owned(), |time| time.0.to_string()),
        object.kind.as_deref().unwrap_or("?"),
        object.name.as_deref().unwrap_or("?"),
        event.reason.as_deref().unwrap_or("?"),
        event.count.unwrap_or(1),
        event.message.as_deref().unwrap_or_default().trim()
    )
}

fn yaml(objects: &[impl Serialize]) -> String {
    let document = |object| serde_yaml::to_string(object).unwrap_or_else(|error| format!("# {error}\n"));
    objects
        .iter()
        .map(|object| format!("---\n{}", document(object)))
        .collect()
}

/// Returns `pod/container (previous)` as a file name.
fn file_name(name: &str) -> String {
    name.replace('/', ".").replace(" (previous)", ".previous")
}
