//! Fields with Kubernetes' default value: spelled out or left out, they mean the same.

use serde_json::{Value, json};

/// Fields and their defaults (Kubernetes API reference, v1.35). In charts of this kind, a field has
/// the same default wherever it occurs. The position is therefore not needed.
const DEFAULTS: &[(&str, Default)] = &[
    ("protocol", Text("TCP")),
    ("sessionAffinity", Text("None")),
    ("internalTrafficPolicy", Text("Cluster")),
    ("externalTrafficPolicy", Text("Cluster")),
    ("ipFamilyPolicy", Text("SingleStack")),
    ("publishNotReadyAddresses", Flag(false)),
    ("dnsPolicy", Text("ClusterFirst")),
    ("schedulerName", Text("default-scheduler")),
    ("serviceAccountName", Text("default")),
    ("automountServiceAccountToken", Flag(true)),
    ("enableServiceLinks", Flag(true)),
    ("hostNetwork", Flag(false)),
    ("hostPID", Flag(false)),
    ("hostIPC", Flag(false)),
    ("shareProcessNamespace", Flag(false)),
    ("terminationGracePeriodSeconds", Number(30)),
    ("terminationMessagePath", Text("/dev/termination-log")),
    ("terminationMessagePolicy", Text("File")),
    ("imagePullPolicy", Text("IfNotPresent")),
    ("timeoutSeconds", Number(1)),
    ("periodSeconds", Number(10)),
    ("successThreshold", Number(1)),
    ("failureThreshold", Number(3)),
    ("initialDelaySeconds", Number(0)),
    ("privileged", Flag(false)),
    ("readOnlyRootFilesystem", Flag(false)),
    ("runAsNonRoot", Flag(false)),
    ("procMount", Text("Default")),
    ("readOnly", Flag(false)),
    ("optional", Flag(false)),
    ("defaultMode", Number(0o644)),
    ("divisor", Text("0")),
    ("stdin", Flag(false)),
    ("stdinOnce", Flag(false)),
    ("tty", Flag(false)),
    ("replicas", Number(1)),
    ("podManagementPolicy", Text("OrderedReady")),
    ("revisionHistoryLimit", Number(10)),
    ("minReadySeconds", Number(0)),
    ("partition", Number(0)),
    ("whenDeleted", Text("Retain")),
    ("whenScaled", Text("Retain")),
    ("volumeMode", Text("Filesystem")),
    ("completions", Number(1)),
    ("parallelism", Number(1)),
    ("completionMode", Text("NonIndexed")),
    ("suspend", Flag(false)),
    ("backoffLimit", Number(6)),
    ("podReplacementPolicy", Text("TerminatingOrFailed")),
    ("immutable", Flag(false)),
];

/// Defaults of `type`, which has other values in each kind. No word here is the default in one kind
/// and a mere option in another.
const TYPES: [&str; 2] = ["ClusterIP", "Opaque"];

enum Default {
    Text(&'static str),
    Number(i64),
    Flag(bool),
}
use Default::{Flag, Number, Text};

/// Returns true if `value` is the default that Kubernetes uses for an absent field `key`.
pub(super) fn is_default(key: &str, value: &Value) -> bool {
    if key == "type" {
        return value.as_str().is_some_and(|value| TYPES.contains(&value));
    }
    DEFAULTS
        .iter()
        .any(|(field, default)| *field == key && default.is(value))
}

impl Default {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Text(text) => value == text,
            Self::Number(number) => *value == json!(number),
            Self::Flag(flag) => *value == json!(flag),
        }
    }
}

/// Removes Kubernetes' defaults at any depth, except below names that users choose.
pub(super) fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            strip_service_port(fields);
            for (key, field) in fields.iter_mut() {
                if matches!(key.as_str(), "limits" | "requests") {
                    quantities_as_texts(field);
                }
                if !["metadata", "data", "matchLabels", "selector", "nodeSelector"].contains(&key.as_str()) {
                    strip(field);
                }
            }
            if fields.contains_key("fieldPath") {
                fields.retain(|key, field| !(key == "apiVersion" && field == "v1"));
            }
            fields.retain(|key, field| !is_default(key, field));
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Converts quantities to text: `cpu: 2` and `cpu: "2"` are equal.
fn quantities_as_texts(amounts: &mut Value) {
    for amount in amounts
        .as_object_mut()
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
    {
        if amount.is_number() {
            *amount = amount.to_string().into();
        }
    }
}

/// Removes a Service's target port if it equals the port, which is the default.
fn strip_service_port(fields: &mut serde_json::Map<String, Value>) {
    let same = fields.get("targetPort").is_some() && fields.get("targetPort") == fields.get("port");
    if same {
        fields.remove("targetPort");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelled_out_defaults_are_absent_and_labels_are_left_alone() {
        let mut set = json!({"metadata": {"labels": {"protocol": "TCP"}}, "spec": {"replicas": 1,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "containers": [{"name": "c", "imagePullPolicy": "IfNotPresent", "resources": {"limits": {"cpu": 2}},
                "ports": [{"containerPort": 6379, "protocol": "TCP"}, {"containerPort": 1, "protocol": "UDP"}],
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}]}]}});
        strip(&mut set);
        let expected = json!({"metadata": {"labels": {"protocol": "TCP"}}, "spec": {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {}},
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}},
                "ports": [{"containerPort": 6379}, {"containerPort": 1, "protocol": "UDP"}],
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}]}});
        assert_eq!(set, expected);
    }
}
