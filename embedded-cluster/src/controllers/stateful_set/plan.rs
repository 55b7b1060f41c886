//! Decisions about the pods of a StatefulSet to create and delete now.
//!
//! Follows `defaultStatefulSetControl` of kube-controller-manager, in this order:
//!
//! - replicas in ordinal order
//! - condemned pods from the highest ordinal down
//! - the rolling update from the highest ordinal down
//!
//! `OrderedReady` does one thing at a time and waits for each pod. `Parallel` does not wait, except
//! during a rolling update.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::identity::{ordinal_of, ordinals, revision_of};
use crate::controllers::pods::{available_in, is_finished, is_terminating, phase};

/// Maximum number of pods created in one pass, as in kube-controller-manager. A set may ask for two
/// billion.
const MAX_STEPS: usize = 500;

/// The facts that the decision uses.
pub(crate) struct Situation<'a> {
    pub(crate) set: &'a StatefulSet,
    pub(crate) pods: &'a [Arc<Pod>],
    pub(crate) current_revision: &'a str,
    pub(crate) update_revision: &'a str,
    pub(crate) now: Timestamp,
}

/// Actions to take now, all at once, and the time of the next check if nothing changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) recheck: Option<Duration>,
}

/// One action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Creation of the pod of this ordinal, and its claims, from this revision.
    Create { ordinal: i64, revision: String },
    /// Deletion of this pod.
    Delete { pod: String, why: Why },
}

/// The reason for deleting a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The pod failed; its ordinal gets a new one.
    Failed,
    /// The pod ended successfully, which a StatefulSet's pod must not; its ordinal gets a new one.
    Succeeded,
    /// The pod's ordinal is surplus.
    ScaleDown,
    /// The pod has an old revision.
    Update,
}

/// Decides the actions to take now.
pub(crate) fn plan(situation: &Situation<'_>) -> Plan {
    let mut planner = Planner::new(situation);
    if planner.replicas() == Flow::Done || planner.condemned() == Flow::Done {
        return planner.plan;
    }
    planner.rolling_update();
    planner.plan
}

#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Done,
}

