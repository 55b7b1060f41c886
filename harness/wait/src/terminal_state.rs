//! Terminal states: waiting does not heal them, so a wait that sees one ends at once. Only this
//! module interprets the wording of the kubelet and the controllers.
//!
//! Kubernetes gives transient and permanent failures the same reason; only the message differs.
//!
//! - `ImagePullBackOff`: the tag does not exist, or the registry is busy
//! - `CreateContainerConfigError`: the Secret does not exist, or the kubelet's cache lags

use std::fmt;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::conditions::container_statuses;

/// Number of restarts after which a container's crashes count as permanent. The first restart is
/// immediate, and the second comes ten seconds later. Passing causes are over by then.
const RESTARTS: i32 = 2;

/// Messages of failed pulls that a retry can heal.
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

/// Messages of a first failed pull that a retry cannot heal.
const PERMANENT_PULL_ERRORS: [&str; 6] = [
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

/// Reasons of a container that could not start at all.
const NOT_STARTED: [&str; 3] = ["StartError", "ContainerCannotRun", "RunContainerError"];

/// The API server's text about a name or label that is too long. Its limit follows.
const TOO_LONG: &str = "must be no more than ";

/// A state that does not heal by waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TerminalState {
    /// A container that does not run and cannot start running.
    Container {
        /// Its pod.
        pod: String,
        /// Its name.
        container: String,
        /// Kubernetes' reason, such as `CrashLoopBackOff`.
        reason: String,
        /// Kubernetes' message, where there is one.
        message: Option<String>,
        /// The way in which the container last ended, if it ever ran.
        ended: Option<Ended>,
        /// Number of restarts.
        restarts: i32,
    },
    /// A container with a program that its image lacks.
    ProgramMissing {
        /// Its pod.
        pod: String,
        /// Its name.
        container: String,
        /// The program.
        program: String,
    },
    /// A pod that no node accepts.
    Unschedulable {
        /// The pod.
        pod: String,
        /// The scheduler's message.
        message: String,
    },
    /// A controller that cannot create its pods because admission refuses them.
    Refused {
        /// The controller's kind.
        kind: String,
        /// The controller's name.
        name: String,
        /// The API server's message.
        message: String,
    },
    /// A controller with pods that have too long a name or label.
    NameTooLong {
        /// The controller's kind.
        kind: String,
        /// The controller's name.
        name: String,
        /// The name or label that is too long.
        long: TooLong,
    },
    /// An object that a pod or a claim needs, and that nobody creates.
    Missing(Missing),
    /// A probe that cannot run because the image lacks its program.
    ProbeWithoutProgram {
        /// The pod.
        pod: String,
        /// `readiness`, `liveness` or `startup`.
        probe: String,
        /// The program.
        program: String,
    },
    /// A server that did not start within the time that its startup probe allows. Each restart
    /// gives it only the same time.
    NeverStarted {
        /// The pod.
        pod: String,
    },
}

/// The way in which a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// The signal that ended it, if the runtime reports one.
    pub signal: Option<i32>,
    /// Kubernetes' reason, such as `OOMKilled`.
    pub reason: Option<String>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.code)?;
        if let Some(signal) = self.signal {
            write!(f, ", signal {signal}")?;
        }
        Ok(())
    }
}

/// A name or label value beyond Kubernetes' limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooLong {
    /// The name or value.
    pub value: String,
    /// The field that holds the value, if the API server names it.
    pub field: Option<String>,
    /// The maximum number of characters.
    pub limit: usize,
}

impl TooLong {
    /// Parses the API server's message about a name or label that is too long.
    pub fn read(message: &str) -> Option<Self> {
        let (before, after) = message.split_once(TOO_LONG)?;
        let limit: usize = after.split(' ').next()?.parse().ok()?;
        let (rest, value) = before
            .trim_end()
            .trim_end_matches(':')
            .trim_end_matches('"')
            .rsplit_once('"')?;
        let field = rest.strip_suffix(": Invalid value: ")?.rsplit([' ', '[']).next();
        Some(Self {
            value: value.to_owned(),
            field: field.map(str::to_owned),
            limit,
        })
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.value.chars().count();
        write!(
            f,
            "{:?} has {length} characters, and Kubernetes allows {}",
            self.value, self.limit
        )?;
        self.field
            .as_ref()
            .map_or(Ok(()), |field| write!(f, " ({field})"))
    }
}

