//! A departing pod owns no slots: checked in every view *before* the pod is deleted.

use super::Violation;
use findings::merge_views;
use valkey::observation::ClusterObservation;

/// The check's name.
pub const NAME: &str = "drain";

/// Finds slots that `departing` pods still own in any view. Takes the pods' node IDs from `before`,
/// as a terminating pod no longer states its ID.
pub fn check(
    before: &ClusterObservation,
    observation: &ClusterObservation,
    departing: &[String],
) -> Vec<Violation> {
    let leaves = |id: &str| {
        before
            .pod_of_node(id)
            .filter(|pod| departing.iter().any(|name| name == pod))
    };
    let mut violations = Vec::new();
    for (viewer, nodes) in observation.node_tables() {
        for node in &nodes.nodes {
            let Some(pod) = leaves(&node.id) else { continue };
            if !node.slots.is_empty() {
                let seen = format!("it owns slots {} ({})", node.slots, node.slots.len());
                violations.push(
                    Violation::new(NAME, pod, "no slots before its pod is deleted", seen).from_pod(viewer),
                );
            }
            if !node.migrating.is_empty() || !node.importing.is_empty() {
                let seen = format!(
                    "{} still in migration",
                    node.migrating.len() + node.importing.len()
                );
                violations.push(Violation::new(NAME, pod, "no slot in migration", seen).from_pod(viewer));
            }
        }
    }
    merge_views(violations)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_departing_primary_with_slots_is_named_and_a_replica_is_not() {
        let observation = Fixture::cluster(6, 1).observation();
        let check = |departing: &[String]| check(&observation, &observation, departing);
        assert_eq!(check(&["valkey-5".to_owned()]), []);
        let violations = check(&["valkey-2".to_owned(), "valkey-5".to_owned()]);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].subject, "valkey-2");
        assert_eq!(violations[0].seen, "it owns slots 10923-16383 (5461)");
        assert_eq!(violations[0].viewed_from.len(), 6);
    }
}
