//! Which parts of pods, Services and claims the embedded cluster supports.
//!
//! Kubernetes would accept everything in these tables and do it. This cluster cannot, and says so when the
//! object is created, naming the field, instead of running something else than what was asked for.

use serde_json::Value;

use super::object::{at, list, text};
use super::status::FieldError;

/// Fields of a pod's spec that must be absent (or false, or empty).
pub const UNSUPPORTED_POD_FIELDS: &[&str] = &[
    "ephemeralContainers",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "overhead",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "schedulingGates",
    "shareProcessNamespace",
];

/// Volume sources that pods may have.
pub const SUPPORTED_VOLUMES: &[&str] = &[
    "configMap",
    "downwardAPI",
    "emptyDir",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Sources that a `projected` volume may have.
pub const SUPPORTED_PROJECTIONS: &[&str] = &["configMap", "downwardAPI", "secret", "serviceAccountToken"];

/// Fields of a container that must be absent (or false, or empty).
pub const UNSUPPORTED_CONTAINER_FIELDS: &[&str] = &["volumeDevices", "resizePolicy", "restartPolicyRules"];

/// Fields of a container's or pod's security context that must be absent (or false, or empty).
pub const UNSUPPORTED_SECURITY_FIELDS: &[&str] = &["procMount", "windowsOptions", "seLinuxOptions"];

/// Probe and hook handlers that are supported.
pub const SUPPORTED_PROBES: &[&str] = &["exec", "httpGet", "tcpSocket"];

/// Lifecycle handlers that are supported.
pub const SUPPORTED_HOOKS: &[&str] = &["exec", "httpGet", "sleep"];

/// Service types that are supported.
pub const SUPPORTED_SERVICE_TYPES: &[&str] = &["ClusterIP"];

/// Refusals of a pod's spec at `path`.
pub(crate) fn pod(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = absent(spec, path, UNSUPPORTED_POD_FIELDS);
    if text(spec, &["os", "name"]) == "windows" {
        errors.push(refusal(&format!("{path}.os.name")));
    }
    if let Some(context) = spec.get("securityContext") {
        errors.extend(absent(
            context,
            &format!("{path}.securityContext"),
            UNSUPPORTED_SECURITY_FIELDS,
        ));
        errors.extend(seccomp(context, &format!("{path}.securityContext")));
    }
    for (index, volume) in list(spec, &["volumes"]).iter().enumerate() {
        errors.extend(self::volume(volume, &format!("{path}.volumes[{index}]")));
    }
    for field in ["initContainers", "containers"] {
        for (index, container) in list(spec, &[field]).iter().enumerate() {
            errors.extend(self::container(container, &format!("{path}.{field}[{index}]")));
        }
    }
    errors
}

/// Refusals of a Service.
pub(crate) fn service(service: &Value) -> Vec<FieldError> {
    let given = text(service, &["spec", "type"]);
    let mut errors = Vec::new();
    if !given.is_empty() && !SUPPORTED_SERVICE_TYPES.contains(&given) {
        let message = format!("not supported by the embedded cluster: spec.type {given}");
        errors.push(FieldError::forbidden("spec.type", message));
    }
    errors.extend(absent(&service["spec"], "spec", &["externalIPs"]));
    if list(service, &["spec", "ipFamilies"])
        .iter()
        .any(|family| family == "IPv6")
    {
        errors.push(refusal("spec.ipFamilies"));
    }
    for (index, port) in list(service, &["spec", "ports"]).iter().enumerate() {
        if text(port, &["protocol"]) == "SCTP" {
            errors.push(refusal(&format!("spec.ports[{index}].protocol")));
        }
    }
    errors
}

/// Refusals of a claim's spec at `path`.
pub(crate) fn claim(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = absent(spec, path, &["dataSource", "dataSourceRef"]);
    if text(spec, &["volumeMode"]) == "Block" {
        errors.push(refusal(&format!("{path}.volumeMode")));
    }
    errors
}

fn volume(volume: &Value, path: &str) -> Vec<FieldError> {
    let sources = volume
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str());
    let mut errors: Vec<FieldError> = sources
        .filter(|key| *key != "name" && !SUPPORTED_VOLUMES.contains(key))
        .map(|key| refusal(&format!("{path}.{key}")))
        .collect();
    if text(volume, &["emptyDir", "medium"]).starts_with("HugePages") {
        errors.push(refusal(&format!("{path}.emptyDir.medium")));
    }
    for (index, source) in list(volume, &["projected", "sources"]).iter().enumerate() {
        let kinds = source
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str());
        errors.extend(
            kinds
                .filter(|key| !SUPPORTED_PROJECTIONS.contains(key))
                .map(|key| refusal(&format!("{path}.projected.sources[{index}].{key}"))),
        );
    }
    errors
}

fn container(container: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = absent(container, path, UNSUPPORTED_CONTAINER_FIELDS);
    for (index, port) in list(container, &["ports"]).iter().enumerate() {
        errors.extend(absent(
            port,
            &format!("{path}.ports[{index}]"),
            &["hostPort", "hostIP"],
        ));
    }
    for (index, mount) in list(container, &["volumeMounts"]).iter().enumerate() {
        if text(mount, &["mountPropagation"]) == "Bidirectional" {
            errors.push(refusal(&format!("{path}.volumeMounts[{index}].mountPropagation")));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if at(container, &[probe, "grpc"]).is_some() {
            errors.push(refusal(&format!("{path}.{probe}.grpc")));
        }
    }
    for hook in ["postStart", "preStop"] {
        if at(container, &["lifecycle", hook, "tcpSocket"]).is_some() {
            errors.push(refusal(&format!("{path}.lifecycle.{hook}.tcpSocket")));
        }
    }
    if let Some(context) = container.get("securityContext") {
        let path = format!("{path}.securityContext");
        errors.extend(absent(context, &path, UNSUPPORTED_SECURITY_FIELDS));
        errors.extend(seccomp(context, &path));
    }
    errors
}

/// Profiles from files of the node cannot be had; `RuntimeDefault` and `Unconfined` can be given.
fn seccomp(context: &Value, path: &str) -> Option<FieldError> {
    ["seccompProfile", "appArmorProfile"]
        .iter()
        .find(|profile| text(context, &[profile, "type"]) == "Localhost")
        .map(|profile| refusal(&format!("{path}.{profile}.type")))
}

fn absent(object: &Value, path: &str, fields: &[&str]) -> Vec<FieldError> {
    fields
        .iter()
        .filter(|field| object.get(field).is_some_and(|value| !is_empty(value)))
        .map(|field| refusal(&format!("{path}.{field}")))
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn refusal(path: &str) -> FieldError {
    FieldError::forbidden(path, format!("not supported by the embedded cluster: {path}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(spec: &Value) -> Vec<String> {
        pod(spec, "spec").into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let spec = json!({"hostNetwork": true, "hostPID": false,
            "volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}],
            "containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 1}],
                "livenessProbe": {"grpc": {"port": 1}}}]});
        assert_eq!(
            refused(&spec),
            [
                "spec.hostNetwork",
                "spec.volumes[0].hostPath",
                "spec.containers[0].ports[0].hostPort",
                "spec.containers[0].livenessProbe.grpc"
            ]
        );
    }

    #[test]
    fn the_usual_pod_is_supported() {
        let spec = json!({"securityContext": {"runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "a", "emptyDir": {"medium": "Memory"}}, {"name": "p", "projected": {"sources": [
                {"configMap": {"name": "x"}}, {"serviceAccountToken": {"path": "t"}}]}}],
            "initContainers": [{"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "c", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]});
        assert!(refused(&spec).is_empty());
    }
}
