//! Causes that single pods show: they cannot be created, cannot run, or do not become ready.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use kube::ResourceExt;

use super::super::cause::Cause;
use super::super::evidence::Evidence;
use super::super::failure::Failure;
use crate::checks::server_container::server_container;
use crate::trial::observer::is_server;
use crate::trial::outage;
use crate::trial::terminal_servers::LastingState;
use crate::wait::conditions;
use crate::wait::terminal_state::{self, TerminalState};

/// Number of lines quoted from the end of a server's log. `valkey-server` names a rejected setting
/// two lines before its last.
const QUOTED_LINES: usize = 3;

pub(super) fn name_too_long(evidence: &Evidence) -> Option<Cause> {
    let of_event = evidence
        .events
        .iter()
        .filter_map(terminal_state::refusal)
        .find_map(|state| match state {
            TerminalState::NameTooLong { kind, name, long } => Some((format!("{kind} {name}"), long)),
            _ => None,
        });
    let of_failure = || match &evidence.failure {
        Failure::Refused { refusal, .. } => {
            let object = refusal.object.clone().unwrap_or_else(|| "an object".to_owned());
            Some((object, refusal.too_long.clone()?))
        }
        _ => None,
    };
    let (object, long) = of_event.or_else(of_failure)?;
    Some(Cause::NameTooLong {
        object,
        length: long.value.chars().count(),
        value: long.value,
        limit: long.limit,
    })
}

pub(super) fn admission_refuses(evidence: &Evidence) -> Option<Cause> {
    evidence
        .events
        .iter()
        .filter_map(terminal_state::refusal)
        .find_map(|state| match state {
            TerminalState::Refused { kind, name, message } => {
                Some(Cause::AdmissionRefuses { kind, name, message })
            }
            _ => None,
        })
}

/// Recognises a missing object. Events also report short absences, so only the one that ended the
/// trial counts.
pub(super) fn something_is_missing(evidence: &Evidence) -> Option<Cause> {
    let Some(TerminalState::Missing(ended)) = evidence.failure.terminal() else {
        return None;
    };
    let missing = evidence
        .events
        .iter()
        .filter_map(terminal_state::missing)
        .find(|missing| missing == ended)?;
    Some(Cause::SomethingIsMissing {
        kind: missing.kind,
        name: missing.name,
        needed_by: missing.for_whom,
    })
}

pub(super) fn image_cannot_be_had(evidence: &Evidence) -> Option<Cause> {
    let reasons = ["ImagePullBackOff", "ErrImagePull", "InvalidImageName"];
    let (pod, container, message) = waiting(evidence, &reasons)?;
    let image = containers(pod)
        .find(|c| c.name == container)
        .and_then(|c| c.image.clone());
    Some(Cause::ImageCannotBeHad {
        pod: pod.name_any(),
        container: container.to_owned(),
        image: image.unwrap_or_default(),
        message,
    })
}

/// Recognises a missing program. It ended the trial, or a hook's pod shows it while the Job
/// retries.
pub(super) fn program_is_missing(evidence: &Evidence) -> Option<Cause> {
    let of_pods = || {
        evidence
            .pods
            .iter()
            .find_map(terminal_state::terminal_state_of_hook_pod)
    };
    let state = evidence.failure.terminal().cloned().or_else(of_pods)?;
    match state {
        TerminalState::ProgramMissing {
            pod,
            container,
            program,
        } => Some(Cause::ProgramIsMissing {
            pod,
            container,
            program,
        }),
        _ => None,
    }
}

pub(super) fn container_cannot_be_made(evidence: &Evidence) -> Option<Cause> {
    let reasons = [
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    ];
    let (pod, container, message) = waiting(evidence, &reasons)?;
    Some(Cause::ContainerCannotBeMade {
        pod: pod.name_any(),
        container: container.to_owned(),
        message,
    })
}

/// Recognises a container that the kernel ended, whatever its restart policy.
pub(super) fn out_of_memory(evidence: &Evidence) -> Option<Cause> {
    evidence.pods.iter().find_map(|pod| {
        let killed = |status: &&ContainerStatus| {
            terminal_state::ended(status).is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"))
        };
        let status = conditions::container_statuses(pod).iter().find(killed)?;
        Some(Cause::OutOfMemory {
            pod: pod.name_any(),
            container: status.name.clone(),
            restarts: status.restart_count,
        })
    })
}

pub(super) fn server_crashes(evidence: &Evidence) -> Option<Cause> {
    let (pod, status) = crashing(evidence, true)?;
    let name = pod.name_any();
    Some(Cause::ServerCrashes {
        exit_code: terminal_state::ended(status).map(|ended| ended.code),
        last_words: last_words(evidence, &name, &status.name),
        pod: name,
    })
}

