//! Pod Security admission: a namespace's `pod-security.kubernetes.io/enforce` label decides which
//! pods it accepts.
//!
//! The checks come from the `latest` version of the Pod Security Standards. Settings that this
//! cluster refuses anyway (sysctls, SELinux options, Windows) are not checked again. `audit` and
//! `warn` have no effect here.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use std::fmt::Write as _;

use serde_json::Value;

use super::object::{at, list, text};

/// The label that sets the enforced level.
pub(crate) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Capabilities that a baseline container may add.
const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Volume types that a restricted pod may have.
const RESTRICTED_VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The Pod Security levels.
pub(crate) const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

/// Returns Kubernetes' reason why a namespace held to `level` refuses the pod; `None` when the
/// namespace accepts it.
pub(crate) fn refusal(level: &str, pod: &Value) -> Option<String> {
    let mut violations = Vec::new();
    if matches!(level, "baseline" | "restricted") {
        baseline(pod, &mut violations);
    }
    if level == "restricted" {
        restricted(pod, &mut violations);
    }
    (!violations.is_empty()).then(|| {
        format!(
            "violates PodSecurity \"{level}:latest\": {}",
            violations.join(", ")
        )
    })
}

fn baseline(pod: &Value, violations: &mut Vec<String>) {
    let namespaces: Vec<&str> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| is(pod, &["spec", field], true))
        .collect();
    if !namespaces.is_empty() {
        let set: Vec<String> = namespaces.iter().map(|field| format!("{field}=true")).collect();
        violations.push(format!("host namespaces ({})", set.join(", ")));
    }
    of_containers(
        pod,
        violations,
        "privileged",
        "must not set securityContext.privileged=true",
        |container| is(container, &["securityContext", "privileged"], true),
    );
    of_containers(
        pod,
        violations,
        "non-default capabilities",
        "must not add capabilities beyond the default ones in securityContext.capabilities.add",
        |container| {
            names(container, "add")
                .iter()
                .any(|name| !BASELINE_CAPABILITIES.contains(name))
        },
    );
    if volumes(pod).any(|(_, kind)| kind == "hostPath") {
        let named: Vec<String> = volumes(pod)
            .filter(|(_, kind)| *kind == "hostPath")
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        violations.push(format!("hostPath volumes (volume {})", named.join(", ")));
    }
    of_containers(
        pod,
        violations,
        "hostPort",
        "must not use hostPorts",
        |container| {
            list(container, &["ports"])
                .iter()
                .any(|port| at(port, &["hostPort"]).and_then(Value::as_i64).unwrap_or(0) != 0)
        },
    );
    let unconfined = |holder: &Value, path: &[&str]| text(holder, path) == "Unconfined";
    let by_pod = unconfined(pod, &["spec", "securityContext", "seccompProfile", "type"]);
    if by_pod || containers(pod).any(|c| unconfined(c, &["securityContext", "seccompProfile", "type"])) {
        violations.push(
            "seccompProfile (pod or containers must not set securityContext.seccompProfile.type to \"Unconfined\")"
                .to_owned(),
        );
    }
}

fn restricted(pod: &Value, violations: &mut Vec<String>) {
    of_containers(
        pod,
        violations,
        "allowPrivilegeEscalation != false",
        "must set securityContext.allowPrivilegeEscalation=false",
        |container| !is(container, &["securityContext", "allowPrivilegeEscalation"], false),
    );
    of_containers(
        pod,
        violations,
        "unrestricted capabilities",
        "must set securityContext.capabilities.drop=[\"ALL\"]",
        |container| {
            let adds_more = names(container, "add")
                .iter()
                .any(|name| *name != "NET_BIND_SERVICE");
            adds_more || !names(container, "drop").contains(&"ALL")
        },
    );
    let other: Vec<String> = volumes(pod)
        .filter(|(_, kind)| !RESTRICTED_VOLUMES.contains(kind))
        .map(|(name, kind)| format!("volume {name:?} uses restricted volume type {kind:?}"))
        .collect();
    if !other.is_empty() {
        violations.push(format!("restricted volume types ({})", other.join(", ")));
    }
    let pod_says = is(pod, &["spec", "securityContext", "runAsNonRoot"], true);
    of_pod_or_containers(
        pod,
        violations,
        "runAsNonRoot != true",
        "must set securityContext.runAsNonRoot=true",
        |container| match at(container, &["securityContext", "runAsNonRoot"]).and_then(Value::as_bool) {
            Some(own) => !own,
            None => !pod_says,
        },
    );
    let root = |holder: &Value, path: &[&str]| at(holder, path).and_then(Value::as_i64) == Some(0);
    if root(pod, &["spec", "securityContext", "runAsUser"]) {
        violations.push("runAsUser=0 (pod must not set runAsUser=0)".to_owned());
    }
    of_containers(
        pod,
        violations,
        "runAsUser=0",
        "must not set runAsUser=0",
        |container| root(container, &["securityContext", "runAsUser"]),
    );
    let allowed = |profile: &str| matches!(profile, "RuntimeDefault" | "Localhost");
    let pod_profile = text(pod, &["spec", "securityContext", "seccompProfile", "type"]);
    of_pod_or_containers(
        pod,
        violations,
        "seccompProfile",
        "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        |container| match text(container, &["securityContext", "seccompProfile", "type"]) {
            "" => !allowed(pod_profile),
            own => !allowed(own),
        },
    );
}

