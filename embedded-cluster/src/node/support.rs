//! What a pod may not ask for here: refused as a whole, or run with an event that says what is not enforced.
//! Nothing is silently ignored. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, Probe, SecurityContext};

/// The first thing that makes the pod impossible to run faithfully.
pub(crate) fn refusal(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let reasons = [
        (spec.host_network == Some(true), "spec.hostNetwork"),
        (spec.host_pid == Some(true), "spec.hostPID"),
        (spec.host_ipc == Some(true), "spec.hostIPC"),
        (
            spec.share_process_namespace == Some(true),
            "spec.shareProcessNamespace",
        ),
        (spec.host_users == Some(false), "spec.hostUsers: false"),
        (spec.runtime_class_name.is_some(), "spec.runtimeClassName"),
        (
            spec.ephemeral_containers
                .as_ref()
                .is_some_and(|list| !list.is_empty()),
            "spec.ephemeralContainers",
        ),
    ];
    if let Some((_, what)) = reasons.iter().find(|(wrong, _)| *wrong) {
        return Some(unsupported(what));
    }
    let context = spec.security_context.clone().unwrap_or_default();
    if context.sysctls.is_some_and(|list| !list.is_empty()) {
        return Some(unsupported("spec.securityContext.sysctls"));
    }
    if context.windows_options.is_some() {
        return Some(unsupported("spec.securityContext.windowsOptions"));
    }
    if context
        .seccomp_profile
        .is_some_and(|profile| profile.type_ == "Localhost")
    {
        return Some(unsupported("seccompProfile of type Localhost"));
    }
    containers(spec).find_map(container_refusal)
}

fn container_refusal(container: &Container) -> Option<String> {
    let named = |what: &str| Some(unsupported(&format!("{what} (container {:?})", container.name)));
    let context = container.security_context.clone().unwrap_or_default();
    if context.privileged == Some(true) {
        return named("securityContext.privileged");
    }
    if context.proc_mount.is_some_and(|mount| mount != "Default") {
        return named("securityContext.procMount");
    }
    if context
        .seccomp_profile
        .is_some_and(|profile| profile.type_ == "Localhost")
    {
        return named("seccompProfile of type Localhost");
    }
    if container
        .volume_devices
        .as_ref()
        .is_some_and(|devices| !devices.is_empty())
    {
        return named("volumeDevices");
    }
    if container.tty == Some(true) || container.stdin == Some(true) {
        return named("stdin and tty of a container (kubectl exec -it works)");
    }
    if container
        .ports
        .iter()
        .flatten()
        .any(|port| port.host_port.is_some_and(|port| port != 0))
    {
        return named("hostPort");
    }
    let mut mounts = container.volume_mounts.iter().flatten();
    if mounts.any(|mount| {
        mount
            .mount_propagation
            .as_deref()
            .is_some_and(|mode| mode != "None")
    }) {
        return named("mountPropagation");
    }
    let probes = [
        &container.startup_probe,
        &container.liveness_probe,
        &container.readiness_probe,
    ];
    probes
        .into_iter()
        .flatten()
        .find_map(probe_refusal)
        .and_then(|what| named(&what))
}

fn probe_refusal(probe: &Probe) -> Option<String> {
    if probe.grpc.is_some() {
        return Some("grpc probes".to_owned());
    }
    let https = probe
        .http_get
        .as_ref()
        .is_some_and(|get| get.scheme.as_deref() == Some("HTTPS"));
    https.then(|| "HTTPS probes".to_owned())
}

/// What the pod asks for, is accepted, and has no effect: the text of an event.
pub(crate) fn unenforced(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.iter().map(|context| {
        let PodSecurityContext {
            seccomp_profile,
            se_linux_options,
            app_armor_profile,
            ..
        } = context;
        (seccomp_profile, se_linux_options, app_armor_profile)
    });
    let contexts = containers(spec).filter_map(|container| container.security_context.as_ref());
    let of_containers = contexts.map(|context| {
        let SecurityContext {
            seccomp_profile,
            se_linux_options,
            app_armor_profile,
            ..
        } = context;
        (seccomp_profile, se_linux_options, app_armor_profile)
    });
    let mut what = BTreeSet::new();
    for (seccomp, se_linux, app_armor) in of_pod.chain(of_containers) {
        if seccomp
            .as_ref()
            .is_some_and(|profile| profile.type_ == "RuntimeDefault")
        {
            what.insert("seccompProfile");
        }
        if se_linux.is_some() {
            what.insert("seLinuxOptions");
        }
        if app_armor
            .as_ref()
            .is_some_and(|profile| profile.type_ != "Unconfined")
        {
            what.insert("appArmorProfile");
        }
    }
    let resources = containers(spec).filter_map(|container| container.resources.as_ref());
    let mut limits = resources.flat_map(|resources| resources.limits.iter().flatten());
    if limits.any(|(name, _)| name == "cpu") {
        what.insert("resources.limits.cpu");
    }
    if what.is_empty() {
        return None;
    }
    let list: Vec<&str> = what.into_iter().collect();
    Some(format!(
        "accepted but not enforced by the embedded cluster: {}",
        list.join(", ")
    ))
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn unsupported(what: &str) -> String {
    format!("{what} is not supported by the embedded cluster")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "json! literals read best as arguments"
    )]
    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        assert!(
            refusal(&pod(json!({"hostNetwork": true, "containers": []})))
                .unwrap()
                .contains("spec.hostNetwork")
        );
        let privileged = json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]});
        assert!(
            refusal(&pod(privileged))
                .unwrap()
                .contains("privileged (container \"c\")")
        );
        let grpc = json!({"containers": [{"name": "c", "readinessProbe": {"grpc": {"port": 1}}}]});
        assert!(refusal(&pod(grpc)).unwrap().contains("grpc"));
        let plain = json!({"containers": [{"name": "c", "securityContext": {"privileged": false, "procMount": "Default"}}]});
        assert_eq!(refusal(&pod(plain)), None);
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let spec = json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}, "containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]});
        assert_eq!(
            unenforced(&pod(spec)).unwrap(),
            "accepted but not enforced by the embedded cluster: resources.limits.cpu, seccompProfile"
        );
        assert_eq!(unenforced(&pod(json!({"containers": [{"name": "c"}]}))), None);
    }
}
