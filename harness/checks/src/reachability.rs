//! There are as many pods as declared, and each of them answers.
//!
//! The other checks read the views of the nodes that answered. This check reports missing views.

use super::Violation;
use valkey::observation::ClusterObservation;

/// The check's name.
pub const NAME: &str = "reachability";

/// Finds surplus, missing and silent pods.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    let mut violations = Vec::new();
    let expected = usize::try_from(observation.expected.pods).unwrap_or(usize::MAX);
    let present = observation.pods.iter().filter(|pod| !pod.terminating).count();
    if present != expected {
        let names: Vec<&str> = observation.pods.iter().map(|pod| pod.name.as_str()).collect();
        violations.push(
            Violation::new(
                NAME,
                "the release",
                format!("{expected} server pods"),
                format!("{present}"),
            )
            .with_evidence(format!("pods: {}", names.join(", "))),
        );
    }
    for pod in &observation.pods {
        match observation.views.get(&pod.name) {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                violations.push(Violation::new(NAME, &pod.name, "an answer", &error.message));
            }
            None => violations.push(Violation::new(NAME, &pod.name, "an answer", "it was not asked")),
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;
    use valkey::view::ViewError;
    use valkey::view::ViewErrorKind;

    #[test]
    fn a_silent_node_is_named_with_its_cause() {
        let mut observation = Fixture::cluster(6, 1).observation();
        let error = ViewError {
            kind: ViewErrorKind::Unreachable,
            message: "connection refused".to_owned(),
        };
        observation.views.insert("valkey-2".to_owned(), Err(error));
        let violations = check(&observation);
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "reachability: valkey-2: expected an answer, saw connection refused"
        );
    }

    #[test]
    fn nothing_at_all_is_not_healthy() {
        let mut observation = Fixture::cluster(6, 1).observation();
        observation.pods.clear();
        observation.views.clear();
        assert_eq!(check(&observation).len(), 1, "an empty selection is never green");
    }

    #[test]
    fn a_missing_pod_is_counted() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.expected.pods = 8;
        assert_eq!(check(&fixture.observation())[0].seen, "6");
    }
}
