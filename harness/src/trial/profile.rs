//! Which values and deadlines a run uses.

use std::time::Duration;

use manifests::Values;
use manifests::values::Probe;

/// `fast` for the inner loop, `default` for what the chart itself deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Short probe delays, a short node timeout, no delay before a synchronisation; the rest as the chart has it.
    Fast,
    /// The chart's own values, with nothing changed.
    Default,
}

/// How long each verb may take before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// One hook, as `helm --timeout`.
    pub hook: Duration,
    /// From the end of an act until every promise holds.
    pub healthy: Duration,
    /// From a pod's deletion until its successor is ready.
    pub pod_replacement: Duration,
    /// From the deletion of a namespace until it is gone.
    pub namespace_gone: Duration,
}

/// Node timeout of the fast profile, in milliseconds. A failover takes a little more than this, and on two shared cores
/// a server can miss its peers for a second, which must not look like a failure.
const FAST_NODE_TIMEOUT: u32 = 3_000;

/// A primary waits five seconds for more replicas before it begins a full synchronisation without a disk. Half of
/// a formation's time is this wait, and it decides nothing about the deployment.
const FAST_CONFIG: &str = "repl-diskless-sync-delay 0";

impl Profile {
    /// Its name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
        }
    }

    /// Changes chart values to this profile's.
    pub fn apply(self, values: &mut Values) {
        match self {
            Self::Default => {}
            Self::Fast => {
                values.cluster.node_timeout = FAST_NODE_TIMEOUT;
                hasten(&mut values.startup_probe, 1);
                // Every run of a probe is a process: those of four clusters at a time would occupy a core of a small
                // machine if they ran each second.
                hasten(&mut values.readiness_probe, 2);
                values.config.custom_config = FAST_CONFIG.to_owned();
            }
        }
    }

    /// How long each verb may take.
    pub fn deadlines(self) -> Deadlines {
        let seconds = Duration::from_secs;
        match self {
            Self::Fast => Deadlines {
                hook: seconds(120),
                healthy: seconds(60),
                pod_replacement: seconds(60),
                namespace_gone: seconds(60),
            },
            Self::Default => Deadlines {
                hook: crate::release::HELM_TIMEOUT,
                healthy: seconds(180),
                pod_replacement: seconds(180),
                namespace_gone: seconds(90),
            },
        }
    }
}

/// Probes from the start, every `period` seconds. Timeouts and thresholds stay: they decide what a failure is.
fn hasten(probe: &mut Probe, period: i32) {
    probe.initial_delay_seconds = 0;
    probe.period_seconds = period;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_the_chart_as_it_is() {
        let mut values = Values::default();
        Profile::Default.apply(&mut values);
        assert_eq!(values, Values::default());
    }

    #[test]
    fn the_fast_profile_changes_delays_and_nothing_that_decides_what_a_failure_is() {
        let (chart, mut values) = (Values::default(), Values::default());
        Profile::Fast.apply(&mut values);
        assert_eq!(values.readiness_probe.initial_delay_seconds, 0);
        assert!(values.readiness_probe.period_seconds < chart.readiness_probe.period_seconds);
        assert_eq!(
            values.readiness_probe.timeout_seconds,
            chart.readiness_probe.timeout_seconds
        );
        assert_eq!(
            values.readiness_probe.failure_threshold,
            chart.readiness_probe.failure_threshold
        );
        assert_eq!(values.liveness_probe, chart.liveness_probe);
        assert!(values.cluster.node_timeout < chart.cluster.node_timeout);
    }
}
