//! Decisions about the next step of a claim.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

use super::{PROVISIONER, SELECTED_NODE};
use crate::controllers::pods::{claim_names, is_finished};

/// The finalizer that prevents deletion of a claim while a pod uses it.
pub(crate) const PROTECTION: &str = "kubernetes.io/pvc-protection";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The next step of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// No step until something changes.
    Nothing,
    /// Setting the default class: the claim has none.
    UseClass(String),
    /// Waiting, with an event that names the reason: (reason, message). The event is a warning
    /// unless the claim waits for its first consumer.
    Wait {
        warning: bool,
        reason: &'static str,
        message: String,
    },
    /// Creation of a volume for the claim on this node.
    Provision { node: String },
    /// Binding to the volume that the claim names.
    Bind { volume: String },
}

/// Returns true if the claim is bound to its volume.
pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// Returns true if a pod that has not ended uses the claim.
pub(crate) fn is_used<'a>(claim: &PersistentVolumeClaim, mut pods: impl Iterator<Item = &'a Pod>) -> bool {
    let name = claim.name_any();
    pods.any(|pod| {
        pod.metadata.namespace == claim.metadata.namespace
            && !is_finished(pod)
            && claim_names(pod).any(|used| used == name)
    })
}

/// Decides the next step of a claim that is not being deleted. `node` is the node for a claim that
/// does not wait for a consumer.
pub(crate) fn next(
    claim: &PersistentVolumeClaim,
    classes: &[impl AsRef<StorageClass>],
    node: Option<&str>,
) -> Next {
    if is_bound(claim) {
        return Next::Nothing;
    }
    let spec = claim.spec.clone().unwrap_or_default();
    if let Some(volume) = spec.volume_name.filter(|name| !name.is_empty()) {
        return Next::Bind { volume };
    }
    let classes = || classes.iter().map(AsRef::as_ref);
    let Some(wanted) = spec.storage_class_name else {
        return match classes().find(is_default) {
            Some(class) => Next::UseClass(class.name_any()),
            None => failed(
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set",
            ),
        };
    };
    if wanted.is_empty() {
        return failed(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        );
    }
    let Some(class) = classes().find(|class| class.name_any() == wanted) else {
        let message = format!("storageclass.storage.k8s.io \"{wanted}\" not found");
        return failed("ProvisioningFailed", &message);
    };
    if class.provisioner != PROVISIONER {
        let message = format!(
            "Waiting for a volume to be created by '{}', which the embedded cluster does not run",
            class.provisioner
        );
        return failed("ExternalProvisioning", &message);
    }
    let selected = claim.annotations().get(SELECTED_NODE).map(String::as_str);
    let waits = binds_late(class);
    match selected.or(node.filter(|_| !waits)) {
        Some(node) => Next::Provision {
            node: node.to_owned(),
        },
        None if waits => Next::Wait {
            warning: false,
            reason: "WaitForFirstConsumer",
            message: "waiting for first consumer to be created before binding".to_owned(),
        },
        None => Next::Nothing,
    }
}

/// Returns true if a claim gets its volume only after a pod that uses it has a node. The pod then
/// need not wait for the claim. A claim without a class counts as one of the default class, which
/// it will get.
pub(crate) fn waits_for_consumer(
    claim: &PersistentVolumeClaim,
    classes: &[impl AsRef<StorageClass>],
) -> bool {
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    let mut classes = classes.iter().map(AsRef::as_ref);
    let class = classes.find(|class| match wanted {
        Some(name) => class.name_any() == name,
        None => is_default(class),
    });
    class.is_some_and(binds_late)
}

fn is_default(class: &&StorageClass) -> bool {
    let mark = class.annotations().get(DEFAULT_CLASS);
    mark.is_some_and(|is| is == "true")
}

fn binds_late(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

fn failed(reason: &'static str, message: &str) -> Next {
    Next::Wait {
        warning: true,
        reason,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn claim(spec: &str, annotations: &str) -> PersistentVolumeClaim {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: data-valkey-0, namespace: shop, annotations: {{{annotations}}}}}, spec: {{{spec}}}}}"
        ))
        .expect("a claim")
    }

    fn standard() -> [Arc<StorageClass>; 1] {
        [Arc::new(
            serde_yaml::from_str(
                "{metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}, \
                 provisioner: embedded.cluster/local, volumeBindingMode: WaitForFirstConsumer}",
            )
            .expect("a StorageClass"),
        )]
    }

    #[test]
    fn a_claim_waits_for_its_first_consumer_and_is_then_provisioned() {
        assert_eq!(
            next(&claim("", ""), &standard(), None),
            Next::UseClass("standard".into())
        );
        let waiting = next(
            &claim("storageClassName: standard", ""),
            &standard(),
            Some("node"),
        );
        assert!(matches!(
            waiting,
            Next::Wait {
                warning: false,
                reason: "WaitForFirstConsumer",
                ..
            }
        ));
        let selected = claim(
            "storageClassName: standard",
            "volume.kubernetes.io/selected-node: node",
        );
        assert_eq!(
            next(&selected, &standard(), None),
            Next::Provision { node: "node".into() }
        );
    }

    #[test]
    fn only_a_class_that_binds_late_lets_its_pods_have_a_node_first() {
        for (spec, waits) in [
            ("", true),
            ("storageClassName: standard", true),
            ("storageClassName: ''", false),
            ("storageClassName: golden", false),
        ] {
            assert_eq!(waits_for_consumer(&claim(spec, ""), &standard()), waits, "{spec}");
        }
    }

    #[test]
    fn an_unknown_class_stays_pending_and_says_why() {
        let Next::Wait {
            warning: true,
            message,
            ..
        } = next(&claim("storageClassName: gold", ""), &standard(), None)
        else {
            panic!("it should wait with a warning");
        };
        assert_eq!(message, "storageclass.storage.k8s.io \"gold\" not found");
    }

    #[test]
    fn a_claim_is_used_until_its_pods_have_ended() {
        let pod = |phase: &str| -> Pod {
            serde_yaml::from_str(&format!(
                "{{metadata: {{namespace: shop}}, status: {{phase: {phase}}}, spec: {{containers: [], volumes: \
                 [{{name: data, persistentVolumeClaim: {{claimName: data-valkey-0}}}}]}}}}"
            ))
            .expect("a Pod")
        };
        assert!(is_used(&claim("", ""), [&pod("Running")].into_iter()));
        assert!(!is_used(&claim("", ""), [&pod("Succeeded")].into_iter()));
    }
}
