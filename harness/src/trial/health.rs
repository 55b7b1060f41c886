//! Healthy means that every promise holds at once, from every node's point of view. Until then things may look wrong in
//! ways that are normal; only what is still wrong at the deadline is reported.

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;

use super::context::Context;
use super::error::TrialError;
use super::hopeless::{LOCKED, NEVER_READY, UNABLE_TO_SYNC, UNFORMED, hopeless};
use crate::checks::{self, Check, Moment, Violation};
use crate::valkey::ClusterObservation;
use crate::wait::{self, Expectation, Verdict, conditions};

/// How often to look. An observation of six nodes costs tens of milliseconds; half a second leaves the machine to them.
const INTERVAL: Duration = Duration::from_millis(500);

/// How often to look at what should stay as it is.
const HOLD_INTERVAL: Duration = Duration::from_secs(5);

/// How long to keep looking at promises after the pods have failed to become ready: they say why.
const LAST_LOOK: Duration = Duration::from_secs(2);

impl Context {
    /// Waits until every pod is ready and every promise holds, and returns the observation that shows it. When the
    /// deadline passes, the error lists what was still wrong.
    pub async fn healthy(&mut self) -> Result<ClusterObservation, TrialError> {
        let step = self.steps.begin("become healthy");
        let release = self.release().ok_or(TrialError::NotInstalled)?;
        let observer = self.observer(self.installed_values()?);
        let healthy = tokio::select! {
            biased;
            doomed = release.doomed() => Err(doomed.into()),
            hopeless = hopeless(&observer, &[UNFORMED, UNABLE_TO_SYNC, LOCKED, NEVER_READY], self.timeline().patience()) => Err(hopeless),
            healthy = self.become_healthy() => healthy,
        };
        let took = self.steps.end(step, healthy.is_ok());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a trial lasts less than 2^53 milliseconds"
        )]
        self.measure("healthy_ms", took as f64);
        if let Ok(seen) = &healthy {
            self.record_kept(checks::OBSERVATION_CHECKS.iter().map(|(name, _)| *name));
            self.record_slot_map(&self.steps.before_last(), seen);
            self.past.remember(seen.clone());
        }
        healthy
    }

    /// Watches for `length` whether what is healthy stays so: the last act of a scenario, so that other trials take its
    /// turn meanwhile. A blip is no finding; what does not go away within the time that becoming healthy may take is, and
    /// so is a failover that nobody caused.
    pub async fn hold_stable(&mut self, length: Duration) -> Result<(), TrialError> {
        let step = self
            .steps
            .begin(&format!("stay healthy for {} s", length.as_secs()));
        self.turn = None;
        let held = self.held(length).await;
        self.steps.end(step, held.is_ok());
        held
    }

    async fn held(&mut self, length: Duration) -> Result<(), TrialError> {
        let before = self.past.last().cloned();
        let end = tokio::time::Instant::now() + length;
        loop {
            let next = (tokio::time::Instant::now() + HOLD_INTERVAL).min(end);
            // Time is the point: whether something happens while nothing is done.
            tokio::time::sleep_until(next).await;
            let seen = self.promises_hold(self.environment().deadlines.healthy).await?;
            let moved = before
                .iter()
                .flat_map(|before| checks::history::failovers(before, &seen));
            TrialError::unless_kept(moved.collect())?;
            if next == end {
                return Ok(());
            }
        }
    }

    /// Looks once, and fails if any of `checks` finds a promise broken.
    pub async fn verify(&mut self, name: &str, checks: &[Check]) -> Result<ClusterObservation, TrialError> {
        let step = self.steps.begin(name);
        let seen = self.observe().await;
        let verified = seen.and_then(|seen| {
            TrialError::unless_kept(checks.iter().flat_map(|check| check(&seen)).collect())?;
            Ok(seen)
        });
        self.steps.end(step, verified.is_ok());
        if let Ok(seen) = &verified {
            self.record_kept(checks.iter().filter_map(|check| checks::name_of(*check)));
            self.record_slot_map(name, seen);
        }
        verified
    }

    async fn become_healthy(&self) -> Result<ClusterObservation, TrialError> {
        let budget = self.environment().deadlines.healthy;
        let started = tokio::time::Instant::now();
        let ready = self.rolled_out(budget).await;
        let excused = self.timeline().patience().excused(started);
        let left = (budget + excused)
            .saturating_sub(started.elapsed())
            .max(LAST_LOOK);
        let held = self.promises_hold(left).await;
        match (held, ready) {
            (Err(unhealthy @ TrialError::Unhealthy { .. }), _) => Err(unhealthy),
            (_, Err(not_ready)) => Err(not_ready),
            (held, Ok(())) => held,
        }
    }

    /// Waits for every StatefulSet of the release to have all its pods ready.
    async fn rolled_out(&self, budget: Duration) -> Result<(), TrialError> {
        let sets: Api<StatefulSet> = Api::namespaced(self.client(), self.namespace());
        let what = Expectation::new("the StatefulSet", "to have every pod ready", budget)
            .patient(self.timeline().patience());
        let config = kube::runtime::watcher::Config::default();
        let rolled_out = wait::objects(&sets, config, what, |sets| {
            let waiting = sets.iter().find(|(_, set)| !conditions::is_rolled_out(set));
            match waiting {
                Some((name, set)) => Verdict::NotYet(describe(name, set)),
                None if sets.is_empty() => Verdict::NotYet("there is no StatefulSet".to_owned()),
                None => Verdict::Ready(()),
            }
        });
        Ok(rolled_out.await?)
    }

    async fn promises_hold(&self, budget: Duration) -> Result<ClusterObservation, TrialError> {
        let what = Expectation::new("the release", "to keep every promise", budget)
            .patient(self.timeline().patience());
        let last: Mutex<Vec<Violation>> = Mutex::default();
        let observer = self.observer(self.installed_values()?);
        let judged = |seen: &ClusterObservation| {
            let mut violations = checks::run(seen, Moment::Settled);
            violations.extend(self.past.violations(seen));
            violations
        };
        let held = wait::poll(what, INTERVAL, || async {
            let look = async {
                let seen = observer.observe().await?;
                let violations = judged(&seen);
                if !violations.is_empty() {
                    return Ok((seen, violations));
                }
                // Connections are kept from look to look; what is called well must be so for who connects now.
                let seen = observer.observe_anew().await?;
                let violations = judged(&seen);
                Ok::<_, TrialError>((seen, violations))
            };
            let (seen, violations) = match look.await {
                Ok(looked) => looked,
                Err(error) => return Verdict::NotYet(error.to_string()),
            };
            let verdict = match violations.first() {
                None => Verdict::Ready(seen),
                Some(first) => {
                    Verdict::NotYet(format!("{} broken, the first being {first}", violations.len()))
                }
            };
            *last.lock().expect("no code panics while it holds the violations") = violations;
            verdict
        });
        held.await.map_err(|error| {
            let violations = last
                .into_inner()
                .expect("no code panics while it holds the violations");
            if violations.is_empty() {
                return error.into();
            }
            TrialError::Unhealthy {
                waited: format!("within {} s", budget.as_secs()),
                violations,
            }
        })
    }
}

fn describe(name: &str, set: &StatefulSet) -> String {
    let status = set.status.clone().unwrap_or_default();
    let wanted = set.spec.replicas.unwrap_or(1);
    let ready = status.ready_replicas.unwrap_or(0);
    format!(
        "{name}: {ready} of {wanted} pods ready, {} updated",
        status.updated_replicas.unwrap_or(0)
    )
}
