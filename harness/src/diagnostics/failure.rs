//! A trial's failure as data: the act that failed, and the promises that it broke. It is read from
//! the error's types, never from text.

use serde::{Deserialize, Serialize};

use crate::checks::{Violation, reachability};
use crate::release::{ChartError, Refusal, ReleaseError};
use crate::trial::TrialError;
use crate::trial::error::When;
use crate::trial::terminal_servers::LastingState;
use crate::wait::WaitError;
use crate::wait::terminal_state::TerminalState;

/// The promise that hooks succeed.
pub const HOOKS: &str = "hooks";
/// The promise that pods run.
pub const PODS: &str = "pods";
/// The promise that the servers can become a cluster.
pub const FORMATION: &str = "formation";
/// The promise that the manifests are accepted.
pub const DEPLOYMENT: &str = "deployment";
/// The promise that every pod becomes ready.
pub const ROLLOUT: &str = "rollout";
/// The check of assertions that a scenario makes by itself.
pub const SCENARIO: &str = "scenario";

/// The act that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// Another act; only its violations are known.
    #[default]
    Other,
    /// Promises were broken.
    Promises {
        /// The state that the servers were stuck in, if any.
        lasting: Option<LastingState>,
    },
    /// A hook did not succeed.
    Hook {
        /// The hook's name.
        hook: String,
        /// The pod that the hook says it waits for.
        waits_for: Option<String>,
    },
    /// A pod, or a controller of pods, is in a terminal state.
    Terminal {
        /// The state.
        state: TerminalState,
    },
    /// The rendered objects cannot form a cluster.
    Unformable {
        /// The reason.
        why: String,
    },
    /// The API server or `helm` refused a request.
    Refused {
        /// The request, such as `helm upgrade` or `apply`.
        verb: String,
        /// The refusal.
        refusal: Refusal,
    },
}

impl Failure {
    /// Returns the act that failed with this error, and the promises that it breaks. The first
    /// promise is the one that failed the act.
    pub fn of(error: &anyhow::Error) -> (Self, Vec<Violation>) {
        if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<TrialError>()) {
            return of_trial(error);
        }
        if let Some(error) = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<ReleaseError>())
        {
            return of_release(error);
        }
        let seen = crate::trial::format_error(error);
        (
            Self::Other,
            vec![Violation::new(SCENARIO, "the scenario", "to succeed", seen)],
        )
    }

    /// Returns true if an act failed, rather than a check of promises.
    pub fn is_act(&self) -> bool {
        !matches!(self, Self::Promises { .. })
    }

    /// Returns the hook that the failure is about.
    pub fn hook(&self) -> Option<&str> {
        match self {
            Self::Hook { hook, .. } => Some(hook),
            _ => None,
        }
    }

    /// Returns the terminal state that ended the trial.
    pub fn terminal(&self) -> Option<&TerminalState> {
        match self {
            Self::Terminal { state } => Some(state),
            _ => None,
        }
    }

    /// Returns true if the servers were in this state when the harness gave the trial up.
    pub fn lasted(&self, state: LastingState) -> bool {
        matches!(self, Self::Promises { lasting: Some(lasting) } if *lasting == state)
    }
}

fn of_trial(error: &TrialError) -> (Failure, Vec<Violation>) {
    match error {
        TrialError::Unhealthy { when, violations } => {
            let lasting = match when {
                When::Lasting(state, _) => Some(*state),
                When::Now | When::DuringTheTrial | When::Within(_) => None,
            };
            (Failure::Promises { lasting }, violations.clone())
        }
        TrialError::Release(error) => of_release(error),
        TrialError::Wait(error) => (Failure::Other, vec![of_wait(ROLLOUT, error)]),
        TrialError::Answer { pod, source } => (Failure::Other, vec![no_answer(pod, source.to_string())]),
        TrialError::Connect { pod, source } => (Failure::Other, vec![no_answer(pod, source.to_string())]),
        TrialError::Api { what, source } => {
            let refusal = Refusal::of_api(source);
            let violation = Violation::new(
                DEPLOYMENT,
                what,
                "to be accepted by the API server",
                &refusal.reason,
            );
            (Failure::Other, vec![violation])
        }
        TrialError::Render(_)
        | TrialError::Invalid(_)
        | TrialError::RecordFile(_)
        | TrialError::Unrecorded(_)
        | TrialError::NoData
        | TrialError::NotJudged(_)
        | TrialError::Client(_)
        | TrialError::NotInstalled => {
            let violation = Violation::new(SCENARIO, "the scenario", "to succeed", error.to_string());
            (Failure::Other, vec![violation])
        }
    }
}

