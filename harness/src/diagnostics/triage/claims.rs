//! Causes in volume claims: a pod that waits for storage that is not provided.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::super::cause::Cause;
use super::super::evidence::Evidence;

/// Recognises an unbound claim. This is no terminal state, as a claim may be bound at any moment.
/// After the trial has failed, the claim is what the trial waited for.
pub(super) fn volume_claim_is_unbound(evidence: &Evidence) -> Option<Cause> {
    let (pod, message) = evidence.pods.iter().find_map(|pod| {
        let said = pending_claim(evidence, pod).or_else(|| claims_refused(pod))?;
        Some((pod.name_any(), said))
    })?;
    let hook = evidence.failure.hook().map(str::to_owned);
    Some(Cause::VolumeClaimIsUnbound { pod, hook, message })
}

/// Returns the controller's reason that a claim of an unscheduled pod has no volume.
fn pending_claim(evidence: &Evidence, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref().filter(|spec| spec.node_name.is_none())?;
    let volumes = spec.volumes.iter().flatten();
    let names = volumes.filter_map(|volume| Some(&volume.persistent_volume_claim.as_ref()?.claim_name));
    let is_pending = |name: &&String| {
        evidence.claims.iter().any(|claim| {
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            claim.name_any() == **name && phase == Some("Pending")
        })
    };
    let pending: Vec<&String> = names.filter(is_pending).collect();
    let warning = evidence.events.iter().rev().find(|event| {
        let object = &event.involved_object;
        object.kind.as_deref() == Some("PersistentVolumeClaim")
            && event.type_.as_deref() == Some("Warning")
            && object.name.as_ref().is_some_and(|name| pending.contains(&name))
    })?;
    warning.message.clone()
}

/// Returns the scheduler's message about the claims of a pod that it cannot place.
fn claims_refused(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let refused = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let message = refused.message.as_deref()?;
    let about_claims = message.to_lowercase().contains("persistentvolumeclaim");
    about_claims.then(|| message.to_owned())
}