impl fmt::Display for TerminalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container {
                pod,
                container,
                reason,
                message,
                ended,
                restarts,
            } => {
                write!(f, "pod {pod}, container {container}: {reason}")?;
                match (ended, message) {
                    (Some(ended), _) => write!(f, ", last {ended}, {restarts} restarts"),
                    (None, Some(message)) => write!(f, ": {message}"),
                    (None, None) => Ok(()),
                }
            }
            Self::ProgramMissing {
                pod,
                container,
                program,
            } => write!(
                f,
                "pod {pod}, container {container}: cannot run {program:?}: {}",
                lacking(program)
            ),
            Self::Unschedulable { pod, message } => write!(f, "pod {pod}: FailedScheduling: {message}"),
            Self::Refused { kind, name, message } => write!(f, "{kind} {name}: FailedCreate: {message}"),
            Self::NameTooLong { kind, name, long } => {
                write!(f, "{kind} {name} cannot create its pods: {long}")
            }
            Self::Missing(missing) => missing.fmt(f),
            Self::ProbeWithoutProgram { pod, probe, program } => {
                write!(
                    f,
                    "the {probe} probe of pod {pod} cannot run {program:?}: {}",
                    lacking(program)
                )
            }
            Self::NeverStarted { pod } => write!(f, "the startup probe of pod {pod} has never succeeded"),
        }
    }
}

impl TerminalState {
    /// Returns the object in this state: a pod, or the controller that cannot create its pods.
    pub fn subject(&self) -> String {
        match self {
            Self::Container { pod, .. }
            | Self::ProgramMissing { pod, .. }
            | Self::Unschedulable { pod, .. }
            | Self::ProbeWithoutProgram { pod, .. }
            | Self::NeverStarted { pod } => pod.clone(),
            Self::Refused { kind, name, .. } | Self::NameTooLong { kind, name, .. } => {
                format!("{kind} {name}")
            }
            Self::Missing(missing) => missing.for_whom.clone(),
        }
    }

    /// Returns true if a container crashes. A hook's Job judges crashes by itself.
    fn is_crash(&self) -> bool {
        matches!(self, Self::Container { reason, .. } if reason == "CrashLoopBackOff")
    }
}

/// Describes the part that an image without this program lacks.
pub fn lacking(program: &str) -> &'static str {
    match program {
        "sh" | "/bin/sh" | "bash" | "/bin/bash" => "the image has no shell",
        _ => "the image does not have it",
    }
}

/// Returns the terminal state of the pod, if any.
pub fn terminal_state(pod: &Pod) -> Option<TerminalState> {
    let name = pod.name_any();
    let unhealthy = statuses(pod).find_map(|status| terminal_container(&name, status));
    unhealthy.or_else(|| unschedulable(pod))
}

/// Returns the terminal state of a hook's pod. Crashes do not count, as the Job judges them. A
/// container that cannot start or lacks its program does not heal.
pub fn terminal_state_of_hook_pod(pod: &Pod) -> Option<TerminalState> {
    let name = pod.name_any();
    let missing = statuses(pod).find_map(|status| program_missing(&name, status));
    missing.or_else(|| terminal_state(pod).filter(|state| !state.is_crash()))
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let initial = status.and_then(|status| status.init_container_statuses.as_deref());
    initial.unwrap_or_default().iter().chain(container_statuses(pod))
}

/// Returns the refusal by admission that an event reports. The controller will never get its pod.
pub fn refusal(event: &Event) -> Option<TerminalState> {
    if event.reason.as_deref() != Some("FailedCreate") {
        return None;
    }
    let message = event.message.as_deref()?;
    let object = &event.involved_object;
    let kind = object.kind.clone().unwrap_or_else(|| "object".to_owned());
    let name = object.name.clone().unwrap_or_else(|| "?".to_owned());
    if let Some(long) = TooLong::read(message) {
        return Some(TerminalState::NameTooLong { kind, name, long });
    }
    // "forbidden" alone may pass: it also describes a service account that the API server has not
    // seen yet.
    let refused = [
        "violates PodSecurity",
        "exceeded quota",
        "must specify limits",
        "usage per Container is",
        "usage per Pod is",
        "denied the request",
        "denied request",
    ];
    let message = message.to_owned();
    let is_refusal = refused.iter().any(|text| message.contains(text));
    is_refusal.then_some(TerminalState::Refused { kind, name, message })
}