fn of_release(error: &ReleaseError) -> (Failure, Vec<Violation>) {
    match error {
        ReleaseError::Hook {
            event,
            hook,
            waits_for,
            log,
            source,
        } => of_hook(event, hook, waits_for.as_ref(), log, source.to_string()),
        ReleaseError::HelmHook {
            event,
            hook,
            waits_for,
            log,
            source,
        } => of_hook(event, hook, waits_for.as_ref(), log, source.to_string()),
        ReleaseError::Terminal { state, log } => {
            let mut violation = Violation::new(PODS, state.subject(), "to run", state.to_string());
            violation.evidence.clone_from(log);
            let state = state.as_ref().clone();
            (Failure::Terminal { state }, vec![violation])
        }
        ReleaseError::Unformable(why) => {
            let violation =
                Violation::new(FORMATION, "the cluster", "to be formed by the chart's hooks", why);
            (Failure::Unformable { why: why.clone() }, vec![violation])
        }
        ReleaseError::Api {
            verb,
            kind,
            name,
            source,
        } => {
            let mut refusal = Refusal::of_api(source);
            refusal.object = Some(format!("{kind} {name}"));
            refused(verb, format!("{kind} {name}"), refusal)
        }
        ReleaseError::Chart(source) => match source.as_ref() {
            ChartError::Refused { verb, said } => {
                let verb = format!("helm {verb}");
                refused(&verb, verb.clone(), Refusal::read(said))
            }
            ChartError::Manifests(inner) => of_release(inner),
            other => plain(other.to_string()),
        },
        ReleaseError::Wait { source, .. } => (Failure::Other, vec![of_wait(DEPLOYMENT, source)]),
        ReleaseError::Manifest { .. }
        | ReleaseError::Exists { .. }
        | ReleaseError::Foreign { .. }
        | ReleaseError::NoServers
        | ReleaseError::Render(_)
        | ReleaseError::Values(_)
        | ReleaseError::Revision(_) => plain(error.to_string()),
    }
}

fn plain(seen: String) -> (Failure, Vec<Violation>) {
    let violation = Violation::new(DEPLOYMENT, "the release", "to be deployed", seen);
    (Failure::Other, vec![violation])
}

fn refused(verb: &str, subject: String, refusal: Refusal) -> (Failure, Vec<Violation>) {
    let violation = Violation::new(DEPLOYMENT, subject, "to be accepted", &refusal.reason);
    let verb = verb.to_owned();
    (Failure::Refused { verb, refusal }, vec![violation])
}

fn of_hook(
    event: &str,
    hook: &str,
    waits_for: Option<&String>,
    log: &[String],
    ended: String,
) -> (Failure, Vec<Violation>) {
    let seen = match waits_for {
        Some(pod) => format!("it failed while it waited for {pod}"),
        None => ended,
    };
    let mut violation = Violation::new(HOOKS, hook, format!("to succeed at {event}"), seen);
    violation.evidence = log.to_vec();
    let failure = Failure::Hook {
        hook: hook.to_owned(),
        waits_for: waits_for.cloned(),
    };
    (failure, vec![violation])
}

fn no_answer(pod: &str, seen: String) -> Violation {
    Violation::new(reachability::NAME, pod, "an answer", seen)
}

fn of_wait(promise: &str, error: &WaitError) -> Violation {
    match error {
        WaitError::Expired {
            subject,
            expected,
            last_seen,
            waited,
            ..
        } => Violation::new(
            promise,
            subject,
            format!("{expected} within {} s", waited.as_secs()),
            last_seen,
        ),
        WaitError::Never {
            subject,
            expected,
            reason,
            ..
        } => Violation::new(promise, subject, expected, reason),
        WaitError::Watch { subject, source } => {
            Violation::new(promise, subject, "to be watched", source.to_string())
        }
    }
}