struct Planner<'a> {
    situation: &'a Situation<'a>,
    pods: BTreeMap<i64, &'a Pod>,
    ordered: bool,
    min_ready_seconds: i32,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(situation: &'a Situation<'a>) -> Self {
        let spec = &situation.set.spec;
        let pods = situation.pods.iter();
        Self {
            situation,
            pods: pods
                .filter_map(|pod| Some((ordinal_of(situation.set, &pod.name_any())?, pod.as_ref())))
                .collect(),
            ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            plan: Plan::default(),
        }
    }

    fn replicas(&mut self) -> Flow {
        for ordinal in ordinals(self.situation.set) {
            let pod = self.pods.get(&ordinal).copied();
            let waits = match pod {
                None => {
                    let revision = self.revision_for(ordinal).to_owned();
                    self.plan.steps.push(Step::Create { ordinal, revision });
                    // The rest is created after these.
                    if self.plan.steps.len() >= MAX_STEPS {
                        return Flow::Done;
                    }
                    true
                }
                Some(pod) if is_finished(pod) => {
                    if !is_terminating(pod) {
                        let why = if phase(pod) == "Failed" {
                            Why::Failed
                        } else {
                            Why::Succeeded
                        };
                        self.delete(pod, why);
                    }
                    true
                }
                Some(pod) => is_terminating(pod) || !self.is_available(pod),
            };
            if waits && self.ordered {
                return Flow::Done;
            }
        }
        Flow::Continue
    }

    fn condemned(&mut self) -> Flow {
        let wanted = ordinals(self.situation.set);
        let condemned: Vec<&Pod> = self
            .pods
            .iter()
            .rev()
            .filter(|(ordinal, _)| !wanted.contains(ordinal))
            .map(|(_, pod)| *pod)
            .collect();
        // The unhealthy pod of the lowest ordinal may be deleted although it is not ready: nothing
        // waits for it.
        let first_unhealthy = condemned
            .iter()
            .rev()
            .find(|pod| !self.is_available(pod))
            .map(|pod| pod.name_any());
        for pod in condemned {
            if is_terminating(pod) {
                if self.ordered {
                    return Flow::Done;
                }
                continue;
            }
            if self.ordered && !self.is_available(pod) && first_unhealthy != Some(pod.name_any()) {
                return Flow::Done;
            }
            self.delete(pod, Why::ScaleDown);
            if self.ordered {
                return Flow::Done;
            }
        }
        Flow::Continue
    }

    /// Updates one pod at a time, from the highest ordinal down to the partition. Each pod waits
    /// until the one before is available.
    fn rolling_update(&mut self) {
        let Some(partition) = self.partition() else { return };
        for ordinal in ordinals(self.situation.set).rev() {
            if ordinal < partition {
                return;
            }
            let Some(pod) = self.pods.get(&ordinal).copied() else {
                return;
            };
            if is_finished(pod) {
                return;
            }
            if revision_of(pod) != Some(self.situation.update_revision) && !is_terminating(pod) {
                return self.delete(pod, Why::Update);
            }
            if is_terminating(pod) || !self.is_available(pod) {
                return;
            }
        }
    }

    /// Returns the first ordinal that the rolling update covers; `None` with `OnDelete`.
    fn partition(&self) -> Option<i64> {
        let strategy = self.situation.set.spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return None;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        Some(ordinals(self.situation.set).start + i64::from(partition))
    }

    /// Returns the revision for a missing pod. Below the partition, the pod returns with its old
    /// revision.
    fn revision_for(&self, ordinal: i64) -> &'a str {
        match self.partition() {
            Some(partition) if ordinal < partition => self.situation.current_revision,
            _ => self.situation.update_revision,
        }
    }

    /// Returns true if the pod is running and has been ready for long enough. Schedules another
    /// check when only time is missing.
    fn is_available(&mut self, pod: &Pod) -> bool {
        if phase(pod) != "Running" {
            return false;
        }
        match available_in(pod, self.min_ready_seconds, self.situation.now) {
            Some(Duration::ZERO) => true,
            Some(missing) => {
                let sooner = self.plan.recheck.map_or(missing, |recheck| recheck.min(missing));
                self.plan.recheck = Some(sooner);
                false
            }
            None => false,
        }
    }

    fn delete(&mut self, pod: &Pod, why: Why) {
        self.plan.steps.push(Step::Delete {
            pod: pod.name_any(),
            why,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32, policy: &str, strategy: &str) -> StatefulSet {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: v}}, spec: {{replicas: {replicas}, podManagementPolicy: {policy}, updateStrategy: {strategy}, \
             selector: {{}}, template: {{}}}}}}"
        ))
        .expect("a StatefulSet")
    }

    /// Builds a pod from `state`: ready, pending, failed, or terminating, then optionally
    /// `@revision`.
    fn pod(ordinal: i32, state: &str) -> Pod {
        let (state, revision) = state.split_once('@').unwrap_or((state, "new"));
        let phase = match state {
            "failed" => "Failed",
            "pending" => "Pending",
            _ => "Running",
        };
        let ready = if matches!(state, "ready" | "terminating") {
            "True"
        } else {
            "False"
        };
        let deletion = if state == "terminating" {
            "deletionTimestamp: '2026-01-01T00:00:00Z',"
        } else {
            ""
        };
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: v-{ordinal}, {deletion} labels: {{controller-revision-hash: {revision}}}}}, \
             status: {{phase: {phase}, conditions: [{{type: Ready, status: '{ready}', lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}}}"
        ))
        .expect("a Pod")
    }

    fn steps(set: &StatefulSet, states: &[&str]) -> Vec<String> {
        planned(set, states, "2026-01-02T00:00:00Z")
            .steps
            .iter()
            .map(show)
            .collect()
    }

    fn planned(set: &StatefulSet, states: &[&str], now: &str) -> Plan {
        let pods: Vec<Arc<Pod>> = (0..)
            .zip(states)
            .filter(|(_, s)| **s != "-")
            .map(|(n, s)| Arc::new(pod(n, s)))
            .collect();
        let now = now.parse().expect("a time");
        plan(&Situation {
            set,
            pods: &pods,
            current_revision: "old",
            update_revision: "new",
            now,
        })
    }

    fn show(step: &Step) -> String {
        match step {
            Step::Create { ordinal, revision } => format!("create v-{ordinal}@{revision}"),
            Step::Delete { pod, why } => format!("delete {pod} {why:?}"),
        }
    }

    const ROLLING: &str = "{type: RollingUpdate}";

    #[test]
    fn parallel_creates_everything_and_condemns_all_surplus_at_once() {
        let set = set(3, "Parallel", ROLLING);
        assert_eq!(
            steps(&set, &["-", "pending", "-"]),
            ["create v-0@new", "create v-2@new"]
        );
        let surplus = steps(
            &set,
            &["ready", "pending", "ready", "ready", "pending", "terminating"],
        );
        assert_eq!(surplus, ["delete v-4 ScaleDown", "delete v-3 ScaleDown"]);
    }

    #[test]
    fn ordered_ready_does_one_thing_at_a_time() {
        let set = set(3, "OrderedReady", ROLLING);
        assert_eq!(steps(&set, &[]), ["create v-0@new"]);
        assert!(steps(&set, &["pending"]).is_empty());
        assert_eq!(steps(&set, &["ready"]), ["create v-1@new"]);
        assert!(steps(&set, &["ready", "terminating", "ready"]).is_empty());
        assert_eq!(steps(&set, &["ready"; 5]), ["delete v-4 ScaleDown"]);
        assert!(steps(&set, &["ready", "ready", "ready", "ready", "terminating"]).is_empty());
        assert_eq!(
            steps(&set, &["ready", "ready", "ready", "pending"]),
            ["delete v-3 ScaleDown"]
        );
        assert!(steps(&set, &["ready", "ready", "ready", "pending", "pending"]).is_empty());
    }

    #[test]
    fn a_failed_pod_makes_room_for_a_new_one() {
        let set = set(2, "OrderedReady", ROLLING);
        assert_eq!(steps(&set, &["failed"]), ["delete v-0 Failed"]);
    }

    #[test]
    fn a_rolling_update_goes_down_and_waits_for_each_pod() {
        let set = set(3, "Parallel", ROLLING);
        assert_eq!(steps(&set, &["ready@old"; 3]), ["delete v-2 Update"]);
        assert!(steps(&set, &["ready@old", "ready@old", "terminating@old"]).is_empty());
        assert!(steps(&set, &["ready@old", "ready@old", "pending"]).is_empty());
        assert_eq!(
            steps(&set, &["ready@old", "ready@old", "ready"]),
            ["delete v-1 Update"]
        );
        assert!(steps(&set, &["ready"; 3]).is_empty());
    }

    #[test]
    fn a_new_template_does_not_replace_a_broken_pod_of_ordered_sets() {
        let set = set(2, "OrderedReady", ROLLING);
        assert!(
            steps(&set, &["pending@old"]).is_empty(),
            "Kubernetes' known issue, mirrored"
        );
    }

    #[test]
    fn the_partition_keeps_lower_ordinals_at_the_current_revision() {
        let set = set(
            3,
            "Parallel",
            "{type: RollingUpdate, rollingUpdate: {partition: 2}}",
        );
        assert_eq!(
            steps(&set, &["-", "ready@old", "ready@old"]),
            ["create v-0@old", "delete v-2 Update"]
        );
        assert!(steps(&set, &["ready@old", "ready@old", "ready"]).is_empty());
    }

    #[test]
    fn on_delete_replaces_nothing_by_itself() {
        let set = set(2, "Parallel", "{type: OnDelete}");
        assert!(steps(&set, &["ready@old"; 2]).is_empty());
        assert_eq!(steps(&set, &["ready@old"]), ["create v-1@new"]);
    }

    #[test]
    fn min_ready_seconds_delays_the_next_step() {
        let mut set = set(2, "OrderedReady", ROLLING);
        set.spec.min_ready_seconds = Some(30);
        let early = planned(&set, &["ready"], "2026-01-01T00:00:10Z");
        assert_eq!(
            early,
            Plan {
                steps: vec![],
                recheck: Some(Duration::from_secs(20))
            }
        );
        assert_eq!(planned(&set, &["ready"], "2026-01-01T00:00:30Z").steps.len(), 1);
    }

    #[test]
    fn a_pass_is_bounded_however_many_replicas_are_asked_for() {
        let mut set = set(i32::MAX, "Parallel", "{}");
        set.spec.ordinals.get_or_insert_default().start = Some(i32::MAX);
        assert_eq!(steps(&set, &[]).len(), MAX_STEPS);
    }
}
