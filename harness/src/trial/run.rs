//! The life of a trial: a labelled namespace, the scenario's body, evidence before anything is deleted, clean-up, report.

use std::any::Any;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use super::context::Context;
use super::environment::{Environment, Turn};
use super::error::TrialError;
use super::id::TrialId;
use super::namespace;
use crate::checks::{self, Moment};
use crate::diagnostics;
use crate::release::ChartError;
use crate::report::record::SlotMapReport;
use crate::report::{Event, Outcome, TrialReport};
use crate::secret::Redactor;
use crate::timeline::{Kind, Timeline};
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::client::UpgradeConnectionError;

/// What a scenario is to this module: something to do with a context.
pub type Body = for<'a> fn(&'a mut Context) -> BoxFuture<'a, anyhow::Result<()>>;

/// Runs one trial to its end, whatever that is, and tells the environment's listeners of it. One that an absence of the API
/// server has spoilt is begun anew, once, when the server is back: nothing was learnt of the deployment.
pub async fn run(id: &TrialId, environment: &Environment, body: Body) -> TrialReport {
    let name = id.to_string();
    let turn = environment.turns.take().await;
    environment
        .events
        .send(Event::TrialStarted { trial: name.clone() });
    // On the heap, as there may be two.
    let (mut report, absence) = Box::pin(attempt(id, environment, turn, body)).await;
    if let (Outcome::Broken { reason }, Some(_)) = (&report.outcome, absence)
        // What is kept is in the way.
        && !environment.keep
        && environment.client.apiserver_version().await.is_ok()
    {
        let text = format!(
            "{name} is begun anew: {}",
            reason.lines().next().unwrap_or_default()
        );
        environment.events.send(Event::Note { text });
        // What the spoilt attempt left stays beside that of the next. Without evidence there is nothing to move.
        let evidence = environment.evidence.join(id.folder());
        let _ = std::fs::rename(
            &evidence,
            environment.evidence.join(format!("{}-spoilt", id.folder())),
        );
        let turn = environment.turns.take().await;
        (report, _) = Box::pin(attempt(id, environment, turn, body)).await;
    }
    environment.events.send(Event::TrialFinished {
        report: Box::new(report.clone()),
    });
    report
}

/// Runs the trial in a namespace of its own. Also says for how long the API server was away meanwhile, if it was.
async fn attempt(
    id: &TrialId,
    environment: &Environment,
    turn: Turn,
    body: Body,
) -> (TrialReport, Option<Duration>) {
    let timeline = Timeline::default();
    let mut report = blank_report(id);
    let started = jiff::Timestamp::now();
    let namespace = id.namespace(&environment.placement.namespace_prefix, &environment.run);
    match namespace::create(environment, &namespace, &id.to_string()).await {
        Err(error) => {
            let reason = format_error(&error.into());
            report.outcome = Outcome::Broken { reason };
        }
        Ok(()) => run_in(id, environment, &namespace, &timeline, turn, body, &mut report).await,
    }
    report.duration_ms = timeline.elapsed_ms();
    report.record.started = Some(started);
    (report, timeline.patience().absence())
}

/// A report for a trial that does not run here, with the reason.
pub fn skipped(id: &TrialId, reason: String) -> TrialReport {
    TrialReport {
        outcome: Outcome::Skipped { reason },
        ..blank_report(id)
    }
}

