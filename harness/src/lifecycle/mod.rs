//! The course of a trial: a labelled namespace, the scenario's body, evidence before anything is
//! deleted, clean-up, report.

mod body;
mod outcome;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;

pub use body::{Body, PlainBody};

use crate::checks;
use crate::diagnostics;
use crate::report::outputs::EVIDENCE_FOLDER;
use crate::report::printable::printable_json;
use crate::report::record::SlotMapReport;
use crate::report::{Event, Outcome, TrialReport};
use crate::secret::{Password, Redactor, passwords_in};
use crate::timeline::{EntryKind, Timeline};
use crate::trial::environment::Turn;
use crate::trial::error::When;
use crate::trial::halt::HaltReason;
use crate::trial::secret_watch::SecretWatch;
use crate::trial::{Context, Environment, TrialError, TrialId, format_error, namespace};

/// Runs one trial to its end and reports it to the environment's listeners. An attempt that an
/// outage of the API server spoilt proves nothing about the deployment. The trial then starts
/// again, once, when the server is back.
pub async fn run(id: &TrialId, environment: &Environment, body: &Body) -> TrialReport {
    let name = id.to_string();
    let turn = tokio::select! {
        biased;
        why = environment.halt.halted() => return not_run(id, why.outcome("before this trial began")),
        turn = environment.turns.take() => turn,
    };
    environment
        .events
        .send(Event::TrialStarted { trial: name.clone() });
    // On the heap, because a second attempt may follow.
    let (mut report, absence) = Box::pin(attempt(id, environment, turn, body)).await;
    if let (Outcome::Broken { reason }, Some(_)) = (&report.outcome, absence)
        // The namespace that `keep` left would be in the way.
        && !environment.keep
        && environment.halt.reason().is_none()
        && environment.client.apiserver_version().await.is_ok()
    {
        let text = format!(
            "{name} starts again: {}",
            reason.lines().next().unwrap_or_default()
        );
        environment.events.send(Event::Note { text });
        // The spoilt attempt's evidence stays next to that of the next attempt. Without evidence
        // there is nothing to move.
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

/// Runs the trial in its own namespace. Also returns the length of the API server's absence, if
/// there was one.
async fn attempt(
    id: &TrialId,
    environment: &Environment,
    turn: Turn,
    body: &Body,
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
    (report, timeline.deadline_pauses().absence())
}

/// Reports a trial that does not run here, with the reason.
pub fn skipped(id: &TrialId, reason: String) -> TrialReport {
    not_run(id, Outcome::Skipped { reason })
}

/// Reports a trial that did not start.
pub fn not_run(id: &TrialId, outcome: Outcome) -> TrialReport {
    TrialReport {
        outcome,
        ..blank_report(id)
    }
}

/// Reports a trial that the end of the run cut off. Its clean-up did not finish within `limit`.
pub fn left_behind(id: &TrialId, environment: &Environment, limit: Duration) -> TrialReport {
    let namespace = id.namespace(&environment.placement.namespace_prefix, &environment.run);
    let why = environment.halt.reason().unwrap_or(HaltReason::Interrupted);
    let left = format!("namespace {namespace} was not gone within {} s", limit.as_secs());
    TrialReport {
        outcome: why.outcome("before the end of this trial"),
        cleanup: if environment.borrowed {
            vec![left]
        } else {
            Vec::new()
        },
        ..blank_report(id)
    }
}

async fn run_in(
    id: &TrialId,
    environment: &Environment,
    namespace: &str,
    timeline: &Timeline,
    turn: Turn,
    body: &Body,
    report: &mut TrialReport,
) {
    let watch = timeline.watch(&environment.client, namespace);
    let secrets = SecretWatch::start(&environment.client, namespace);
    let mut context = Context::new(
        environment.clone(),
        id.clone(),
        namespace.to_owned(),
        timeline.clone(),
    );
    context.turn = Some(turn);
    let ended = tokio::select! {
        biased;
        why = environment.halt.halted() => {
            keep_out(&mut context, secrets.seen_so_far());
            cut_off(environment, namespace, timeline, &why, context, report).await;
            return;
        }
        ended = AssertUnwindSafe(body.play(&mut context)).catch_unwind() => ended,
    };
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(panic) => Some(anyhow::anyhow!(
            "the scenario panicked: {}",
            panic_text(panic.as_ref())
        )),
    };
    // Redaction must know the passwords before anything is written.
    keep_out(&mut context, secrets.passwords().await);
    let mut noted = context.recorder.take_noted();
    let unjudged = |error: &anyhow::Error| {
        let error = error.downcast_ref();
        matches!(error, Some(TrialError::NotJudged(_) | TrialError::Invalid(_)))
    };
    let failure = if !noted.violations.is_empty() && failure.as_ref().is_none_or(unjudged) {
        // A broken promise counts, even if the rest cannot be judged.
        let error = TrialError::Unhealthy {
            when: When::DuringTheTrial,
            violations: std::mem::take(&mut noted.violations),
        };
        Some(error.into())
    } else {
        failure
    };
    note_images(&context).await;
    report.steps = context.recorder.take_steps();
    report.measurements = context.recorder.take_measurements();
    report.record = context.recorder.take_record();
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
        timeline.record(EntryKind::Note, "trial", "failed; evidence is taken now");
        let evidence = diagnostics::collect(&context, &error, noted).await;
        let folder = PathBuf::from(id.folder());
        match diagnostics::write(&evidence, &environment.evidence.join(&folder)) {
            Ok(()) => report.evidence = Some(PathBuf::from(EVIDENCE_FOLDER).join(folder)),
            Err(problem) => report
                .cleanup
                .push(format!("the evidence could not be written: {problem}")),
        }
        report.outcome = outcome::outcome(&context, &error, &evidence);
        record_failure(report, &evidence, namespace);
    }
    drop(watch);
    report.record.timeline = timeline.entries();
    *report = without_secrets(report, context.credentials.redactor());
    if !environment.keep
        && let Err(problem) = namespace::delete(environment, namespace).await
    {
        report.cleanup.push(problem);
    }
}

