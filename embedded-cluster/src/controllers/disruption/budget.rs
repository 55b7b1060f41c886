//! Number of disruptions that a budget allows. Follows the disruption controller of
//! kube-controller-manager.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::controllers::owners::controller_of;
use crate::controllers::pods::{is_ready, is_terminating};

/// The time for which an evicted pod counts as gone if its deletion is never observed.
const EVICTION_REMEMBERED: SignedDuration = SignedDuration::from_secs(120);

/// The counts of a budget.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) expected: i32,
    pub(crate) desired: i32,
}

/// Returns the expected and desired numbers of pods, or the reason why they cannot be known.
/// `scale` returns the number of replicas that a pod's controller wants, or the reason why its kind
/// has none.
pub(crate) fn counts(
    spec: &PodDisruptionBudgetSpec,
    pods: &[&Pod],
    scale: impl Fn(&OwnerReference) -> Result<i32, String>,
) -> Result<Counts, String> {
    if let Some(most) = &spec.max_unavailable {
        let expected = expected(pods, scale)?;
        return Ok(Counts {
            expected,
            desired: expected.saturating_sub(share(most, expected)?).max(0),
        });
    }
    match &spec.min_available {
        // A plain number needs no controller.
        Some(IntOrString::Int(least)) => Ok(Counts {
            expected: i32::try_from(pods.len()).unwrap_or(i32::MAX),
            desired: *least,
        }),
        Some(percentage) => {
            let expected = expected(pods, scale)?;
            Ok(Counts {
                expected,
                desired: share(percentage, expected)?,
            })
        }
        None => Ok(Counts {
            expected: i32::try_from(pods.len()).unwrap_or(i32::MAX),
            desired: 0,
        }),
    }
}

/// Returns the sum of the replicas that the pods' controllers want.
fn expected(pods: &[&Pod], scale: impl Fn(&OwnerReference) -> Result<i32, String>) -> Result<i32, String> {
    let mut scales = BTreeMap::new();
    for pod in pods {
        let controller = controller_of(&pod.metadata)
            .ok_or_else(|| format!("found no controller ref for pod \"{}\"", pod.name_any()))?;
        if !scales.contains_key(&controller.uid) {
            scales.insert(controller.uid.clone(), scale(controller)?);
        }
    }
    Ok(scales.values().copied().fold(0, i32::saturating_add))
}

/// Resolves a number or a percentage of `total`, rounded up.
fn share(value: &IntOrString, total: i32) -> Result<i32, String> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|percent| percent.parse().ok())
                .ok_or_else(|| {
                    format!("invalid value for IntOrString: invalid type: string is not a percentage: {text}")
                })?;
            let share = i64::from(total)
                .saturating_mul(percent)
                .saturating_add(99)
                .div_euclid(100);
            i32::try_from(share).map_err(|_| format!("{text} of {total} is out of range"))
        }
    }
}

/// Computes the status for these counts.
pub(crate) fn status(
    known: &PodDisruptionBudgetStatus,
    pods: &[&Pod],
    counts: Result<&Counts, &String>,
    generation: Option<i64>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let disrupted = still_disrupted(known, pods, now);
    let healthy =
        |pod: &&&Pod| is_ready(pod) && !is_terminating(pod) && !disrupted.contains_key(&pod.name_any());
    let mut status = PodDisruptionBudgetStatus {
        disrupted_pods: (!disrupted.is_empty()).then(|| disrupted.clone()),
        ..known.clone()
    };
    let (allowed, reason, message) = match counts {
        Ok(counts) => {
            let current = i32::try_from(pods.iter().filter(healthy).count()).unwrap_or(i32::MAX);
            let allowed = if counts.expected > 0 {
                current.saturating_sub(counts.desired).max(0)
            } else {
                0
            };
            status.current_healthy = Some(current);
            status.desired_healthy = Some(counts.desired);
            status.expected_pods = Some(counts.expected);
            status.observed_generation = generation;
            (
                allowed,
                if allowed > 0 {
                    "SufficientPods"
                } else {
                    "InsufficientPods"
                },
                String::new(),
            )
        }
        // Fail safe: pods that cannot be counted must not be disrupted.
        Err(why) => (0, "SyncFailed", why.clone()),
    };
    status.disruptions_allowed = Some(allowed);
    set_condition(&mut status, allowed > 0, reason, message, generation, now);
    status
}

fn still_disrupted(
    known: &PodDisruptionBudgetStatus,
    pods: &[&Pod],
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let recorded = known.disrupted_pods.clone().unwrap_or_default().into_iter();
    recorded
        .filter(|(name, since)| {
            let there = pods
                .iter()
                .any(|pod| pod.name_any() == *name && !is_terminating(pod));
            there && now.duration_since(since.0) < EVICTION_REMEMBERED
        })
        .collect()
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    allowed: bool,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) {
    let value = if allowed { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions
        .iter()
        .position(|condition| condition.type_ == "DisruptionAllowed");
    let known = known.map(|index| conditions.remove(index));
    let since = known
        .filter(|known| known.status == value)
        .map_or(Time(now), |known| known.last_transition_time);
    conditions.push(Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: generation,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: &str, owner: &str) -> Pod {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: {name}, ownerReferences: [{{apiVersion: a, kind: {owner}, name: o, uid: {owner}, controller: true}}]}}, \
             status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
        ))
        .expect("a Pod")
    }

    fn spec(yaml: &str) -> PodDisruptionBudgetSpec {
        serde_yaml::from_str(yaml).expect("a spec")
    }

    fn scale(owner: &OwnerReference) -> Result<i32, String> {
        match owner.kind.as_str() {
            "StatefulSet" => Ok(6),
            _ => Err("jobs.batch does not implement the scale subresource".to_owned()),
        }
    }

    fn allowed(yaml: &str, pods: &[Pod]) -> Option<i32> {
        let pods: Vec<_> = pods.iter().collect();
        let counts = counts(&spec(yaml), &pods, scale);
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        status(
            &PodDisruptionBudgetStatus::default(),
            &pods,
            counts.as_ref(),
            Some(1),
            now,
        )
        .disruptions_allowed
    }

    #[test]
    fn max_unavailable_counts_from_what_the_controller_wants() {
        let six: Vec<_> = (0..6)
            .map(|n| pod(&format!("v-{n}"), "True", "StatefulSet"))
            .collect();
        assert_eq!(allowed("{maxUnavailable: 1}", &six), Some(1));
        assert_eq!(
            allowed("{maxUnavailable: 1}", &six[..5]),
            Some(0),
            "one is already missing"
        );
        assert_eq!(allowed("{maxUnavailable: '50%'}", &six), Some(3));
        assert_eq!(
            allowed("{minAvailable: '60%'}", &six),
            Some(2),
            "60 % of 6 rounds up to 4"
        );
        assert_eq!(allowed("{minAvailable: 4}", &six), Some(2));
    }

    #[test]
    fn a_job_pod_in_the_selection_forbids_every_disruption() {
        let pods = [pod("v-0", "True", "StatefulSet"), pod("init", "True", "Job")];
        let refs: Vec<_> = pods.iter().collect();
        let error = counts(&spec("{maxUnavailable: 1}"), &refs, scale).expect_err("no scale");
        assert_eq!(error, "jobs.batch does not implement the scale subresource");
        assert_eq!(allowed("{maxUnavailable: 1}", &pods), Some(0));
    }
}