async fn run_in(
    id: &TrialId,
    environment: &Environment,
    namespace: &str,
    timeline: &Timeline,
    turn: Turn,
    body: Body,
    report: &mut TrialReport,
) {
    let watch = timeline.watch(&environment.client, namespace);
    let mut context = Context::new(
        environment.clone(),
        id.clone(),
        namespace.to_owned(),
        timeline.clone(),
    );
    context.turn = Some(turn);
    let ended = AssertUnwindSafe(body(&mut context)).catch_unwind().await;
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(panic) => Some(anyhow::anyhow!(
            "the scenario panicked: {}",
            panic_text(panic.as_ref())
        )),
    };
    note_images(&context).await;
    report.steps = context.take_steps();
    report.measurements = context.take_measurements();
    report.record = context.take_record();
    report.outcome = Outcome::Passed;
    if failure.is_none()
        && let Err(problem) = context.discard_data()
    {
        report.cleanup.push(format!(
            "the record of the trial's data could not be removed: {problem}"
        ));
    }
    if let Some(TrialError::NotJudged(reason)) = failure.as_ref().and_then(|error| error.downcast_ref()) {
        report.outcome = Outcome::Skipped {
            reason: reason.clone(),
        };
    } else if let Some(error) = failure {
        timeline.record(Kind::Note, "trial", "failed; evidence is taken now");
        let evidence = diagnostics::collect(&context, &error).await;
        let folder = PathBuf::from(id.folder());
        match diagnostics::write(&evidence, &environment.evidence.join(&folder)) {
            Ok(()) => report.evidence = Some(PathBuf::from("evidence").join(folder)),
            Err(problem) => report
                .cleanup
                .push(format!("the evidence could not be written: {problem}")),
        }
        report.outcome = outcome(&context, &error, &evidence);
        record_failure(report, &error, &evidence);
    }
    drop(watch);
    report.record.timeline = timeline.entries();
    *report = without_secrets(report, context.redactor());
    if !environment.keep
        && let Err(problem) = namespace::delete(environment, namespace).await
    {
        report.cleanup.push(problem);
    }
}

/// Notes which images the servers run. A cluster that does not answer has none to note; that is told elsewhere.
async fn note_images(context: &Context) {
    if let Ok(pods) = context.server_pods().await {
        for pod in &pods {
            context.environment().images.record(pod);
        }
    }
}

/// An environment that failed is told from a deployment that did.
fn outcome(context: &Context, error: &anyhow::Error, evidence: &diagnostics::Evidence) -> Outcome {
    let message = context.redact(&format_error(error));
    match error.downcast_ref() {
        Some(TrialError::Invalid(_)) => return Outcome::Invalid { reason: message },
        Some(TrialError::Journal(_) | TrialError::Unrecorded(_)) => {
            return Outcome::Broken { reason: message };
        }
        _ => {}
    }
    if let Some(fault) = environment_fault(error) {
        return Outcome::Broken {
            reason: format!("{fault}: {message}"),
        };
    }
    if let Some(absence) = context.timeline().patience().absence() {
        return Outcome::Broken {
            reason: format!(
                "the API server was away for {:.0} s, and what was seen in that time proves nothing: {message}",
                absence.as_secs_f64().ceil()
            ),
        };
    }
    let cause = diagnostics::triage(evidence).map(|cause| context.redact(&cause));
    Outcome::Failed { cause, message }
}

/// What the evidence says, as far as it belongs into the report.
fn record_failure(report: &mut TrialReport, error: &anyhow::Error, evidence: &diagnostics::Evidence) {
    let record = &mut report.record;
    if let Some(TrialError::Unhealthy { violations, .. }) =
        error.chain().find_map(|cause| cause.downcast_ref::<TrialError>())
    {
        record.broken(violations);
    } else if let Some(seen) = &evidence.observation {
        // Something else ended the trial; which promises do not hold at its end is worth knowing all the same.
        record.broken(&checks::run(seen, Moment::Settled));
    }
    if let Some(seen) = &evidence.observation {
        let at_ms = evidence.timeline.last().map_or(0, |entry| entry.at_ms);
        record
            .slot_maps
            .extend(SlotMapReport::new("the failure", at_ms, seen));
    }
    record.exhibits = diagnostics::exhibits(evidence);
    if let Outcome::Failed { cause: None, .. } = &report.outcome {
        record.facts = diagnostics::telling_facts(evidence);
    }
}

/// The report without any password, wherever one may have got to.
fn without_secrets(report: &TrialReport, redactor: &Redactor) -> TrialReport {
    let mut tree = serde_json::to_value(report).expect("a report is plain JSON");
    redactor.redact_json(&mut tree);
    serde_json::from_value(tree).expect("a report without passwords is a report")
}

/// The whole chain of causes in one text, without repeating what an outer error says of an inner one.
pub fn format_error(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let next = cause.to_string();
        if text.is_empty() {
            text = next;
        } else if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
    }
    text
}

