//! No container restarts by itself.

use super::Violation;
use crate::valkey::observation::ClusterObservation;

/// The check's name.
pub const NAME: &str = "restarts";

/// Pods with restarted containers.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    violations(observation, |_| 0)
}

/// Pods whose containers restarted since `before`; a pod that was replaced starts from zero.
pub fn check_since(before: &ClusterObservation, observation: &ClusterObservation) -> Vec<Violation> {
    violations(observation, |uid| {
        before
            .pods
            .iter()
            .find(|pod| pod.uid == uid)
            .map_or(0, |pod| pod.restart_count)
    })
}

fn violations(observation: &ClusterObservation, before: impl Fn(&str) -> i32) -> Vec<Violation> {
    observation
        .pods
        .iter()
        .filter_map(|pod| {
            let allowed = before(&pod.uid);
            (pod.restart_count > allowed).then(|| {
                let expected = if allowed == 0 {
                    "no restart".to_owned()
                } else {
                    format!("{allowed} restarts, as before")
                };
                let violation = Violation::new(
                    NAME,
                    &pod.name,
                    expected,
                    format!("{} restarts", pod.restart_count),
                );
                match &pod.last_termination {
                    Some(how) => violation.with_evidence(how),
                    None => violation,
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_restart_is_named_with_how_the_container_ended() {
        let mut fixture = Fixture::cluster(6, 1);
        assert_eq!(check(&fixture.observation()), []);
        let before = fixture.observation();
        fixture.pods[3].restart_count = 2;
        fixture.pods[3].last_termination =
            Some("container valkey ended with exit code 137 (OOMKilled)".to_owned());
        let after = fixture.observation();
        assert_eq!(
            check(&after)[0].to_string(),
            "restarts: valkey-3: expected no restart, saw 2 restarts\n    container valkey ended with exit code 137 (OOMKilled)"
        );
        assert_eq!(check_since(&before, &after).len(), 1);
        assert_eq!(check_since(&after, &after), []);
    }
}
