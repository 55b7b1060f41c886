//! Probe workers, one per container and kind, with the kubelet's semantics: what runs when, what counts, and
//! what a result does. There is no start-up jitter: the kubelet only adds it after a restart of its own.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::PodContext;
use super::board::{Kill, Running};
use super::handler::{Outcome, Target};

/// The kubelet tries a probe that cannot be carried out this many times before it gives this run up.
const ATTEMPTS: u32 = 3;

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
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

/// Runs until the pod is done with.
pub(super) async fn run(pod: Arc<PodContext>, container: Container, kind: Kind, probe: Probe) {
    let period = Duration::from_secs(u64::try_from(probe.period_seconds.unwrap_or(10).max(1)).unwrap_or(10));
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
    kind: Kind,
    probe: Probe,
    counter: Counter,
    /// The container instance the counts belong to.
    instance: String,
    on_hold: bool,
}

impl Worker {
    /// A sync of a pod that is not ready triggers its readiness probe at once.
    async fn triggered(&self, synced: &mut tokio::sync::watch::Receiver<u64>) {
        loop {
            if self.kind != Kind::Readiness || synced.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let name = &self.container.name;
            if self
                .pod
                .board
                .look(name, |record| record.started() && !record.ready())
                == Some(true)
            {
                return;
            }
        }
    }

    /// Whether there will be anything to probe later.
    async fn tick(&mut self) -> bool {
        let name = self.container.name.clone();
        let Some(seen) = self
            .pod
            .board
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
        if self.pod.is_deleted() && self.kind != Kind::Readiness {
            // The kubelet takes it as a success, and stops.
            return false;
        }
        if running.since.elapsed().as_secs()
            < u64::try_from(self.probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0)
        {
            return true;
        }
        // Startup probes run until they succeed, the others from then on.
        if (self.kind == Kind::Startup) != (startup == Some(false)) {
            return true;
        }
        if let Some(success) = self.probe_once(&running).await {
            self.count(&running, success);
        }
        true
    }

    /// `None` when nothing was learnt.
    async fn probe_once(&self, running: &Running) -> Option<bool> {
        let pod_ip = self.pod.pod_ip();
        let target = Target {
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
            // A probe of a container that has just ended says nothing anyone needs to know.
            let current = self.pod.board.look(&self.container.name, |r| {
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
            (Kind::Readiness, ready) => self.set(running, |record| {
                (record.readiness != Some(ready))
                    .then(|| record.readiness = Some(ready))
                    .is_some()
            }),
            (Kind::Startup, true) => {
                self.set(running, |record| {
                    record.startup = Some(true);
                    true
                });
                self.pod.synced();
            }
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => {
                self.on_hold = true;
                self.counter = Counter::default();
                self.kill(running);
            }
        }
    }

    /// Changes the record if it is still about the instance that was probed.
    fn set(&self, running: &Running, change: impl FnOnce(&mut super::board::Record) -> bool) {
        let mut records = self.pod.board.records();
        let Some(record) = records.get_mut(&self.container.name) else {
            return;
        };
        let current = record.running().is_some_and(|now| now.id == running.id);
        let changed = current && change(record);
        drop(records);
        if changed {
            self.pod.board.touch();
        }
    }

    fn kill(&self, running: &Running) {
        let what = match self.kind {
            Kind::Startup => "startup",
            Kind::Liveness | Kind::Readiness => "liveness",
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
        // Full or closed means that the container is being killed already.
        let _ = running.kill.try_send(kill);
    }
}

/// Consecutive equal results.
#[derive(Debug, Default)]
struct Counter {
    last: Option<bool>,
    run: i32,
}

impl Counter {
    /// Whether this result now counts.
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
    use super::Counter;

    #[test]
    fn results_count_from_the_threshold_on_and_start_over_when_they_change() {
        let mut counter = Counter::default();
        let counts: Vec<bool> = [false, false, false, false, true, false, false]
            .into_iter()
            .map(|success| counter.add(success, if success { 1 } else { 3 }))
            .collect();
        assert_eq!(counts, [false, false, true, true, true, false, false]);
    }
}
