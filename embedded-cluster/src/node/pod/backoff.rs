//! The time at which a container that ended may start again, by the kubelet's rules.
//!
//! The kubelet decides at each sync of the pod, so a container restarts at the first sync after its
//! back-off. A crash loop restarts 1, 12, 42 and 97 s after its first start. The plain back-off
//! would give 0, 10, 30 and 70 s.

use std::time::Duration;

use tokio::time::Instant;

/// The kubelet's initial back-off, for containers and for images. The longest one follows.
const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);

/// The back-off of one container.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// The current delay, and the time at which it was last increased.
    current: Option<(Duration, Instant)>,
    /// True if a probe has caused a kill of the container before.
    killed: bool,
}

impl Backoff {
    /// Returns the total time that the container that ended at `ended` must stay down, if the
    /// back-off holds at `now`.
    pub(super) fn holds(&self, ended: Instant, now: Instant) -> Option<Duration> {
        let (wait, since) = self.current?;
        // Ten minutes without a restart reset the back-off.
        let expired = ended.saturating_duration_since(since) > 2 * MAX;
        (!expired && now.saturating_duration_since(ended) < wait).then_some(wait)
    }

    /// Records that the container that ended at `ended` restarts at `now`. The first time that a
    /// probe caused the end, the kubelet restarts the container in the same sync. No back-off is
    /// counted then.
    pub(super) fn restarts(&mut self, ended: Instant, now: Instant, killed_by_probe: bool) {
        if killed_by_probe && !std::mem::replace(&mut self.killed, true) {
            return;
        }
        let next = match self.current {
            Some((wait, since)) if ended.saturating_duration_since(since) <= 2 * MAX => (wait * 2).min(MAX),
            _ => INITIAL,
        };
        self.current = Some((next, now));
    }
}

/// Formats a duration as Go does: `10s`, `1m20s`, `5m0s`.
pub(super) fn render(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates the starts, in seconds, of a container that runs for `runs` each time. The
    /// simulated kubelet notices an end after a second and checks again every `sync`.
    fn starts(count: usize, runs: Duration, sync: Duration, killed_by_probe: bool) -> Vec<f64> {
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        let mut now = begun;
        let mut starts = vec![0.0];
        while starts.len() < count {
            let ended = now + runs;
            now = ended + Duration::from_secs(1);
            while backoff.holds(ended, now).is_some() {
                now += sync;
            }
            backoff.restarts(ended, now, killed_by_probe);
            starts.push((now - begun).as_secs_f64());
        }
        starts
    }

    #[tokio::test]
    async fn crash_loops_restart_at_the_kubelets_times() {
        let (shortest, longest) = (Duration::from_secs(10), Duration::from_secs(15));
        let runs = Duration::from_millis(200);
        let (early, late) = (starts(5, runs, shortest, false), starts(5, runs, longest, false));
        // Measured on Kubernetes 1.36.
        for (index, real) in [0.0, 1.2, 12.2, 42.2, 97.2].into_iter().enumerate() {
            assert!(
                early[index] - 1.0 <= real && real <= late[index] + 16.0,
                "restart {index}: {early:?} {late:?}"
            );
        }
        assert_eq!(early[..3], [0.0, 1.2, 12.4]);
    }

    #[tokio::test]
    async fn the_first_kill_of_a_probe_is_not_counted() {
        let starts = starts(5, Duration::from_millis(600), Duration::from_secs(10), true);
        // Measured on Kubernetes 1.36: 0, 1.6, 3.3, 16.7, 41.7.
        assert_eq!(starts[..3], [0.0, 1.6, 3.2]);
        assert!((14.0..19.0).contains(&starts[3]), "{starts:?}");
        assert!((36.0..47.0).contains(&starts[4]), "{starts:?}");
    }

    #[tokio::test]
    async fn it_doubles_to_five_minutes_and_is_forgotten_after_ten() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        assert_eq!(backoff.holds(now, now), None);
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            backoff.restarts(now, now, false);
            let wait = Duration::from_secs(seconds);
            assert_eq!(
                backoff.holds(now, now + wait - Duration::from_millis(1)),
                Some(wait)
            );
            assert_eq!(backoff.holds(now, now + wait), None);
            now += wait;
        }
        now += Duration::from_secs(601);
        assert_eq!(backoff.holds(now, now), None);
        backoff.restarts(now, now, false);
        assert_eq!(backoff.holds(now, now), Some(INITIAL));
    }

    #[test]
    fn durations_read_like_gos() {
        assert_eq!(render(Duration::from_secs(40)), "40s");
        assert_eq!(render(Duration::from_secs(80)), "1m20s");
        assert_eq!(render(Duration::from_secs(300)), "5m0s");
    }
}