/// Returns the server that an event reports as killed because it never started.
pub fn never_started(event: &Event) -> Option<TerminalState> {
    let message = event.message.as_deref()?;
    if event.reason.as_deref() != Some("Killing") || !message.contains("failed startup probe") {
        return None;
    }
    let pod = event.involved_object.name.clone()?;
    Some(TerminalState::NeverStarted { pod })
}

/// Returns the probe that cannot run according to the kubelet's event: the image lacks its program.
pub fn probe_without_program(event: &Event) -> Option<TerminalState> {
    let message = event.message.as_deref()?;
    let program = program_not_found(message)?;
    if !message.contains("probe errored") {
        return None;
    }
    Some(TerminalState::ProbeWithoutProgram {
        pod: event.involved_object.name.clone()?,
        probe: message.split(' ').next()?.to_lowercase(),
        program,
    })
}

/// Returns the program that is missing in the image, as a runtime reports it. Example message:
/// `exec: "sh": executable file not found in $PATH`.
fn program_not_found(message: &str) -> Option<String> {
    let (program, rest) = message.split_once("exec: \"")?.1.split_once('"')?;
    let absent = rest.contains("not found") || rest.contains("no such file or directory");
    absent.then(|| program.to_owned())
}

fn program_missing(pod: &str, status: &ContainerStatus) -> Option<TerminalState> {
    let states = [status.state.as_ref(), status.last_state.as_ref()];
    let said = states.into_iter().flatten().find_map(|state| {
        let waiting = state
            .waiting
            .as_ref()
            .map(|waiting| (&waiting.reason, &waiting.message));
        let ended = state
            .terminated
            .as_ref()
            .map(|ended| (&ended.reason, &ended.message));
        let (reason, message) = waiting.or(ended)?;
        let unstarted = reason
            .as_deref()
            .is_some_and(|reason| NOT_STARTED.contains(&reason));
        message.as_deref().filter(|_| unstarted)
    })?;
    Some(TerminalState::ProgramMissing {
        pod: pod.to_owned(),
        container: status.name.clone(),
        program: program_not_found(said)?,
    })
}

/// An object that a pod or a claim needs, and that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The object that needs it, as `Kind name`.
    pub for_whom: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, for_whom } = self;
        write!(f, "{for_whom} needs the {kind} {name}, which does not exist")
    }
}

/// Returns the object that an event reports as missing. It may still be created: only the caller
/// knows what is deployed.
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
        kind: kind.to_owned(),
        name: name.to_owned(),
        for_whom,
    })
}

/// Returns true if the kubelet will retry a failed pull that may succeed.
pub fn pull_is_transient(message: &str) -> bool {
    PULL_HEALS.iter().any(|text| message.contains(text))
}

fn terminal_container(pod: &str, status: &ContainerStatus) -> Option<TerminalState> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    let is_terminal = match reason {
        "CrashLoopBackOff" => status.restart_count >= RESTARTS,
        "ImagePullBackOff" => !pull_is_transient(message),
        "ErrImagePull" => says(&PERMANENT_PULL_ERRORS) && !pull_is_transient(message),
        "InvalidImageName" | "ErrImageNeverPull" => true,
        "CreateContainerConfigError" => !says(&["failed to sync"]),
        "CreateContainerError" | "RunContainerError" => !says(&["deadline exceeded", "is reserved for"]),
        _ => false,
    };
    if !is_terminal {
        return None;
    }
    Some(TerminalState::Container {
        pod: pod.to_owned(),
        container: status.name.clone(),
        reason: reason.to_owned(),
        message: waiting.message.clone().filter(|message| !message.is_empty()),
        ended: ended(status),
        restarts: status.restart_count,
    })
}

