//! What several parameters say together: contradictions that no single one shows.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::error::ValueError;
use super::{Mode, Values};
use crate::release::{CLIENT_PORT, COMPONENT_LABEL};

/// The least number of primaries of a Valkey cluster: below it no majority survives the loss of one.
const MIN_PRIMARIES: u32 = 3;

/// Every contradiction.
pub(super) fn problems(values: &Values) -> Vec<ValueError> {
    let mut problems = Vec::new();
    if values.mode == Mode::Cluster {
        problems.extend(cluster_size(values));
        problems.extend(bus_port(values));
    }
    problems.extend(reserved_labels(values));
    problems.extend(root_user(values));
    problems.extend(disruption_budget(values));
    problems.extend(flags_with_password(values));
    problems
}

fn cluster_size(values: &Values) -> Option<ValueError> {
    if values.primaries() >= MIN_PRIMARIES {
        return None;
    }
    let per_primary = values.cluster.replicas_per_primary;
    let least = MIN_PRIMARIES * (1 + per_primary);
    let allowed = format!("at least {least} with cluster.replicasPerPrimary {per_primary}");
    let problem = ValueError::invalid("cluster.replicas", values.cluster.replicas, allowed);
    Some(problem.with_hint("a cluster needs three primaries, each with its replicas"))
}

fn bus_port(values: &Values) -> Option<ValueError> {
    if values.cluster.bus_port != CLIENT_PORT {
        return None;
    }
    let allowed = format!("any port but {CLIENT_PORT}");
    Some(ValueError::invalid("cluster.busPort", CLIENT_PORT, allowed).with_hint("clients are served there"))
}

/// The StatefulSet would be refused: its selector must match its own template.
fn reserved_labels(values: &Values) -> Vec<ValueError> {
    let reserved = [
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        COMPONENT_LABEL,
    ];
    let given = [
        ("podLabels", &values.pod_labels),
        ("statefulset.labels", &values.statefulset.labels),
    ];
    let mut problems = Vec::new();
    for (section, labels) in given {
        for key in reserved {
            if let Some(value) = labels.get(key) {
                let problem = ValueError::invalid(
                    &format!("{section}.{key}"),
                    value,
                    "labels other than the selector's",
                );
                problems.push(problem.with_hint("use nameOverride to change the name label"));
            }
        }
    }
    problems
}

/// The kubelet would refuse every container: "container has runAsNonRoot and image will run as root".
fn root_user(values: &Values) -> Option<ValueError> {
    let context = &values.security_context;
    if context.run_as_non_root != Some(true) || context.run_as_user != Some(0) {
        return None;
    }
    let problem = ValueError::invalid(
        "securityContext.runAsUser",
        0,
        "a user other than 0 with runAsNonRoot",
    );
    Some(problem.with_hint("set securityContext.runAsNonRoot=false to run as root"))
}

/// A budget that forbids every disruption lets no node be drained, ever.
fn disruption_budget(values: &Values) -> Option<ValueError> {
    let Values { pdb, cluster, .. } = values;
    let unset = pdb.max_unavailable == IntOrString::String(String::new());
    if values.mode == Mode::Cluster && pdb.enabled && unset && !pdb.min_available_is_set() {
        let allowed = "a number or a percentage when pdb.minAvailable is unset";
        return Some(ValueError::invalid("pdb.maxUnavailable", "\"\"", allowed));
    }
    match pdb.min_available {
        IntOrString::Int(least)
            if values.mode == Mode::Cluster && i64::from(least) > i64::from(cluster.replicas) =>
        {
            let allowed = format!("at most cluster.replicas, {}", cluster.replicas);
            Some(ValueError::invalid("pdb.minAvailable", least, allowed))
        }
        _ => None,
    }
}

/// These reach the server's command line beside ours and would contradict it.
fn flags_with_password(values: &Values) -> Vec<ValueError> {
    let ours = [
        "--requirepass",
        "--masterauth",
        "--primaryauth",
        "--cluster-announce-ip",
        "--cluster-enabled",
    ];
    let given = values.config.extra_flags.split_whitespace();
    let clash = given.filter(|flag| ours.contains(flag));
    let problem = |flag: &str| {
        ValueError::invalid(
            "config.extraFlags",
            flag,
            "flags that the chart does not set itself",
        )
        .with_hint("use auth.password, auth.existingSecret or mode")
    };
    clash.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::values::{ValuesError, ValuesInput};

    #[rstest]
    #[case("mode=cluster,cluster.replicas=5", "cluster.replicas")]
    #[case("mode=cluster,cluster.busPort=6379", "cluster.busPort")]
    #[case(r"podLabels.app\.kubernetes\.io/name=x", "podLabels.app.kubernetes.io/name")]
    #[case("securityContext.runAsUser=0", "securityContext.runAsUser")]
    #[case("mode=cluster,pdb.minAvailable=7", "pdb.minAvailable")]
    #[case("mode=cluster,pdb.maxUnavailable=", "pdb.maxUnavailable")]
    #[case("config.extraFlags=--requirepass x", "config.extraFlags")]
    fn contradictions_name_their_parameter(#[case] set: &str, #[case] path: &str) {
        let error = ValuesInput::new().set(set).resolve().expect_err("contradiction");
        let ValuesError::Invalid(problems) = error else {
            panic!("{error}")
        };
        let paths: Vec<_> = problems.iter().map(super::ValueError::path).collect();
        assert_eq!(paths, [path]);
    }

    #[test]
    fn the_cluster_rules_do_not_bind_standalone() {
        ValuesInput::new()
            .set("cluster.replicas=1,pdb.minAvailable=7")
            .resolve()
            .expect("unused in standalone mode");
    }
}
