//! Facts about a pod for controllers: its phase, its readiness, and its match with a selector.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::error::ControllerError;
use crate::seconds::bounded;

/// Returns the pod's phase; a pod without one has just been created.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Returns true if the pod has ended and will not run again.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Returns true if the pod's deletion has begun.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Returns a condition of the pod.
pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
}

/// Returns true if the pod's Ready condition is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Returns the time until a ready pod has been ready for `min_ready_seconds`. Returns zero when
/// that time has passed, `None` when the pod is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    let needed = bounded(min_ready_seconds);
    let since = ready.last_transition_time.as_ref().map_or(now, |time| time.0);
    let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Some(needed.saturating_sub(elapsed))
}

/// Returns the pod's address, once it has one.
pub(crate) fn ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// Returns the names of the claims that the pod mounts.
pub(crate) fn claim_names(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// Returns true if a label selector matches the pod. An empty selector matches every pod, as in
/// `policy/v1`.
pub(crate) fn matches(selector: &Selector, pod: &Pod) -> bool {
    selector.matches(pod.labels())
}

/// Parses a label selector.
pub(crate) fn selector(of: &str, selector: &LabelSelector) -> Result<Selector, ControllerError> {
    Selector::try_from(selector.clone())
        .map_err(|source| ControllerError::malformed(format!("the selector of {of}"), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_counts_from_the_ready_transition() {
        let pod: Pod = serde_yaml::from_str(
            "{status: {conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z'}]}}",
        )
        .expect("a Pod");
        let at = |text: &str| text.parse().expect("a time");
        assert_eq!(
            available_in(&pod, 10, at("2026-01-01T00:00:04Z")),
            Some(Duration::from_secs(6))
        );
        assert_eq!(
            available_in(&pod, 10, at("2026-01-01T00:01:00Z")),
            Some(Duration::ZERO)
        );
        assert_eq!(available_in(&Pod::default(), 0, at("2026-01-01T00:00:00Z")), None);
    }
}
