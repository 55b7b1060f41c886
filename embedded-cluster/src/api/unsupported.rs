//! Tables of the object parts that the embedded cluster does not support, for the API and the node.
//!
//! Kubernetes accepts and implements everything in these tables. This cluster refuses the object
//! when it is created and names the field, instead of running something else. A setting that only
//! removes a protection is accepted. An event of the pod or Service then says that the setting is
//! not enforced. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::object::{at, list, text};
use super::status::FieldError;
use crate::capabilities;

/// Fields of a pod's spec that must be absent (or false, or empty).
const UNSUPPORTED_POD_FIELDS: &[&str] = &[
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
const SUPPORTED_VOLUMES: &[&str] = &[
    "configMap",
    "downwardAPI",
    "emptyDir",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Sources that a `projected` volume may have.
const SUPPORTED_PROJECTIONS: &[&str] = &["configMap", "downwardAPI", "secret"];

/// Fields of a container that must be absent (or false, or empty).
const UNSUPPORTED_CONTAINER_FIELDS: &[&str] = &["restartPolicyRules", "stdin", "tty", "volumeDevices"];

/// Fields of a container's or pod's security context that must be absent (or false, or empty).
const UNSUPPORTED_SECURITY_FIELDS: &[&str] = &["privileged", "sysctls", "windowsOptions"];

/// Fields of a Job's spec that must be absent (or false, or empty).
const UNSUPPORTED_JOB_FIELDS: &[&str] = &[
    "backoffLimitPerIndex",
    "manualSelector",
    "maxFailedIndexes",
    "podFailurePolicy",
    "successPolicy",
];

/// The controller of Jobs that name no controller.
const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";

/// Service types that are supported.
const SUPPORTED_SERVICE_TYPES: &[&str] = &["ClusterIP", "NodePort", "LoadBalancer"];

/// Returns the refusals of a pod's spec at `path`.
pub(crate) fn pod(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = absent(spec, path, UNSUPPORTED_POD_FIELDS);
    if text(spec, &["os", "name"]) == "windows" {
        errors.push(refusal(&format!("{path}.os.name")));
    }
    if spec["hostUsers"] == false {
        errors.push(refusal_of(&format!("{path}.hostUsers"), "false"));
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

/// Returns the refusals of a Service.
pub(crate) fn service(service: &Value) -> Vec<FieldError> {
    let given = text(service, &["spec", "type"]);
    let mut errors = Vec::new();
    if !given.is_empty() && !SUPPORTED_SERVICE_TYPES.contains(&given) {
        errors.push(refusal_of("spec.type", given));
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

/// Returns the refusals of a Job, apart from its pod template.
pub(crate) fn job(job: &Value) -> Vec<FieldError> {
    let spec = &job["spec"];
    let mut errors = absent(spec, "spec", UNSUPPORTED_JOB_FIELDS);
    if !matches!(text(spec, &["managedBy"]), "" | JOB_CONTROLLER) {
        errors.push(refusal("spec.managedBy"));
    }
    if text(spec, &["completionMode"]) == "Indexed" {
        errors.push(refusal_of("spec.completionMode", "Indexed"));
    }
    errors
}

/// Returns the refusals of a claim's spec at `path`.
pub(crate) fn claim(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = absent(spec, path, &["dataSource", "dataSourceRef"]);
    if text(spec, &["volumeMode"]) == "Block" {
        errors.push(refusal(&format!("{path}.volumeMode")));
    }
    errors
}

/// Returns the settings of a pod that are accepted but have no effect, as the text of an event.
pub(crate) fn unenforced(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    let containers = || {
        ["initContainers", "containers"]
            .into_iter()
            .flat_map(|field| list(spec, &[field]))
    };
    let contexts = std::iter::once(spec)
        .chain(containers())
        .map(|holder| &holder["securityContext"]);
    let mut what = BTreeSet::new();
    for context in contexts {
        if text(context, &["seccompProfile", "type"]) == "RuntimeDefault" {
            what.insert("seccompProfile");
        }
        if context.get("seLinuxOptions").is_some() {
            what.insert("seLinuxOptions");
        }
        if !matches!(text(context, &["appArmorProfile", "type"]), "" | "Unconfined") {
            what.insert("appArmorProfile");
        }
    }
    if containers().any(|container| at(container, &["resources", "limits", "cpu"]).is_some()) {
        what.insert("resources.limits.cpu");
    }
    let list = what.into_iter().collect::<Vec<_>>().join(", ");
    (!list.is_empty()).then(|| format!("accepted but not enforced by the embedded cluster: {list}"))
}

/// Returns the settings of a Service that are accepted but have no effect, as texts of events.
pub(crate) fn unenforced_of_service(service: &Value) -> Vec<String> {
    let proxied = !matches!(text(service, &["spec", "clusterIP"]), "" | "None");
    let ports = list(service, &["spec", "ports"]).iter().filter(|_| proxied);
    let mut found: Vec<String> = ports
        .filter(|port| !matches!(text(port, &["protocol"]), "" | "TCP"))
        .map(|port| {
            let protocol = text(port, &["protocol"]);
            format!("port {}/{protocol} is not forwarded: only TCP is", port["port"])
        })
        .collect();
    if let kind @ ("NodePort" | "LoadBalancer") = text(service, &["spec", "type"]) {
        found.push(format!(
            "type {kind} is reachable inside the cluster only: there are no node ports"
        ));
    }
    found
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
        if !matches!(text(mount, &["mountPropagation"]), "" | "None") {
            errors.push(refusal(&format!("{path}.volumeMounts[{index}].mountPropagation")));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if at(container, &[probe, "grpc"]).is_some() {
            errors.push(refusal(&format!("{path}.{probe}.grpc")));
        }
        if text(container, &[probe, "httpGet", "scheme"]) == "HTTPS" {
            errors.push(refusal_of(&format!("{path}.{probe}.httpGet.scheme"), "HTTPS"));
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
        errors.extend(confinement(context, &path));
        if !matches!(text(context, &["procMount"]), "" | "Default") {
            errors.push(refusal(&format!("{path}.procMount")));
        }
    }
    errors
}

/// Refuses capabilities that reach beyond a container. Containers share the kernel with whoever
/// runs the cluster.
fn confinement(context: &Value, path: &str) -> Vec<FieldError> {
    let added = list(context, &["capabilities", "add"]).iter().enumerate();
    added
        .filter_map(|(index, capability)| Some((index, capability.as_str()?)))
        .filter(|(_, capability)| !capabilities::is_confined(capability))
        .map(|(index, capability)| {
            let path = format!("{path}.capabilities.add[{index}]");
            refusal_of(&path, &format!("{capability} reaches beyond the container"))
        })
        .collect()
}

/// Refuses profiles from files of the node. `RuntimeDefault` and `Unconfined` are accepted.
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

/// Refuses a field because of its value.
fn refusal_of(path: &str, value: &str) -> FieldError {
    FieldError::forbidden(
        path,
        format!("not supported by the embedded cluster: {path} {value}"),
    )
}

#[cfg(test)]
#[path = "unsupported_tests.rs"]
mod tests;
