//! Number of replicas that each ReplicaSet of a Deployment should have now. Follows the rolling
//! update of kube-controller-manager: first up to the surge, then down as far as availability
//! allows.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::replica_set::wanted;

/// The facts about one set that a decision uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// Number of replicas that the set should have.
    pub(super) replicas: i32,
    /// Number of pods that the set has.
    pub(super) pods: i32,
    /// Number of pods that are available.
    pub(super) available: i32,
}

impl Set {
    pub(super) fn of(set: &ReplicaSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        Self {
            replicas: wanted(set),
            pods: status.replicas,
            available: status.available_replicas.unwrap_or(0),
        }
    }
}

/// The strategy for the transition from one template to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    Recreate,
    Rolling { surge: i32, unavailable: i32 },
}

impl Strategy {
    /// Returns the strategy, with its percentages resolved to replicas: the surge rounded up, the
    /// rest down.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let strategy = deployment.spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self::Recreate;
        }
        let rolling = strategy
            .and_then(|strategy| strategy.rolling_update.clone())
            .unwrap_or_default();
        let replicas = replicas(deployment);
        let surge = share(rolling.max_surge.as_ref(), replicas, 99);
        let unavailable = share(rolling.max_unavailable.as_ref(), replicas, 0);
        // Surge and unavailable must not both be 0, or the update could not proceed.
        let unavailable = if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable
        };
        Self::Rolling {
            surge,
            unavailable: unavailable.min(replicas),
        }
    }
}

/// Returns the number of replicas that the Deployment should have.
pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

fn share(value: Option<&IntOrString>, total: i32, round: i64) -> i32 {
    match value {
        Some(IntOrString::Int(number)) => (*number).max(0),
        Some(IntOrString::String(text)) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok())
                .unwrap_or(0);
            let share = i64::from(total).saturating_mul(percent).saturating_add(round) / 100;
            i32::try_from(share).unwrap_or(i32::MAX).max(0)
        }
        None => 0,
    }
}

/// Returns the number of replicas that the new set and the old ones (oldest first) should have now.
pub(super) fn plan(wanted: i32, strategy: Strategy, new: Set, old: &[Set]) -> (i32, Vec<i32>) {
    let kept: Vec<i32> = old.iter().map(|set| set.replicas).collect();
    match strategy {
        Strategy::Recreate => {
            let gone = old.iter().all(|set| set.replicas == 0 && set.pods == 0);
            (if gone { wanted } else { new.replicas }, vec![0; old.len()])
        }
        Strategy::Rolling { surge, unavailable } => {
            let total = kept
                .iter()
                .fold(new.replicas, |sum, replicas| sum.saturating_add(*replicas));
            let room = wanted.saturating_add(surge).saturating_sub(total);
            if new.replicas > wanted {
                return (wanted, kept);
            }
            if new.replicas < wanted && room > 0 {
                return (new.replicas + room.min(wanted - new.replicas), kept);
            }
            (new.replicas, scaled_down(wanted - unavailable, total, new, old))
        }
    }
}

/// Takes replicas from the old sets. Unavailable ones go first, then as many as the minimum allows.
fn scaled_down(least: i32, total: i32, new: Set, old: &[Set]) -> Vec<i32> {
    let mut replicas: Vec<i32> = old.iter().map(|set| set.replicas).collect();
    let mut spare = total - least - (new.replicas - new.available).max(0);
    for (set, replicas) in old.iter().zip(&mut replicas) {
        let unhealthy = (set.replicas - set.available).clamp(0, spare.max(0));
        *replicas -= unhealthy;
        spare -= unhealthy;
    }
    let available = old
        .iter()
        .fold(new.available, |sum, set| sum.saturating_add(set.available));
    let mut spare = (available - least).max(0);
    for replicas in &mut replicas {
        let taken = (*replicas).min(spare);
        *replicas -= taken;
        spare -= taken;
    }
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32, available: i32) -> Set {
        Set {
            replicas,
            pods: replicas,
            available,
        }
    }

    const ONE_MORE: Strategy = Strategy::Rolling {
        surge: 1,
        unavailable: 0,
    };

    #[test]
    fn an_update_goes_up_before_it_goes_down() {
        assert_eq!(plan(3, ONE_MORE, set(0, 0), &[set(3, 3)]), (1, vec![3]));
        assert_eq!(plan(3, ONE_MORE, set(1, 0), &[set(3, 3)]), (1, vec![3]));
        assert_eq!(plan(3, ONE_MORE, set(1, 1), &[set(3, 3)]), (1, vec![2]));
        assert_eq!(plan(3, ONE_MORE, set(1, 1), &[set(2, 2)]), (2, vec![2]));
        assert_eq!(plan(3, ONE_MORE, set(3, 3), &[set(0, 0)]), (3, vec![0]));
    }

    #[test]
    fn what_is_broken_goes_first_and_a_new_set_follows_the_scale() {
        assert_eq!(plan(3, ONE_MORE, set(1, 0), &[set(3, 0)]), (1, vec![3]));
        let lax = Strategy::Rolling {
            surge: 0,
            unavailable: 1,
        };
        assert_eq!(plan(3, lax, set(0, 0), &[set(3, 3)]), (0, vec![2]));
        assert_eq!(plan(3, lax, set(1, 0), &[set(2, 1)]), (1, vec![2]));
        assert_eq!(plan(2, ONE_MORE, set(5, 5), &[]), (2, vec![]));
        assert_eq!(plan(4, ONE_MORE, set(0, 0), &[]), (4, vec![]));
    }

    #[test]
    fn recreate_waits_for_the_old_pods() {
        let leaving = Set {
            replicas: 0,
            pods: 1,
            available: 0,
        };
        assert_eq!(plan(2, Strategy::Recreate, set(0, 0), &[set(2, 2)]), (0, vec![0]));
        assert_eq!(plan(2, Strategy::Recreate, set(0, 0), &[leaving]), (0, vec![0]));
        assert_eq!(plan(2, Strategy::Recreate, set(0, 0), &[set(0, 0)]), (2, vec![0]));
    }

    #[test]
    fn percentages_are_rounded_as_in_kubernetes() {
        let deployment = |text: &str| {
            serde_yaml::from_str::<Deployment>(&format!(
                "{{spec: {{replicas: 3, selector: {{}}, template: {{}}, strategy: {text}}}}}"
            ))
            .expect("a Deployment")
        };
        let rolling =
            deployment("{type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}");
        assert_eq!(Strategy::of(&rolling), ONE_MORE);
        let still = deployment("{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}");
        assert_eq!(
            Strategy::of(&still),
            Strategy::Rolling {
                surge: 0,
                unavailable: 1
            }
        );
        assert_eq!(Strategy::of(&deployment("{type: Recreate}")), Strategy::Recreate);
    }
}
