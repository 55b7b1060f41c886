//! The delays with which the parts of a cluster notice changes. In real clusters, every change is
//! noticed with a delay, and charts that rely on immediate reactions fail. The defaults are
//! therefore those of a real node. A program that wants shorter delays must set them.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The delays of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// The time from one sync of an unchanged pod to the next. Each wait may be up to 1.5 times as
    /// long. Mounted Secrets and ConfigMaps follow their objects at a sync. This is the kubelet's
    /// `syncFrequency`.
    pub pod_sync: Duration,
    /// The time between checks of a container in restart back-off. Each wait may be up to 1.5 times
    /// as long. This is the kubelet's back-off period.
    pub back_off_sync: Duration,
    /// The time between two checks for containers that have ended. This is the kubelet's relist
    /// period.
    pub relist: Duration,
    /// The least time between two updates of Service routing; a single change takes a quarter of
    /// it. This is kube-proxy's `minSyncPeriod`.
    pub data_plane: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            pod_sync: Duration::from_secs(60),
            back_off_sync: Duration::from_secs(10),
            relist: Duration::from_secs(1),
            data_plane: Duration::from_secs(1),
        }
    }
}

impl Delays {
    /// Returns delays shorter than a real cluster's, for tests of other subjects and short runs.
    pub fn short() -> Self {
        Self {
            pod_sync: Duration::from_secs(1),
            back_off_sync: Duration::from_secs(1),
            relist: Duration::ZERO,
            data_plane: Duration::ZERO,
        }
    }
}

/// Returns a random delay from `least` to 1.5 times `least`. The kubelet spreads its work on many
/// pods in this way.
pub(crate) fn spread(least: Duration) -> Duration {
    // `RandomState` is the standard library's only source of randomness and is good enough here.
    let random = RandomState::new().hash_one(()) >> 32;
    least + least.mul_f64(random as f64 / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_delay_is_one_to_one_and_a_half() {
        let least = Duration::from_secs(10);
        let all: Vec<Duration> = (0..100).map(|_| spread(least)).collect();
        assert!(
            all.iter().all(|delay| (least..=least * 3 / 2).contains(delay)),
            "{all:?}"
        );
        assert!(all.iter().any(|delay| *delay != all[0]), "{all:?}");
    }
}
