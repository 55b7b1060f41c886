//! The timing of one of the three probes of `values.yaml`. Its command is in `render::probes`.

use serde::{Deserialize, Serialize};

/// `livenessProbe`, `readinessProbe` or `startupProbe`, with times in whole seconds as in the
/// kubelet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// True if the container has this probe.
    pub enabled: bool,
    /// Seconds from the container's start to the first run.
    pub initial_delay_seconds: i32,
    /// Seconds between runs.
    pub period_seconds: i32,
    /// Seconds after which a run counts as failed.
    pub timeout_seconds: i32,
    /// Consecutive failures after which the probe fails.
    pub failure_threshold: i32,
    /// Consecutive successes after which the probe succeeds. `values.yaml` has it for liveness and
    /// readiness, the README has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<i32>,
}

impl Probe {
    pub(super) fn liveness() -> Self {
        Self {
            enabled: true,
            initial_delay_seconds: 20,
            period_seconds: 10,
            timeout_seconds: 5,
            failure_threshold: 6,
            success_threshold: Some(1),
        }
    }

    pub(super) fn readiness() -> Self {
        Self {
            enabled: true,
            initial_delay_seconds: 10,
            period_seconds: 10,
            timeout_seconds: 3,
            failure_threshold: 3,
            success_threshold: Some(1),
        }
    }

    pub(super) fn startup() -> Self {
        Self {
            enabled: true,
            initial_delay_seconds: 5,
            period_seconds: 5,
            timeout_seconds: 3,
            failure_threshold: 30,
            success_threshold: None,
        }
    }
}
