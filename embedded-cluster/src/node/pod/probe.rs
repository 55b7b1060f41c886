//! Probe workers, one per container and kind, with the semantics of the kubelet, but without the
//! start-up jitter that it only adds after its restart.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::PodContext;
use super::container_records::{Kill, Running};
use super::handler::{HandlerTarget, Outcome};
use crate::seconds::bounded;

/// The number of times that the kubelet tries a probe that cannot be carried out.
const ATTEMPTS: u32 = 3;

/// The kinds of probes, by their effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub(super) const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub(super) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Runs the probe until the pod is finished.
pub(super) async fn run(pod: Arc<PodContext>, container: Container, kind: ProbeKind, probe: Probe) {
    let period = bounded(probe.period_seconds.unwrap_or(10).max(1));
    let mut ticker = interval_at(Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut synced = pod.sync.subscribe();
    let mut worker = Worker {
        pod: Arc::clone(&pod),
        container,
        kind,
        probe,
        counter: Counter::default(),
        instance: String::new(),
        on_hold: false,
    };
    loop {
        let keep_going = tokio::select! {
            keep_going = worker.tick() => keep_going,
            () = pod.done.cancelled() => return,
        };
        if !keep_going {
            return;
        }
        tokio::select! {
            _ = ticker.tick() => {}
            () = worker.triggered(&mut synced) => ticker.reset(),
            () = pod.done.cancelled() => return,
        }
    }
}

struct Worker {
    pod: Arc<PodContext>,
    container: Container,
    kind: ProbeKind,
    probe: Probe,
    counter: Counter,
    /// The container instance to which the counts belong.
    instance: String,
    on_hold: bool,
}

impl Worker {
    /// Waits for a trigger: a sync of a pod that is not ready triggers its readiness probe at once.
    async fn triggered(&self, synced: &mut tokio::sync::watch::Receiver<u64>) {
        loop {
            if self.kind != ProbeKind::Readiness || synced.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let name = &self.container.name;
            if self
                .pod
                .records
                .look(name, |record| record.started() && !record.ready())
                == Some(true)
            {
                return;
            }
        }
    }

    /// Runs one tick of the probe. Returns true if there may be something to probe later.
    async fn tick(&mut self) -> bool {
        let name = self.container.name.clone();
        let Some(seen) = self
            .pod
            .records
            .look(&name, |record| (record.running().cloned(), record.startup))
        else {
            return true;
        };
        let (Some(running), startup) = seen else {
            return true;
        };
        if running.id != self.instance {
            self.instance.clone_from(&running.id);
            self.counter = Counter::default();
            self.on_hold = false;
        }
        if self.on_hold {
            return true;
        }
        if self.pod.is_deleted() && self.kind != ProbeKind::Readiness {
            // The kubelet counts this as a success and stops.
            return false;
        }
        let delay = i64::from(self.probe.initial_delay_seconds.unwrap_or(0));
        if whole_seconds_since(running.started_at, Timestamp::now()) < delay {
            return true;
        }
        // Startup probes run until they succeed; the others run from then on.
        if (self.kind == ProbeKind::Startup) != (startup == Some(false)) {
            return true;
        }
        if let Some(success) = self.probe_once(&running).await {
            self.count(&running, success);
        }
        true
    }

    /// Probes once; returns `None` when there is no result.
    async fn probe_once(&self, running: &Running) -> Option<bool> {
        let pod_ip = self.pod.pod_ip();
        let target = HandlerTarget {
            executor: &self.pod.node.executor,
            running,
            container: &self.container,
            pod_ip: &pod_ip,
        };
        let mut outcome = Outcome::Success;
        for _ in 0..ATTEMPTS {
            outcome = target.probe(&self.probe).await;
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
        }
        let title = self.kind.title();
        let warn = |text: String| {
            // A probe result of a container that has just ended is not reported.
            let current = self.pod.records.look(&self.container.name, |r| {
                r.running().is_some_and(|r| r.id == running.id)
            });
            if current == Some(true) {
                self.pod.warning(Some(&self.container.name), "Unhealthy", text);
            }
        };
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Failure(output) => {
                warn(format!("{title} probe failed: {output}"));
                Some(false)
            }
            Outcome::Error(error) => {
                warn(format!(
                    "{title} probe errored and resulted in unknown state: {error}"
                ));
                None
            }
        }
    }

    fn count(&mut self, running: &Running, success: bool) {
        let threshold = if success {
            self.probe.success_threshold.unwrap_or(1)
        } else {
            self.probe.failure_threshold.unwrap_or(3)
        };
        if !self.counter.add(success, threshold) {
            return;
        }
        match (self.kind, success) {
            (ProbeKind::Readiness, ready) => self.set(running, |record| {
                (record.readiness != Some(ready))
                    .then(|| record.readiness = Some(ready))
                    .is_some()
            }),
            (ProbeKind::Startup, true) => {
                self.set(running, |record| {
                    record.startup = Some(true);
                    true
                });
                self.pod.synced();
            }
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                self.on_hold = true;
                self.counter = Counter::default();
                self.kill(running);
            }
        }
    }

    /// Changes the record if it still belongs to the instance that was probed.
    fn set(&self, running: &Running, change: impl FnOnce(&mut super::container_records::Record) -> bool) {
        let mut records = self.pod.records.records();
        let Some(record) = records.get_mut(&self.container.name) else {
            return;
        };
        let current = record.running().is_some_and(|now| now.id == running.id);
        let changed = current && change(record);
        drop(records);
        if changed {
            self.pod.records.touch();
        }
    }

    fn kill(&self, running: &Running) {
        let what = match self.kind {
            ProbeKind::Startup => "startup",
            ProbeKind::Liveness | ProbeKind::Readiness => "liveness",
        };
        let restarted = if self.pod.restart_policy() == "Never" {
            ""
        } else {
            ", will be restarted"
        };
        let message = format!("Container {} failed {what} probe{restarted}", self.container.name);
        let kill = Kill {
            message,
            grace_seconds: self.probe.termination_grace_period_seconds,
        };
        // A full or closed channel means that the container is already being killed.
        let _ = running.kill.try_send(kill);
    }
}

/// Returns the whole seconds since the start. The kubelet uses the start time of the API, which is
/// cut to the second, and cuts the result again. A delay of five seconds is thus over after four to
/// five.
fn whole_seconds_since(start: Timestamp, now: Timestamp) -> i64 {
    now.as_second() - start.as_second()
}

/// A count of consecutive equal results.
#[derive(Debug, Default)]
struct Counter {
    last: Option<bool>,
    run: i32,
}

impl Counter {
    /// Returns true if this result now counts.
    fn add(&mut self, success: bool, threshold: i32) -> bool {
        if self.last == Some(success) {
            self.run += 1;
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        self.run >= threshold
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Timestamp, whole_seconds_since};

    #[test]
    fn an_initial_delay_counts_from_the_second_of_the_start() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let start = at("2026-01-01T00:00:00.9Z");
        assert_eq!(whole_seconds_since(start, at("2026-01-01T00:00:04.9Z")), 4);
        assert_eq!(whole_seconds_since(start, at("2026-01-01T00:00:05.0Z")), 5);
    }

    #[test]
    fn results_count_from_the_threshold_and_reset_on_a_change() {
        let mut counter = Counter::default();
        let counts: Vec<bool> = [false, false, false, false, true, false, false]
            .into_iter()
            .map(|success| counter.add(success, if success { 1 } else { 3 }))
            .collect();
        assert_eq!(counts, [false, false, true, true, true, false, false]);
    }
}