/// Returns a violation that names the containers for which `bad` holds.
fn of_containers(
    pod: &Value,
    violations: &mut Vec<String>,
    what: &str,
    must: &str,
    bad: impl Fn(&Value) -> bool,
) {
    violations.extend(told(pod, "", bad).map(|who| format!("{what} ({who} {must})")));
}

/// Checks a setting that a pod can also make for all its containers.
fn of_pod_or_containers(
    pod: &Value,
    violations: &mut Vec<String>,
    what: &str,
    must: &str,
    bad: impl Fn(&Value) -> bool,
) {
    violations.extend(told(pod, "pod or ", bad).map(|who| format!("{what} ({who} {must})")));
}

fn told(pod: &Value, before: &str, bad: impl Fn(&Value) -> bool) -> Option<String> {
    let named: Vec<String> = containers(pod)
        .filter(|container| bad(container))
        .map(|container| format!("{:?}", text(container, &["name"])))
        .collect();
    let mut who = before.to_owned();
    let noun = match named.len() {
        0 => return None,
        1 => "container",
        _ => "containers",
    };
    write!(who, "{noun} {}", named.join(", ")).expect("a string takes any text");
    Some(who)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(pod, &["spec", field]))
}

/// Lists the names and types of the pod's volumes.
fn volumes(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    list(pod, &["spec", "volumes"]).iter().map(|volume| {
        let keys = volume.as_object().into_iter().flat_map(|fields| fields.keys());
        let kind = keys.map(String::as_str).find(|key| *key != "name");
        (text(volume, &["name"]), kind.unwrap_or("emptyDir"))
    })
}

fn names<'a>(container: &'a Value, field: &str) -> Vec<&'a str> {
    list(container, &["securityContext", "capabilities", field])
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

fn is(value: &Value, path: &[&str], expected: bool) -> bool {
    at(value, path).and_then(Value::as_bool) == Some(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(security: &str, container: &str, more: &str) -> Value {
        serde_yaml::from_str(&format!(
            "{{spec: {{securityContext: {security}, {more} containers: [{{name: c, securityContext: {container}}}]}}}}"
        ))
        .expect("the test's own YAML is a pod")
    }

    const STRICT: &str = "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}";
    const STRICT_POD: &str = "{runAsNonRoot: true, runAsUser: 999, seccompProfile: {type: RuntimeDefault}}";

    #[test]
    fn restricted_refuses_an_empty_pod_and_all_take_a_hardened_one() {
        let hardened = pod(STRICT_POD, STRICT, "");
        let empty = pod("{}", "{}", "");
        for level in LEVELS {
            assert_eq!(refusal(level, &hardened), None, "{level}");
            assert_eq!(refusal(level, &empty).is_some(), level == "restricted", "{level}");
        }
    }

    #[test]
    fn a_refusal_names_every_violation_as_kubernetes_does() {
        assert_eq!(
            refusal("restricted", &pod("{}", "{}", "")).expect("an empty context is not restricted"),
            "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn a_container_may_not_take_back_what_its_pod_says() {
        let root = pod(
            STRICT_POD,
            "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, runAsUser: 0}",
            "",
        );
        assert!(
            refusal("restricted", &root)
                .expect("root")
                .contains("runAsUser=0")
        );
        let unconfined = pod(STRICT_POD, "{seccompProfile: {type: Unconfined}}", "");
        assert!(
            refusal("baseline", &unconfined)
                .expect("unconfined")
                .contains("Unconfined")
        );
    }

    #[test]
    fn what_reaches_for_the_host_is_not_baseline() {
        for (container, more, expected) in [
            ("{privileged: true}", "", "privileged (container \"c\""),
            (
                "{capabilities: {add: [SYS_ADMIN]}}",
                "",
                "non-default capabilities",
            ),
            ("{}", "hostNetwork: true,", "host namespaces (hostNetwork=true)"),
            (
                "{}",
                "volumes: [{name: v, hostPath: {path: /}}],",
                "hostPath volumes (volume \"v\")",
            ),
        ] {
            let refused = refusal("baseline", &pod("{}", container, more)).expect(expected);
            assert!(refused.contains(expected), "{refused}");
            assert_eq!(refusal("privileged", &pod("{}", container, more)), None);
        }
    }
}
