//! Waiting for health: every promise holds at once, from every node's point of view. A promise may
//! be broken on the way there. Only what is still broken at the deadline is reported.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;

use super::context::Context;
use super::error::{TrialError, When};
use super::terminal_servers::{self, AFTER_HOOKS};
use crate::checks::{self, Check, Violation, replication};
use crate::valkey::ClusterObservation;
use crate::wait::{self, Expectation, Verdict, conditions};

/// Interval between observations. An observation of six nodes takes tens of milliseconds, so half a
/// second leaves the machine to the nodes.
const INTERVAL: Duration = Duration::from_millis(500);

/// Interval between observations of a release that must stay healthy.
const HOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Time to check promises after the pods' deadline has passed. A broken promise explains the
/// failure.
const LAST_LOOK: Duration = Duration::from_secs(2);

impl Context {
    /// Waits until every pod is ready and every promise holds. Then checks that clients in another
    /// namespace can connect. Returns the observation in which every promise held. After the
    /// deadline, the error lists every broken promise.
    pub async fn healthy(&mut self) -> Result<ClusterObservation, TrialError> {
        let healthy = Box::pin(self.healthy_or_terminal());
        let healthy = self.recorder.steps.run("become healthy", healthy).await;
        let took = self.recorder.steps.last_duration_ms();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a trial lasts less than 2^53 milliseconds"
        )]
        self.recorder.measure("healthy_ms", took as f64);
        let whole = healthy.is_ok();
        let seen = match healthy {
            Ok(seen) => seen,
            Err(error) => self.go_on_past(error).await?,
        };
        if whole {
            self.recorder
                .kept(checks::OBSERVATION_CHECKS.iter().map(|(name, _)| *name));
            self.recorder.slot_map(&self.recorder.steps.before_last(), &seen);
            self.deployment.past.remember(seen.clone());
        }
        self.reachable_for_clients(&seen).await?;
        Ok(seen)
    }

    /// Notes broken promises and returns a present observation, if the release serves in spite of
    /// them. Otherwise nothing later has anything to stand on, and the error is returned.
    async fn go_on_past(&mut self, error: TrialError) -> Result<ClusterObservation, TrialError> {
        let TrialError::Unhealthy { violations, .. } = &error else {
            return Err(error);
        };
        let serves = self.observe().await.is_ok_and(|seen| checks::serves(&seen));
        // The first readiness probe may come later than the proof that a promise is broken.
        let budget = self.environment().deadlines.healthy;
        if !serves || self.rolled_out(budget).await.is_err() {
            return Err(error);
        }
        let Ok(seen) = self.observe().await else {
            return Err(error);
        };
        let new = violations.iter().filter(|found| !self.recorder.is_noted(found));
        self.recorder.note_broken(new.cloned().collect());
        self.recorder.note_observation(seen.clone());
        Ok(seen)
    }

    async fn healthy_or_terminal(&self) -> Result<ClusterObservation, TrialError> {
        let release = self.deployment.release().ok_or(TrialError::NotInstalled)?;
        let observer = self.observer(self.deployment.values()?);
        let delay = release.deployed().readiness_delay();
        let pauses = self.timeline().deadline_pauses();
        let mut states = AFTER_HOOKS.to_vec();
        states.retain(|state| !(state.is_of_replication() && self.recorder.has_noted(replication::NAME)));
        tokio::select! {
            biased;
            state = release.terminal_state() => Err(state.into()),
            terminal = terminal_servers::watch(&observer, &states, pauses, delay) => Err(terminal),
            healthy = self.become_healthy() => healthy,
        }
    }

    /// Checks for `length` that the release stays healthy. Must be a scenario's last act, because
    /// it gives the trial's turn to other trials. Reports a problem that outlasts the time allowed
    /// for becoming healthy. Also reports a failover without a cause.
    pub async fn hold_stable(&mut self, length: Duration) -> Result<(), TrialError> {
        self.turn = None;
        let name = format!("stay healthy for {} s", length.as_secs());
        self.recorder.steps.clone().run(name, self.held(length)).await
    }

    async fn held(&mut self, length: Duration) -> Result<(), TrialError> {
        let before = self.deployment.past.last().cloned();
        let end = tokio::time::Instant::now() + length;
        loop {
            let next = (tokio::time::Instant::now() + HOLD_INTERVAL).min(end);
            // The passage of time is the test: does anything change while nothing acts?
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

    /// Observes once, and fails if any of `checks` finds a broken promise.
    pub async fn verify(&mut self, name: &str, checks: &[Check]) -> Result<ClusterObservation, TrialError> {
        let verified = async {
            let seen = self.observe().await?;
            TrialError::unless_kept(checks.iter().flat_map(|check| check(&seen)).collect())?;
            Ok::<_, TrialError>(seen)
        };
        let seen = self.recorder.steps.run(name, verified).await?;
        self.recorder
            .kept(checks.iter().filter_map(|check| checks::name_of(*check)));
        self.recorder.slot_map(name, &seen);
        Ok(seen)
    }

    async fn become_healthy(&self) -> Result<ClusterObservation, TrialError> {
        let budget = self.environment().deadlines.healthy;
        let started = tokio::time::Instant::now();
        let ready = self.rolled_out(budget).await;
        let excused = self.timeline().deadline_pauses().excused(started);
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

    /// Waits until every StatefulSet of the release has all its pods ready.
    async fn rolled_out(&self, budget: Duration) -> Result<(), TrialError> {
        let sets: Api<StatefulSet> = Api::namespaced(self.client(), self.namespace());
        let what = Expectation::new("the StatefulSet", "to have every pod ready", budget)
            .pausing(self.timeline().deadline_pauses());
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
        let what = Expectation::new("the release", "to keep every promise", budget);
        self.until_kept(what, |seen| {
            let mut violations = checks::run(seen);
            violations.extend(self.deployment.past.violations(seen));
            violations.retain(|violation| !self.recorder.is_noted(violation));
            violations
        })
        .await
    }

    /// Waits until every linked replica has its primary's data. Nothing may write meanwhile.
    pub(super) async fn replicas_caught_up(&self) -> Result<(), TrialError> {
        let budget = self.environment().deadlines.healthy;
        let what = Expectation::new("the replicas", "to have their primaries' data", budget);
        self.until_kept(what, replication::check_caught_up).await?;
        Ok(())
    }

    /// Observes the release until `judge` finds nothing, and returns that observation.
    async fn until_kept(
        &self,
        what: Expectation,
        judge: impl Fn(&ClusterObservation) -> Vec<Violation>,
    ) -> Result<ClusterObservation, TrialError> {
        let what = what.pausing(self.timeline().deadline_pauses());
        let budget = what.budget;
        let observer = self.observer(self.deployment.values()?);
        let held = wait::poll_seen(what, INTERVAL, || async {
            let look = async {
                let seen = observer.observe().await?;
                let violations = judge(&seen);
                if !violations.is_empty() {
                    return Ok((seen, violations));
                }
                // Observations reuse connections. A healthy release must also serve a new
                // connection.
                let seen = observer.observe_over_new_connections().await?;
                let violations = judge(&seen);
                Ok::<_, TrialError>((seen, violations))
            };
            match look.await {
                Ok((seen, violations)) if violations.is_empty() => Verdict::Ready(seen),
                Ok((_, violations)) => Verdict::NotYet(Look::Broken(violations)),
                Err(error) => Verdict::NotYet(Look::Failed(error.to_string())),
            }
        });
        held.await.map_err(|unmet| match unmet.seen {
            Some(Look::Broken(violations)) => TrialError::Unhealthy {
                when: When::Within(budget),
                violations,
            },
            Some(Look::Failed(_)) | None => unmet.error.into(),
        })
    }
}

/// The problem that an observation of the release found.
#[derive(PartialEq)]
enum Look {
    /// Broken promises.
    Broken(Vec<Violation>),
    /// The reason why the observation failed.
    Failed(String),
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(violations) => {
                write!(f, "{} broken", violations.len())?;
                let first = violations.first();
                first.map_or(Ok(()), |first| write!(f, ", the first being {first}"))
            }
            Self::Failed(why) => write!(f, "{why}"),
        }
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