/// Returns the state of a pod that no node accepts. Ignores claims that are being bound and nodes
/// that are not ready yet. Both are normal for a moment.
fn unschedulable(pod: &Pod) -> Option<TerminalState> {
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
    (!claim && !node).then(|| TerminalState::Unschedulable {
        pod: pod.name_any(),
        message: message.to_owned(),
    })
}

/// Returns the way in which the container ended, at present or last.
pub fn ended(status: &ContainerStatus) -> Option<Ended> {
    let states = [status.state.as_ref(), status.last_state.as_ref()];
    let ended = states
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())?;
    Some(Ended {
        code: ended.exit_code,
        signal: ended.signal,
        reason: ended.reason.clone(),
    })
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
        #[case] is_terminal: bool,
    ) {
        assert_eq!(
            terminal_state(&waiting(reason, message, 0)).is_some(),
            is_terminal
        );
    }

    #[test]
    fn a_container_may_be_restarted_before_it_is_given_up() {
        assert_eq!(
            terminal_state(&waiting("CrashLoopBackOff", "back-off 10s", 1)),
            None
        );
        let reason = terminal_state(&waiting("CrashLoopBackOff", "back-off 20s", 2))
            .unwrap()
            .to_string();
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
    fn an_unschedulable_pod_is_terminal_unless_that_can_change(
        #[case] message: &str,
        #[case] is_terminal: bool,
    ) {
        let pod: Pod = serde_yaml::from_str(&format!(
            "{{metadata: {{name: vk-0}}, status: {{conditions:
               [{{type: PodScheduled, status: 'False', reason: Unschedulable, message: '{message}'}}]}}}}"
        ))
        .unwrap();
        assert_eq!(
            terminal_state(&pod).is_some(),
            is_terminal,
            "{:?}",
            terminal_state(&pod)
        );
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
            never.then(|| TerminalState::NeverStarted {
                pod: "vk-0".to_owned()
            })
        );
    }

    #[test]
    fn a_name_that_is_too_long_is_terminal_and_its_length_is_told() {
        let long = "a".repeat(70);
        let mut event: Event = serde_yaml::from_str(
            "{metadata: {}, reason: FailedCreate, involvedObject: {kind: StatefulSet, name: vk}}",
        )
        .unwrap();
        event.message = Some(format!(
            "create Pod vk-0 in StatefulSet vk failed error: Pod \"vk-0\" is invalid: metadata.labels: Invalid value: \"{long}\": must be no more than 63 characters"
        ));
        let state = refusal(&event).expect("terminal");
        let TerminalState::NameTooLong { long: found, .. } = &state else {
            panic!("{state:?}")
        };
        assert_eq!(
            (found.value.as_str(), found.field.as_deref(), found.limit),
            (long.as_str(), Some("metadata.labels"), 63)
        );
        assert!(
            state
                .to_string()
                .contains("has 70 characters, and Kubernetes allows 63"),
            "{state}"
        );
    }

    #[test]
    fn a_hook_whose_image_has_no_shell_is_terminal() {
        let pod: Pod = serde_yaml::from_str(
            "{metadata: {name: init-x}, status: {containerStatuses: [{name: init, ready: false, image: x, imageID: x, restartCount: 0,
               state: {terminated: {exitCode: 128, reason: StartError, message: 'failed to create containerd task: exec: \"sh\": executable file not found in $PATH'}}}]}}",
        )
        .unwrap();
        assert_eq!(
            terminal_state_of_hook_pod(&pod).unwrap().to_string(),
            "pod init-x, container init: cannot run \"sh\": the image has no shell"
        );
        let crashed: Pod = serde_yaml::from_str(
            "{metadata: {name: init-x}, status: {containerStatuses: [{name: init, ready: false, image: x, imageID: x, restartCount: 0,
               state: {terminated: {exitCode: 1, reason: Error, message: 'exec: \"sh\": executable file not found'}}}]}}",
        )
        .unwrap();
        assert_eq!(
            terminal_state_of_hook_pod(&crashed),
            None,
            "the program ran, and said something of this kind"
        );
    }
}
