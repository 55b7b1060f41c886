//! The most relevant facts of a failure that no rule recognises: the places to look at first.

use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;

use super::evidence::Evidence;
use crate::wait::conditions;

/// Number of facts that are reported.
const MAX_FACTS: usize = 3;

/// Words that mark a log line as trouble.
const TROUBLE: [&str; 8] = [
    "fatal", "error", "denied", "refused", "failed", "cannot", "can't", "unable",
];

/// Number of characters of a fact that are reported; the evidence has the full text.
const LENGTH: usize = 240;

/// Finds facts of one sort.
type Source = fn(&Evidence) -> Vec<String>;

/// Sources of facts: first the states of objects, then messages about them, then the last events.
const SOURCES: [Source; 5] = [
    pods_that_are_not_ready,
    nodes_that_are_not_well,
    warnings,
    trouble_in_logs,
    last_change,
];

/// Returns the three most relevant facts: one of each sort first, then more of the first sorts.
pub fn relevant_facts(evidence: &Evidence) -> Vec<String> {
    let found: Vec<Vec<String>> = SOURCES.iter().map(|source| source(evidence)).collect();
    let rounds = found.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..rounds).flat_map(|round| found.iter().filter_map(move |facts| facts.get(round)));
    in_turn.take(MAX_FACTS).map(|fact| shortened(fact)).collect()
}

fn pods_that_are_not_ready(evidence: &Evidence) -> Vec<String> {
    let finished = |pod: &&k8s_openapi::api::core::v1::Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase != Some("Succeeded") && !conditions::is_ready(pod)
    };
    let told = |pod| {
        format!(
            "pod {} is {}",
            ResourceExt::name_any(pod),
            conditions::describe(Some(pod))
        )
    };
    evidence.pods.iter().filter(finished).map(told).collect()
}

fn nodes_that_are_not_well(evidence: &Evidence) -> Vec<String> {
    let Some(seen) = &evidence.observation else {
        return Vec::new();
    };
    let told = |(pod, view): (&String, &Result<_, _>)| match view {
        Err(error) => Some(format!("the server of pod {pod} gives no view: {error}")),
        Ok(view) => {
            let view: &crate::valkey::NodeView = view;
            let info = view.cluster_info.as_ref()?;
            (info.cluster_state != "ok").then(|| {
                format!(
                    "pod {pod} says cluster_state {} with {} of 16384 slots assigned and {} nodes known",
                    info.cluster_state, info.cluster_slots_assigned, info.cluster_known_nodes
                )
            })
        }
    };
    seen.views.iter().filter_map(told).collect()
}

/// Returns warning events, the newest first.
fn warnings(evidence: &Evidence) -> Vec<String> {
    let told = |event: &Event| {
        let object = &event.involved_object;
        format!(
            "{} {}: {} (×{}): {}",
            object.kind.as_deref().unwrap_or("object").to_lowercase(),
            object.name.as_deref().unwrap_or("?"),
            event.reason.as_deref().unwrap_or("?"),
            event.count.unwrap_or(1),
            event.message.as_deref().unwrap_or_default().trim()
        )
    };
    let warnings = evidence.events.iter().rev();
    warnings
        .filter(|event| event.type_.as_deref() == Some("Warning"))
        .map(told)
        .collect()
}

/// Returns the last line of each log that means trouble.
fn trouble_in_logs(evidence: &Evidence) -> Vec<String> {
    let troubled = |line: &&str| {
        let line = line.to_lowercase();
        TROUBLE.iter().any(|word| line.contains(word))
    };
    let told = |(name, log): (&String, &String)| {
        let line = log.lines().rev().find(troubled)?;
        Some(format!("{name} logged: {}", line.trim()))
    };
    evidence.logs.iter().filter_map(told).collect()
}

fn last_change(evidence: &Evidence) -> Vec<String> {
    let last = evidence.timeline.iter().rev().find(|entry| entry.state.is_some());
    let told = |entry: &crate::timeline::Entry| {
        let seconds = entry.at_ms / 1000;
        format!(
            "the last thing that changed, {seconds} s into the trial: {}: {}",
            entry.subject, entry.text
        )
    };
    last.map(told).into_iter().collect()
}

fn shortened(fact: &str) -> String {
    if fact.chars().count() <= LENGTH {
        return fact.to_owned();
    }
    let start: String = fact.chars().take(LENGTH).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_different_sorts_come_before_more_of_the_same() {
        let pod =
            |name: &str| serde_yaml::from_str(&format!("{{metadata: {{name: {name}}}}}")).expect("a pod");
        let event = "{metadata: {}, type: Warning, reason: Unhealthy, count: 7, message: 'probe failed',
                      involvedObject: {kind: Pod, name: vk-1}}";
        let mut evidence = Evidence {
            pods: vec![pod("vk-0"), pod("vk-1")],
            events: vec![serde_yaml::from_str(event).expect("an event")],
            ..Evidence::default()
        };
        evidence
            .logs
            .insert("vk-1/valkey".into(), "starting\nPermission denied\nbye\n".into());
        assert_eq!(
            relevant_facts(&evidence),
            [
                "pod vk-0 is Pending 0/0",
                "pod vk-1: Unhealthy (×7): probe failed",
                "vk-1/valkey logged: Permission denied",
            ]
        );
        assert!(relevant_facts(&Evidence::default()).is_empty());
    }
}