pub(super) fn sidecar_crashes(evidence: &Evidence) -> Option<Cause> {
    let (pod, status) = crashing(evidence, false)?;
    let name = pod.name_any();
    Some(Cause::SidecarCrashes {
        container: status.name.clone(),
        exit_code: terminal_state::ended(status).map(|ended| ended.code),
        last_words: last_words(evidence, &name, &status.name),
        pod: name,
    })
}

pub(super) fn pod_fits_nowhere(evidence: &Evidence) -> Option<Cause> {
    let pods = evidence.pods.iter().filter(|pod| !outage::is_kept_away(pod));
    pods.filter_map(conditions::terminal_state)
        .find_map(|state| match state {
            TerminalState::Unschedulable { pod, message } => Some(Cause::PodFitsNowhere { pod, message }),
            _ => None,
        })
}

pub(super) fn probe_needs_what_the_image_lacks(evidence: &Evidence) -> Option<Cause> {
    let state = evidence
        .events
        .iter()
        .find_map(terminal_state::probe_without_program)?;
    match state {
        TerminalState::ProbeWithoutProgram { pod, probe, program } => {
            Some(Cause::ProbeNeedsWhatTheImageLacks { pod, probe, program })
        }
        _ => None,
    }
}

/// Recognises a server that never starts, and quotes its startup probe. The event that ends the
/// wait is a normal one, which the evidence does not keep.
pub(super) fn server_never_starts(evidence: &Evidence) -> Option<Cause> {
    let Some(TerminalState::NeverStarted { pod }) = evidence.failure.terminal() else {
        return None;
    };
    let said = evidence.events.iter().rev().find_map(|event| {
        let message = event.message.as_deref()?.strip_prefix("Startup probe failed: ")?;
        (event.involved_object.name.as_ref() == Some(pod)).then(|| message.trim())
    })?;
    Some(Cause::ServerNeverStarts {
        pod: pod.clone(),
        said: said.to_owned(),
    })
}

/// Recognises a failing readiness probe. While anything else is broken, the probe fails rightly.
pub(super) fn readiness_probe_fails(evidence: &Evidence) -> Option<Cause> {
    if !evidence.failure.lasted(LastingState::NeverReady) {
        return None;
    }
    evidence.events.iter().rev().find_map(|event| {
        let said = event
            .message
            .as_deref()?
            .strip_prefix("Readiness probe failed: ")?;
        Some(Cause::ReadinessProbeFails {
            pod: event.involved_object.name.clone()?,
            said: said.trim().to_owned(),
        })
    })
}

/// Returns the first container of a server's pod that keeps crashing: the server itself, or one
/// next to it.
fn crashing(evidence: &Evidence, server: bool) -> Option<(&Pod, &ContainerStatus)> {
    evidence.pods.iter().filter(|pod| is_server(pod)).find_map(|pod| {
        let own = server_container(pod).map(|container| container.name.as_str());
        let crashes = |status: &&ContainerStatus| {
            let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
            let looping =
                waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"));
            looping && (own == Some(status.name.as_str())) == server
        };
        Some((pod, conditions::container_statuses(pod).iter().find(crashes)?))
    })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}

/// Returns the first container that waits for one of these reasons: its pod, name and message.
fn waiting<'a>(evidence: &'a Evidence, reasons: &[&str]) -> Option<(&'a Pod, &'a str, String)> {
    evidence.pods.iter().find_map(|pod| {
        let (container, waiting) = conditions::container_statuses(pod)
            .iter()
            .filter_map(|status| Some((status.name.as_str(), status.state.as_ref()?.waiting.as_ref()?)))
            .find(|(_, waiting)| {
                waiting
                    .reason
                    .as_deref()
                    .is_some_and(|reason| reasons.contains(&reason))
            })?;
        let why = waiting.message.clone().or_else(|| waiting.reason.clone());
        Some((pod, container, why.unwrap_or_default()))
    })
}

fn last_words(evidence: &Evidence, pod: &str, container: &str) -> Vec<String> {
    let key = format!("{pod}/{container}");
    let log = evidence
        .logs
        .get(&format!("{key} (previous)"))
        .or_else(|| evidence.logs.get(&key));
    let said = log
        .into_iter()
        .flat_map(|log| log.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let said: Vec<&str> = said.collect();
    let last = &said[said.len().saturating_sub(QUOTED_LINES)..];
    last.iter().map(|&line| line.to_owned()).collect()
}
