//! Why no cluster was ever formed, where every server runs and knows nobody but itself: the hook that should have formed it
//! did not run, or has hidden its failure.

use super::evidence::Evidence;
use crate::release::HookEvent;
use crate::release::bundle::INIT_JOB;

/// Every server of a cluster knows only itself.
pub(super) fn never_formed(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    if !seen.is_unformed() || evidence.error.contains(" hook ") {
        return None;
    }
    let Some((job, events)) = evidence.hooks.iter().find(|(name, _)| name.ends_with(INIT_JOB)) else {
        return Some(format!(
            "no server knows any other: the chart has no hook {INIT_JOB} that would form the cluster"
        ));
    };
    if events.contains(&HookEvent::PostInstall) {
        return Some(format!(
            "no server knows any other, although the hook {job} has succeeded: it hides its failure"
        ));
    }
    let events: Vec<&str> = events.iter().map(|event| event.name()).collect();
    Some(format!(
        "no server knows any other: the hook {job}, which forms the cluster, runs at {} and not at post-install",
        events.join(", ")
    ))
}
