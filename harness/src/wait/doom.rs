//! "Doom" is a state that does not heal by waiting: the wait that sees it ends at once and repeats its text.
//!
//! What merely takes time is told from it by its message, because Kubernetes gives both the same reason: a tag that does not
//! exist and a registry that is busy are both `ImagePullBackOff`; a Secret that does not exist and a kubelet whose cache
//! lags are both `CreateContainerConfigError`.

use std::fmt;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt;

use super::conditions::{container_statuses, exit_code};

/// How often a container may have been restarted before its crashes are taken for its nature. The first restart is
/// immediate, and the second comes ten seconds later: what a moment was to blame for is over by then.
const RESTARTS: i32 = 2;

/// What the text of a failed pull says when trying again can help.
const PULL_HEALS: [&str; 16] = [
    "timeout",
    "timed out",
    "deadline exceeded",
    "connection refused",
    "connection reset",
    "network is unreachable",
    "no route to host",
    "server misbehaving",
    "unexpected EOF",
    "toomanyrequests",
    "Too Many Requests",
    "QPS exceeded",
    "Internal Server Error",
    "Bad Gateway",
    "Service Unavailable",
    "no space left on device",
];

/// What the text of a first failed pull says when it cannot.
const PULL_IS_HOPELESS: [&str; 6] = [
    "not found",
    "manifest unknown",
    "does not exist",
    "unauthorized",
    "denied",
    "invalid reference format",
];

/// Taints that come and go with the state of a node.
const PASSING_TAINTS: [&str; 4] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/network-unavailable",
    "node.cloudprovider.kubernetes.io/uninitialized",
];

/// Why the pod will not run, if its state is one that does not heal.
pub fn doom(pod: &Pod) -> Option<String> {
    let name = pod.name_any();
    let initial = pod
        .status
        .as_ref()
        .and_then(|status| status.init_container_statuses.as_deref());
    let mut statuses = initial.unwrap_or_default().iter().chain(container_statuses(pod));
    let unhealthy = statuses.find_map(|status| container_doom(&name, status));
    unhealthy.or_else(|| unschedulable(pod))
}

/// Why a hook's pod will not run. That it crashes is for its Job to judge; that it cannot even be started does not heal.
pub fn doom_of_hook(pod: &Pod) -> Option<String> {
    doom(pod).filter(|doom| !doom.contains("CrashLoopBackOff"))
}

/// Why a controller will never get the pod that it wants, if an event says that admission refused it.
pub fn refusal(event: &Event) -> Option<String> {
    if event.reason.as_deref() != Some("FailedCreate") {
        return None;
    }
    let message = event.message.as_deref()?;
    // "forbidden" alone may pass: a service account that the API server has not seen yet is told in the same word.
    let refused = [
        "violates PodSecurity",
        "exceeded quota",
        "must specify limits",
        "usage per Container is",
        "usage per Pod is",
        "denied the request",
        "denied request",
    ];
    let object = &event.involved_object;
    refused.iter().any(|text| message.contains(text)).then(|| {
        let (kind, name) = (object.kind.as_deref(), object.name.as_deref());
        format!(
            "{} {}: FailedCreate: {message}",
            kind.unwrap_or("object"),
            name.unwrap_or("?")
        )
    })
}

/// A server that did not come up in all the time that its startup probe allows, if an event says that it is killed for
/// that. It is started again, and has the same time once more for the same.
pub fn never_started(event: &Event) -> Option<String> {
    let message = event.message.as_deref()?;
    if event.reason.as_deref() != Some("Killing") || !message.contains("failed startup probe") {
        return None;
    }
    let pod = event.involved_object.name.as_deref()?;
    Some(format!("the startup probe of pod {pod} has never succeeded"))
}

/// An object that a pod or a claim needs, and that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What needs it, as `Kind name`.
    pub for_whom: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, for_whom } = self;
        write!(f, "{for_whom} needs the {kind} {name}, which does not exist")
    }
}

/// What an event says is missing. It may be made yet: whoever knows what is deployed knows whether it will.
pub fn missing(event: &Event) -> Option<Missing> {
    let reasons = ["FailedCreate", "FailedMount", "ProvisioningFailed"];
    if !reasons.contains(&event.reason.as_deref()?) {
        return None;
    }
    let (before, _) = event.message.as_deref()?.split_once("\" not found")?;
    let (before, name) = before.rsplit_once('"')?;
    let kind = match before.trim_end().rsplit(' ').next()?.split('.').next()? {
        "serviceaccount" => "ServiceAccount",
        "configmap" => "ConfigMap",
        "secret" => "Secret",
        "storageclass" => "StorageClass",
        _ => return None,
    };
    let object = &event.involved_object;
    let for_whom = format!("{} {}", object.kind.as_deref()?, object.name.as_deref()?);
    Some(Missing {
        kind,
        name: name.to_owned(),
        for_whom,
    })
}

