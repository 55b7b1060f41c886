//! Values and deadlines of a run.

use std::time::Duration;

use manifests::Values;
use manifests::values::Probe;

/// `fast` shortens delays for development; `default` deploys the chart as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Short probe delays, a short node timeout, no delay before a synchronisation. Everything else
    /// is as in the chart.
    Fast,
    /// The chart's own values, unchanged.
    Default,
}

/// The deadlines of the verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// One hook, as `helm --timeout`.
    pub hook: Duration,
    /// From the end of an action until every promise holds.
    pub healthy: Duration,
    /// From a pod's deletion until its successor is ready.
    pub pod_replacement: Duration,
    /// From the deletion of a namespace until it is gone.
    pub namespace_gone: Duration,
}

/// Node timeout of the fast profile, in milliseconds. A failover takes a little more than this. On
/// two shared cores a server can miss its peers for a second, which must not look like a failure.
const FAST_NODE_TIMEOUT: u32 = 3_000;

/// A primary waits five seconds for more replicas before a diskless full synchronisation. This wait
/// is half of a formation's time, and says nothing about the deployment.
const FAST_CONFIG: &str = "repl-diskless-sync-delay 0";

impl Profile {
    /// Its name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
        }
    }

    /// Changes chart values to those of this profile.
    pub fn apply(self, values: &mut Values) {
        match self {
            Self::Default => {}
            Self::Fast => {
                values.cluster.node_timeout = FAST_NODE_TIMEOUT;
                hasten(&mut values.startup_probe, 1);
                // Each probe starts a process. Probes of four clusters each second would occupy a
                // core of a small machine.
                hasten(&mut values.readiness_probe, 2);
                // A chart may already set directives here.
                let own = values.config.custom_config.trim_end();
                let line = if own.is_empty() { "" } else { "\n" };
                values.config.custom_config = format!("{own}{line}{FAST_CONFIG}");
            }
        }
    }

    /// Returns the deadline of each verb.
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
                hook: release::HELM_TIMEOUT,
                healthy: seconds(180),
                pod_replacement: seconds(180),
                namespace_gone: seconds(90),
            },
        }
    }
}

/// Starts probes at once and repeats them every `period` seconds. Timeouts and thresholds stay, as
/// they define a failure.
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
    fn the_fast_profile_shortens_delays_and_keeps_thresholds() {
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
