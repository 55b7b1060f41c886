//! No container restarts by itself.

use super::Violation;
use valkey::observation::ClusterObservation;

/// The check's name.
pub const NAME: &str = "restarts";

/// Pods with restarted containers.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    let restarted = observation.pods.iter().filter(|pod| pod.restart_count > 0);
    restarted
        .map(|pod| {
            let seen = format!("{} restarts", pod.restart_count);
            let violation = Violation::new(NAME, &pod.name, "no restart", seen);
            match &pod.last_termination {
                Some(how) => violation.with_evidence(how),
                None => violation,
            }
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
        fixture.pods[3].restart_count = 2;
        fixture.pods[3].last_termination =
            Some("container valkey ended with exit code 137 (OOMKilled)".to_owned());
        let after = fixture.observation();
        assert_eq!(
            check(&after)[0].to_string(),
            "restarts: valkey-3: expected no restart, saw 2 restarts\n    container valkey ended with exit code 137 (OOMKilled)"
        );
    }
}