/// Whether the kubelet waits before it pulls an image again that it may well get.
pub fn pull_may_heal(message: &str) -> bool {
    PULL_HEALS.iter().any(|text| message.contains(text))
}

fn container_doom(pod: &str, status: &ContainerStatus) -> Option<String> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    let doomed = match reason {
        "CrashLoopBackOff" => status.restart_count >= RESTARTS,
        "ImagePullBackOff" => !pull_may_heal(message),
        "ErrImagePull" => says(&PULL_IS_HOPELESS) && !pull_may_heal(message),
        "InvalidImageName" | "ErrImageNeverPull" => true,
        "CreateContainerConfigError" => !says(&["failed to sync"]),
        "CreateContainerError" | "RunContainerError" => !says(&["deadline exceeded", "is reserved for"]),
        _ => false,
    };
    if !doomed {
        return None;
    }
    let mut text = format!("pod {pod}, container {}: {reason}", status.name);
    if let Some(code) = exit_code(status) {
        text.push_str(&format!(", last {code}, {} restarts", status.restart_count));
    } else if !message.is_empty() {
        text.push_str(&format!(": {message}"));
    }
    Some(text)
}

/// A pod that no node takes. A claim that is still being bound is normal for a moment, and so is a node that is not ready
/// yet; neither is meant here.
fn unschedulable(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let refused = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let message = refused.message.as_deref().unwrap_or("no reason given");
    let claim =
        message.to_lowercase().contains("persistentvolumeclaim") || message.contains("volume binding");
    let node = PASSING_TAINTS.iter().any(|taint| message.contains(taint));
    (!claim && !node).then(|| format!("pod {}: FailedScheduling: {message}", pod.name_any()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn waiting(reason: &str, message: &str, restarts: i32) -> Pod {
        let mut pod: Pod = serde_yaml::from_str(&format!(
            "{{metadata: {{name: vk-0}}, status: {{containerStatuses: [{{name: valkey, ready: false, image: x, imageID: x,
               restartCount: {restarts}, state: {{waiting: {{reason: {reason}}}}}}}]}}}}"
        ))
        .expect("the test's own YAML is a pod");
        let statuses = pod
            .status
            .as_mut()
            .and_then(|status| status.container_statuses.as_mut());
        let state = statuses.and_then(|statuses| statuses[0].state.as_mut());
        let waiting = state.and_then(|state| state.waiting.as_mut());
        waiting.expect("it was just written").message = Some(message.to_owned());
        pod
    }

    #[rstest]
    #[case(
        "ImagePullBackOff",
        "Back-off pulling image \"v:0\": ErrImagePull: v:0: not found",
        true
    )]
    #[case("ImagePullBackOff", "Back-off pulling image \"v:0\"", true)]
    #[case("ImagePullBackOff", "ErrImagePull: dial tcp 1.2.3.4:443: i/o timeout", false)]
    #[case("ImagePullBackOff", "ErrImagePull: 429 Too Many Requests", false)]
    #[case(
        "ErrImagePull",
        "rpc error: failed to resolve reference: docker.io/v:0: not found",
        true
    )]
    #[case("ErrImagePull", "rpc error: connection reset by peer", false)]
    #[case("ErrImagePull", "something else", false)]
    #[case("ContainerCreating", "", false)]
    #[case("CreateContainerConfigError", "secret \"vk\" not found", true)]
    #[case(
        "CreateContainerConfigError",
        "failed to sync secret cache: timed out waiting for the condition",
        false
    )]
    #[case("CreateContainerError", "context deadline exceeded", false)]
    #[case("CreateContainerError", "no command specified", true)]
    #[case("InvalidImageName", "", true)]
    fn what_cannot_heal_is_told_from_what_takes_time(
        #[case] reason: &str,
        #[case] message: &str,
        #[case] doomed: bool,
    ) {
        assert_eq!(doom(&waiting(reason, message, 0)).is_some(), doomed);
    }

    #[test]
    fn a_container_may_be_restarted_before_it_is_given_up() {
        assert_eq!(doom(&waiting("CrashLoopBackOff", "back-off 10s", 1)), None);
        let reason = doom(&waiting("CrashLoopBackOff", "back-off 20s", 2)).unwrap();
        assert!(reason.ends_with("CrashLoopBackOff: back-off 20s"), "{reason}");
    }

    #[rstest]
    #[case("0/1 nodes are available: 1 Insufficient memory.", true)]
    #[case(
        "0/1 nodes are available: 1 node(s) didn''t match pod anti-affinity rules.",
        true
    )]
    #[case(
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        false
    )]
    #[case("0/1 nodes are available: persistentvolumeclaim vk-0 not found.", false)]
    #[case(
        "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
        false
    )]
    fn a_pod_that_fits_no_node_is_doomed_unless_the_cluster_is_still_at_it(
        #[case] message: &str,
        #[case] doomed: bool,
    ) {
        let pod: Pod = serde_yaml::from_str(&format!(
            "{{metadata: {{name: vk-0}}, status: {{conditions:
               [{{type: PodScheduled, status: 'False', reason: Unschedulable, message: '{message}'}}]}}}}"
        ))
        .unwrap();
        assert_eq!(doom(&pod).is_some(), doomed, "{:?}", doom(&pod));
    }

    #[rstest]
    #[case(
        "create Pod vk-0 failed error: pods \"vk-0\" is forbidden: violates PodSecurity \"restricted:latest\": x",
        true
    )]
    #[case(
        "pods \"vk-0\" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=5, limited: pods=5",
        true
    )]
    #[case("admission webhook \"policy.example\" denied the request: no", true)]
    #[case(
        "pods \"vk-0\" is forbidden: error looking up service account a/b: serviceaccount \"b\" not found",
        false
    )]
    fn a_refusal_by_admission_is_told_from_one_that_passes(#[case] message: &str, #[case] refused: bool) {
        let mut event: Event = serde_yaml::from_str(
            "{metadata: {}, reason: FailedCreate, involvedObject: {kind: StatefulSet, name: vk}}",
        )
        .unwrap();
        event.message = Some(message.to_owned());
        assert_eq!(refusal(&event).is_some(), refused);
    }

    #[rstest]
    #[case(
        "FailedCreate",
        "create Pod vk-0 in StatefulSet vk failed error: pods \"vk-0\" is forbidden: error looking up service account a/b: serviceaccount \"b\" not found",
        Some("ServiceAccount b")
    )]
    #[case(
        "FailedMount",
        "MountVolume.SetUp failed for volume \"config\" : configmap \"c\" not found",
        Some("ConfigMap c")
    )]
    #[case(
        "FailedMount",
        "MountVolume.SetUp failed for volume \"auth\" : secret \"s\" not found",
        Some("Secret s")
    )]
    #[case(
        "ProvisioningFailed",
        "storageclass.storage.k8s.io \"gold\" not found",
        Some("StorageClass gold")
    )]
    #[case(
        "FailedMount",
        "MountVolume.SetUp failed for volume \"x\" : object \"a\"/\"s\" not registered",
        None
    )]
    #[case("Killing", "secret \"s\" not found", None)]
    fn what_an_event_says_is_missing(
        #[case] reason: &str,
        #[case] message: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut event: Event =
            serde_yaml::from_str("{metadata: {}, involvedObject: {kind: Pod, name: vk-0}}").unwrap();
        (event.reason, event.message) = (Some(reason.to_owned()), Some(message.to_owned()));
        let found = missing(&event);
        let named = found
            .as_ref()
            .map(|missing| format!("{} {}", missing.kind, missing.name));
        assert_eq!(named.as_deref(), expected);
        if let Some(missing) = found {
            let text = missing.to_string();
            assert!(
                text.starts_with("Pod vk-0 needs the ") && text.ends_with(", which does not exist"),
                "{text}"
            );
        }
    }

    #[rstest]
    #[case("Killing", "Container valkey failed startup probe, will be restarted", true)]
    #[case("Killing", "Container valkey failed liveness probe, will be restarted", false)]
    #[case("Killing", "Stopping container valkey", false)]
    #[case("Unhealthy", "Container valkey failed startup probe", false)]
    fn a_server_that_never_starts_is_told_from_one_that_is_stopped(
        #[case] reason: &str,
        #[case] message: &str,
        #[case] never: bool,
    ) {
        let mut event: Event =
            serde_yaml::from_str("{metadata: {}, involvedObject: {kind: Pod, name: vk-0}}").unwrap();
        (event.reason, event.message) = (Some(reason.to_owned()), Some(message.to_owned()));
        let told = never_started(&event);
        assert_eq!(
            told,
            never.then(|| "the startup probe of pod vk-0 has never succeeded".to_owned())
        );
    }
}