/// A cause of this type, also where it stands in a box, which to the standard library is another type, or in an I/O error,
/// which leaves out what it wraps when it is asked for its source.
fn find<'a, E: Error + 'static>(cause: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let boxed = || cause.downcast_ref::<Box<E>>().map(Box::as_ref);
    let wrapped = || cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref();
    cause.downcast_ref().or_else(boxed).or_else(wrapped)
}

/// Whether the API server itself could not be asked, rather than having said something about what it was asked.
fn environment_fault(error: &anyhow::Error) -> Option<&'static str> {
    if error
        .chain()
        .filter_map(find::<ChartError>)
        .any(ChartError::is_environment)
    {
        return Some("helm could not be run");
    }
    error.chain().find_map(|cause| match find::<kube::Error>(cause)? {
        kube::Error::Service(_)
        | kube::Error::HyperError(_)
        | kube::Error::Auth(_)
        | kube::Error::ReadEvents(_) => Some("the connection to the cluster failed"),
        // A port-forward or an exec; 500 is the kubelet's, about the pod.
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            match status.as_u16() {
                401 | 403 => Some("the user is not allowed to do this"),
                429 => Some("the cluster is overloaded"),
                502..=504 => Some("the API server is not available"),
                _ => None,
            }
        }
        kube::Error::Api(status) => match status.code {
            401 => Some("the cluster no longer knows the user"),
            // Admission refuses with 403 too, and that is about the manifests; only RBAC speaks of the user.
            403 if status.message.contains("forbidden: User ") => Some("the user is not allowed to do this"),
            429 => Some("the cluster is overloaded"),
            502..=504 => Some("the API server is not available"),
            _ => None,
        },
        _ => None,
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

fn blank_report(id: &TrialId) -> TrialReport {
    let (mode, variant) = (id.mode.as_str(), id.variant.as_str());
    TrialReport::blank(id.suite, id.scenario, mode, variant, Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::release::ReleaseError;
    use crate::wait::WaitError;

    #[test]
    fn an_error_chain_is_told_once() {
        let error = anyhow::anyhow!("connection refused").context("connect to vk-0: connection refused");
        assert_eq!(
            format_error(&error.context("observe")),
            "observe: connect to vk-0: connection refused"
        );
    }

    #[test]
    fn an_answer_of_the_api_server_is_no_fault_of_the_environment() {
        let answer = |code: u16, message: &str| {
            let status = kube::core::Status {
                code,
                message: message.to_owned(),
                ..Default::default()
            };
            let refused = Err::<(), _>(kube::Error::Api(Box::new(status)));
            environment_fault(&refused.context("apply").unwrap_err()).is_some()
        };
        assert!(!answer(422, "Invalid value"));
        assert!(!answer(
            403,
            "pods \"vk-0\" is forbidden: violates PodSecurity \"restricted:latest\""
        ));
        assert!(answer(
            403,
            "pods is forbidden: User \"ci\" cannot list resource \"pods\""
        ));
        assert!(answer(401, "Unauthorized"));
        assert!(answer(503, "etcdserver: leader changed"));
        let unreachable = || kube::Error::Service(Box::new(std::io::Error::other("gone")));
        let plain = Err::<(), _>(unreachable()).context("apply").unwrap_err();
        assert!(environment_fault(&plain).is_some());
        let boxed = TrialError::api("list pods", unreachable());
        assert!(environment_fault(&boxed.into()).is_some());
        // As a port-forward hands it on, and as a watch does.
        let dialled = std::io::Error::other(unreachable());
        let dialled = crate::valkey::ConnectError::Dial(dialled);
        let (pod, source) = ("vk-0".to_owned(), dialled);
        assert!(environment_fault(&TrialError::Connect { pod, source }.into()).is_some());
        let watched = |source| WaitError::Watch {
            subject: "pods".to_owned(),
            source: Box::new(kube::runtime::watcher::Error::InitialListFailed(source)),
        };
        assert!(environment_fault(&TrialError::from(watched(unreachable())).into()).is_some());
        let missing = ReleaseError::Chart(Box::new(ChartError::Missing));
        assert!(environment_fault(&TrialError::from(missing).into()).is_some());
    }
}
