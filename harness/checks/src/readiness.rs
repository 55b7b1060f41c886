//! A pod is Ready exactly if its server serves, both read at the same instant.

use super::Violation;
use valkey::observation::{ClusterObservation, Mode};

/// The check's name.
pub const NAME: &str = "readiness";

/// Finds pods that are Ready without serving, and pods that serve without being Ready.
pub fn check(observation: &ClusterObservation) -> Vec<Violation> {
    let mut violations = Vec::new();
    for pod in observation.pods.iter().filter(|pod| !pod.terminating) {
        let serving = match observation.views.get(&pod.name) {
            None => continue,
            Some(Err(error)) => Err(error.message.clone()),
            Some(Ok(view)) => match (&observation.expected.mode, &view.cluster_info) {
                (Mode::Cluster, Some(info)) if !info.is_ok() => {
                    Err(format!("cluster_state:{}", info.cluster_state))
                }
                _ if view.persistence.loading => Err("loading its dataset".to_owned()),
                _ => Ok(()),
            },
        };
        match (pod.ready, serving) {
            (true, Err(why)) => violations
                .push(Violation::new(NAME, &pod.name, "a Ready pod to serve", why).from_pod(&pod.name)),
            (false, Ok(())) => violations.push(Violation::new(
                NAME,
                &pod.name,
                "a serving pod to be Ready",
                "not Ready",
            )),
            (true, Ok(())) | (false, Err(_)) => {}
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_ready_pod_that_says_cluster_down_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_cluster_info("valkey-3", "cluster_state:ok", "cluster_state:fail");
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "readiness: valkey-3: expected a Ready pod to serve, saw cluster_state:fail (as valkey-3 sees it)"
        );
    }

    #[test]
    fn a_pod_that_serves_and_is_not_ready_is_named() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.pods[2].ready = false;
        let violations = check(&fixture.observation());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].subject, "valkey-2");
    }
}
