//! Remaining servers that must not be ready while an outage brings the cluster down.

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::{INTERVAL, Outage};
use crate::checks::server_container::server_container;
use crate::checks::{Violation, readiness};
use crate::trial::context::Context;
use crate::trial::error::TrialError;
use crate::wait::{self, Expectation, Verdict};

/// Time beyond its probe's in which a pod's condition must be known.
const UNREADY_MARGIN: Duration = Duration::from_secs(10);

impl Context {
    /// Waits until no remaining server is ready, as none serves while the cluster is down. Notes
    /// each that stays ready; it fails the trial at its end.
    pub async fn unready_while_down(&mut self, outage: &Outage) -> Result<(), TrialError> {
        let pods = self.server_pods().await?;
        let Some(longest) = pods.iter().filter_map(time_to_unready).max() else {
            return Ok(());
        };
        let observer = self.observer(self.deployment.values()?);
        let what = Expectation::new(
            "the remaining servers",
            "not to be ready",
            longest + UNREADY_MARGIN,
        )
        .pausing(self.timeline().deadline_pauses());
        let ready: Mutex<Vec<Violation>> = Mutex::default();
        let unready = wait::poll(what, INTERVAL, || async {
            let seen = match observer.observe().await {
                Ok(seen) => seen,
                Err(error) => return Verdict::NotYet(error.to_string()),
            };
            let mut found = readiness::check(&seen);
            found.retain(|violation| !outage.has(&violation.subject));
            match found.first() {
                None => Verdict::Ready(()),
                Some(first) => {
                    let first = first.to_string();
                    *ready
                        .lock()
                        .expect("no code panics while it holds the violations") = found;
                    Verdict::NotYet(first)
                }
            }
        });
        let judged = async {
            let waited = unready.await;
            let found = std::mem::take(&mut *ready.lock().expect("the wait has ended"));
            match waited {
                Ok(()) => Ok(Vec::new()),
                Err(error) if found.is_empty() => Err(TrialError::from(error)),
                Err(_) => Ok(found),
            }
        };
        let steps = self.recorder.steps.clone();
        let found = steps
            .judge("wait until no remaining server is ready", judged)
            .await?;
        if found.is_empty() {
            self.recorder.kept([readiness::NAME]);
        }
        self.recorder.note_broken(found);
        Ok(())
    }
}

/// Returns the longest time from a failure to a pod that is not ready, if the server has a
/// readiness probe.
fn time_to_unready(pod: &Pod) -> Option<Duration> {
    let probe = server_container(pod)?.readiness_probe.as_ref()?;
    let of =
        |set: Option<i32>, default: u64| set.map_or(default, |set| u64::try_from(set).unwrap_or(default));
    let each = of(probe.period_seconds, 10) + of(probe.timeout_seconds, 1);
    Some(Duration::from_secs(each * of(probe.failure_threshold, 3)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pod_is_unready_after_as_many_failures_as_its_probe_allows() {
        let pod = |probe: Value| -> Pod {
            let container = json!({"name": "valkey", "readinessProbe": probe});
            serde_json::from_value(json!({"spec": {"containers": [container]}})).expect("a pod")
        };
        let seconds = |probe| time_to_unready(&pod(probe)).map(|time| time.as_secs());
        assert_eq!(
            seconds(json!({"periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4})),
            Some(20)
        );
        assert_eq!(seconds(json!({})), Some(33), "Kubernetes' defaults");
        assert_eq!(seconds(Value::Null), None);
    }
}
