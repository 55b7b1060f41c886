//! Causes that volume claims are: a pod that waits for storage which does not come.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::super::evidence::Evidence;
use super::hook_of;

/// Not a doom: a claim may be bound any moment. Once the trial has failed, it is what was waited for.
pub(super) fn volume_claim_is_unbound(evidence: &Evidence) -> Option<String> {
    let (pod, why) = evidence.pods.iter().find_map(|pod| {
        let said = pending_claim(evidence, pod).or_else(|| claims_refused(pod))?;
        Some((pod, said))
    })?;
    let name = pod.name_any();
    let waits = hook_of(evidence).map(|hook| format!("{} waits for {}", job_called(hook), pod_called(&name)));
    let waits = waits.unwrap_or_else(|| format!("pod {name} does not start"));
    Some(format!("{waits}: its volume claim is unbound ({why})"))
}

/// Why a claim of a pod that runs nowhere yet has no volume, as its controller says it.
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

/// What the scheduler says of the claims of a pod that it therefore does not place.
fn claims_refused(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let refused = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let message = refused.message.as_deref()?;
    let about_claims = message.to_lowercase().contains("persistentvolumeclaim");
    about_claims.then(|| message.to_owned())
}

/// A hook's Job as people call it: `init Job` for `my-valkey-cluster-init`.
fn job_called(hook: &str) -> String {
    match hook.rsplit_once("-cluster-") {
        Some((_, job)) => format!("{job} Job"),
        None => format!("hook {hook}"),
    }
}

/// A pod of the release by its number: a trial has one release.
fn pod_called(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((_, number)) if number.parse::<u32>().is_ok() => format!("pod {number}"),
        _ => format!("pod {name}"),
    }
}