/// Reports a trial that the end of the run cuts off. Removes its namespace if the cluster outlives
/// the run.
async fn cut_off(
    environment: &Environment,
    namespace: &str,
    timeline: &Timeline,
    why: &HaltReason,
    mut context: Context,
    report: &mut TrialReport,
) {
    let entries = timeline.entries();
    let step = entries.iter().rev().find(|entry| entry.kind == EntryKind::Step);
    let step = step.map_or("its first step", |entry| entry.subject.as_str());
    report.outcome = why.outcome(&format!("while this trial was at {step:?}"));
    report.steps = context.recorder.take_steps();
    report.measurements = context.recorder.take_measurements();
    report.record = context.recorder.take_record();
    report.record.timeline = entries;
    // The data's record is in a temporary folder.
    let _ = context.discard_data();
    *report = without_secrets(report, context.credentials.redactor());
    if environment.borrowed
        && !environment.keep
        && let Err(problem) = namespace::delete(environment, namespace).await
    {
        report.cleanup.push(problem);
    }
}

/// Redacts the known passwords of the release: those seen in the namespace, and those in its
/// manifests.
fn keep_out(context: &mut Context, seen: Vec<Password>) {
    let mut passwords = seen;
    if let Some(release) = context.deployment.release() {
        let bundle = release.deployed();
        let hooks = bundle.hooks.iter().map(|hook| &hook.object);
        for object in bundle.resources.iter().chain(hooks) {
            let mut value = serde_json::to_value(&object.content).expect("an object is plain JSON");
            value["kind"] = object.kind().into();
            passwords.extend(passwords_in(&value));
        }
    }
    for password in &passwords {
        context.credentials.keep_out(password);
    }
}

/// Records the images that the servers run. If the cluster does not answer, records nothing;
/// another step reports the failure.
async fn note_images(context: &Context) {
    if let Ok(pods) = context.server_pods().await {
        for pod in &pods {
            context.environment().images.record(pod);
        }
    }
}

/// Adds the evidence's defects and broken promises to the report.
fn record_failure(report: &mut TrialReport, evidence: &diagnostics::Evidence, namespace: &str) {
    let record = &mut report.record;
    record.broken(&evidence.violations);
    if let Outcome::Failed { .. } = report.outcome {
        record.defects = diagnostics::defects::defects(evidence, namespace);
    }
    if let Some(seen) = &evidence.observation {
        if evidence.failure.is_act() {
            // After a failed act, the promises broken at its end are worth reporting too.
            record.broken(&checks::run(seen));
        }
        let at_ms = evidence.timeline.last().map_or(0, |entry| entry.at_ms);
        record
            .slot_maps
            .extend(SlotMapReport::new("the failure", at_ms, seen));
    }
    record.exhibits = diagnostics::exhibits(evidence);
    if let Outcome::Failed { cause: None, .. } = &report.outcome {
        record.facts = diagnostics::relevant_facts(evidence);
    }
}

/// Returns the report without passwords and without terminal control characters.
fn without_secrets(report: &TrialReport, redactor: &Redactor) -> TrialReport {
    let mut tree = serde_json::to_value(report).expect("a report is plain JSON");
    redactor.redact_json(&mut tree);
    printable_json(&mut tree);
    serde_json::from_value(tree).expect("a report without passwords is a report")
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

fn blank_report(id: &TrialId) -> TrialReport {
    let (mode, variant) = (id.mode.as_str(), id.variant.as_str());
    TrialReport::blank(id.suite, &id.scenario, mode, variant, Outcome::Passed)
}
