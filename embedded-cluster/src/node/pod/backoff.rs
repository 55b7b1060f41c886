//! When a container that ended may start again, as the kubelet decides it.

use std::time::Duration;

use tokio::time::Instant;

/// The kubelet's initial and longest back-off, for containers and for images.
const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);

/// The back-off of one container.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    current: Option<(Duration, Instant)>,
}

impl Backoff {
    /// How long to wait now that the container ended at `ended` (`None`: not at all).
    pub(super) fn after(&mut self, ended: Instant) -> Option<Duration> {
        let next = match self.current {
            // Ten minutes without trouble make up for everything before.
            Some((_, last)) if ended.saturating_duration_since(last) > 2 * MAX => None,
            Some((current, _)) => Some(current),
            None => None,
        };
        let following = next.map_or(INITIAL, |current| (current * 2).min(MAX));
        self.current = Some((following, ended + next.unwrap_or_default()));
        next
    }
}

/// Go's rendering of such a duration: `10s`, `1m20s`, `5m0s`.
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

    #[tokio::test]
    async fn the_first_restart_is_immediate_then_it_doubles_to_five_minutes() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let waits: Vec<Option<u64>> = (0..8)
            .map(|_| backoff.after(now).map(|wait| wait.as_secs()))
            .collect();
        assert_eq!(
            waits,
            [
                None,
                Some(10),
                Some(20),
                Some(40),
                Some(80),
                Some(160),
                Some(300),
                Some(300)
            ]
        );
    }

    #[tokio::test]
    async fn ten_quiet_minutes_reset_it() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        backoff.after(now);
        backoff.after(now);
        assert_eq!(backoff.after(now + Duration::from_secs(620)), None);
    }

    #[test]
    fn durations_read_like_gos() {
        assert_eq!(render(Duration::from_secs(40)), "40s");
        assert_eq!(render(Duration::from_secs(80)), "1m20s");
        assert_eq!(render(Duration::from_secs(300)), "5m0s");
    }
}
