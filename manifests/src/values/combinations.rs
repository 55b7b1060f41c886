//! Contradictions between several parameters.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::error::ValueError;
use super::{Mode, Values, syntax};
use crate::release::{CLIENT_PORT, COMPONENT_LABEL};

/// The minimum number of primaries of a Valkey cluster. With fewer, no majority survives the loss
/// of one.
const MIN_PRIMARIES: u32 = 3;

/// Returns every contradiction.
pub(super) fn problems(values: &Values) -> Vec<ValueError> {
    let mut problems = Vec::new();
    if values.mode == Mode::Cluster {
        problems.extend(cluster_size(values));
        problems.extend(bus_port(values));
        problems.extend(service_port(values));
        problems.extend(volatile_cluster(values));
    }
    problems.extend(two_passwords(values));
    problems.extend(requests_above_limits(values));
    problems.extend(directives_of_the_chart(values));
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

/// Rejects a `service.port` other than the servers' port in cluster mode. Nodes announce their own
/// port, and a headless Service does not translate ports. The chart's own Jobs cannot form such a
/// cluster.
fn service_port(values: &Values) -> Option<ValueError> {
    let port = values.service.port;
    let problem = || ValueError::invalid("service.port", port, format!("{CLIENT_PORT} in cluster mode"));
    (port != CLIENT_PORT).then(|| {
        problem().with_hint("a headless Service does not translate ports, and nodes announce their own")
    })
}

/// Rejects a cluster without volumes. A node without a volume loses its identity with its pod. The
/// new node is a stranger, and the slots stay with the unreachable former node.
fn volatile_cluster(values: &Values) -> Option<ValueError> {
    let problem = || ValueError::invalid("persistence.enabled", false, "true in cluster mode");
    (!values.persistence.enabled)
        .then(|| problem().with_hint("nodes.conf, a node's identity, is on the volume"))
}

/// Rejects a password next to an existing Secret: the chart silently ignores the password.
fn two_passwords(values: &Values) -> Option<ValueError> {
    let auth = &values.auth;
    if auth.existing_secret.is_empty() || auth.password.is_empty() {
        return None;
    }
    let problem = ValueError::invalid(
        "auth.password",
        "a password (not shown)",
        "\"\" with auth.existingSecret",
    );
    Some(problem.with_hint(format!("the one in Secret {} is used", auth.existing_secret)))
}

/// Rejects requests above limits: the API server would refuse the StatefulSet's pods.
fn requests_above_limits(values: &Values) -> Vec<ValueError> {
    let resources = &values.resources;
    let above = resources.requests.iter().filter_map(|(name, request)| {
        let limit = resources.limits.get(name)?;
        let above = syntax::quantity(&request.0)? > syntax::quantity(&limit.0)?;
        above.then(|| {
            let path = format!("resources.requests.{name}");
            ValueError::invalid(
                &path,
                &request.0,
                format!("at most resources.limits.{name}, {}", limit.0),
            )
        })
    });
    above.collect()
}

/// Rejects directives that the chart relies on. Valkey uses a directive's last appearance, so these
/// would silently override the chart's.
fn directives_of_the_chart(values: &Values) -> Vec<ValueError> {
    let ours = [
        ("port", "the port is fixed"),
        ("dir", "/data is where the volume is"),
        ("bind", "use config.bind"),
        ("requirepass", "use auth.password or auth.existingSecret"),
        ("masterauth", "use auth.password or auth.existingSecret"),
        ("primaryauth", "use auth.password or auth.existingSecret"),
        ("cluster-enabled", "use mode"),
        ("cluster-config-file", "/data is where the volume is"),
        ("cluster-port", "use cluster.busPort"),
        ("cluster-announce-ip", "each pod announces its own"),
        ("daemonize", "a container ends with its first process"),
    ];
    let lines = values.config.custom_config.lines();
    let given = lines
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_lowercase);
    let clash = given.filter_map(|word| ours.iter().find(|(name, _)| *name == word));
    let problem = |(name, hint): &(&str, &str)| {
        ValueError::invalid(
            "config.customConfig",
            name,
            "directives that the chart does not set itself",
        )
        .with_hint(*hint)
    };
    clash.map(problem).collect()
}

/// Rejects labels that override the selector's: a StatefulSet's selector must match its template.
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

/// Rejects root as user. The kubelet would refuse every container: "container has runAsNonRoot and
/// image will run as root".
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

/// Rejects a budget that forbids every disruption: no Kubernetes node could ever be drained.
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

/// Rejects flags with a password: on the server's command line they would contradict ours.
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
    #[case("mode=cluster,service.port=6380", "service.port")]
    #[case("mode=cluster,persistence.enabled=false", "persistence.enabled")]
    #[case("auth.existingSecret=mine,auth.password=secret", "auth.password")]
    #[case(
        "resources.requests.memory=2Gi,resources.limits.memory=1G",
        "resources.requests.memory"
    )]
    #[case("config.customConfig=hz 10\nPORT 7000", "config.customConfig")]
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
            .set("cluster.replicas=1,pdb.minAvailable=7,service.port=6380,persistence.enabled=false")
            .resolve()
            .expect("unused in standalone mode");
    }
}
