//! Defaults of pods and pod templates.

use serde_json::{Value, json};

use super::set;
use crate::api::object::{self, at, list, text};
use crate::api::verbs::delete::DEFAULT_GRACE_SECONDS;

/// Seconds for which a pod tolerates a lost node: the default of the DefaultTolerationSeconds
/// admission plugin.
const TOLERATION_SECONDS: i64 = 300;

/// Mode of files in volumes made from objects: 0644.
const FILE_MODE: i64 = 0o644;

/// Lifetime of a projected service account token, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// Fills in the spec of a pod template. (Only pods get tolerations.)
pub(crate) fn apply_template(spec: &mut Value) {
    set(spec, "restartPolicy", json!("Always"));
    set(
        spec,
        "terminationGracePeriodSeconds",
        json!(DEFAULT_GRACE_SECONDS),
    );
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", json!("default-scheduler"));
    service_account(spec);
    for field in ["initContainers", "containers"] {
        for container in list_mut(spec, field) {
            self::container(container);
        }
    }
    for volume in list_mut(spec, "volumes") {
        self::volume(volume);
    }
}

/// Fills in a pod.
pub(crate) fn apply(pod: &mut Value) {
    let spec = &mut pod["spec"];
    apply_template(spec);
    set(spec, "serviceAccountName", json!("default"));
    set(spec, "serviceAccount", spec["serviceAccountName"].clone());
    set(spec, "enableServiceLinks", json!(true));
    set(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    set(spec, "priority", json!(0));
    // `podIPs` is the newer form of `podIP`. The API keeps both, whichever is written.
    for (one, all) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        let ip = text(pod, &["status", one]).to_owned();
        if !ip.is_empty() {
            set(&mut pod["status"], all, json!([{"ip": ip}]));
        }
    }
    let spec = &mut pod["spec"];
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        tolerate(spec, key);
    }
}

/// Returns `Guaranteed`, `Burstable` or `BestEffort`, from the containers' CPU and memory.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = list(pod, &["spec", "containers"])
        .iter()
        .chain(list(pod, &["spec", "initContainers"]))
        .collect();
    let amount = |container: &&Value, which: &str, resource: &str| {
        text(container, &["resources", which, resource]).to_owned()
    };
    let mut any = false;
    let mut guaranteed = true;
    for container in &containers {
        for resource in ["cpu", "memory"] {
            let (request, limit) = (
                amount(container, "requests", resource),
                amount(container, "limits", resource),
            );
            any |= !request.is_empty() || !limit.is_empty();
            guaranteed &= !limit.is_empty() && (request.is_empty() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn service_account(spec: &mut Value) {
    // `serviceAccount` is the old name of the same field.
    if text(spec, &["serviceAccountName"]).is_empty() {
        let old = text(spec, &["serviceAccount"]).to_owned();
        object::remove(spec, "serviceAccountName");
        if !old.is_empty() {
            spec["serviceAccountName"] = json!(old);
        }
    }
    let name = text(spec, &["serviceAccountName"]).to_owned();
    if !name.is_empty() {
        spec["serviceAccount"] = json!(name);
    }
}

fn container(container: &mut Value) {
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    let policy = if is_latest(text(container, &["image"])) {
        "Always"
    } else {
        "IfNotPresent"
    };
    set(container, "imagePullPolicy", json!(policy));
    set(container, "resources", json!({}));
    for port in list_mut(container, "ports") {
        set(port, "protocol", json!("TCP"));
    }
    for env in list_mut(container, "env") {
        if let Some(field) = env.pointer_mut("/valueFrom/fieldRef") {
            set(field, "apiVersion", json!("v1"));
        }
        if let Some(field) = env.pointer_mut("/valueFrom/resourceFieldRef") {
            set(field, "divisor", json!("0"));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).filter(|probe| probe.is_object()) {
            self::probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")) {
            http_get(get);
        }
    }
    default_requests(container);
}

/// Sets a missing request to the limit.
fn default_requests(container: &mut Value) {
    let limits = at(container, &["resources", "limits"])
        .and_then(Value::as_object)
        .cloned();
    for (resource, amount) in limits.unwrap_or_default() {
        let requests = &mut container["resources"]["requests"];
        if requests.is_null() {
            *requests = json!({});
        }
        set(requests, &resource, amount);
    }
}

fn probe(probe: &mut Value) {
    set(probe, "timeoutSeconds", json!(1));
    set(probe, "periodSeconds", json!(10));
    set(probe, "successThreshold", json!(1));
    set(probe, "failureThreshold", json!(3));
    for (key, default) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe[key] == 0 {
            probe[key] = json!(default);
        }
    }
    if let Some(get) = probe.get_mut("httpGet") {
        http_get(get);
    }
}

fn http_get(get: &mut Value) {
    set(get, "path", json!("/"));
    set(get, "scheme", json!("HTTP"));
}

fn volume(volume: &mut Value) {
    if volume
        .as_object()
        .is_some_and(|map| map.len() == 1 && map.contains_key("name"))
    {
        volume["emptyDir"] = json!({});
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            set(source, "defaultMode", json!(FILE_MODE));
        }
    }
    let items = volume
        .pointer_mut("/downwardAPI/items")
        .and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        if let Some(field) = item.get_mut("fieldRef") {
            set(field, "apiVersion", json!("v1"));
        }
    }
    let sources = volume
        .pointer_mut("/projected/sources")
        .and_then(Value::as_array_mut);
    for source in sources.into_iter().flatten() {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            set(token, "expirationSeconds", json!(TOKEN_SECONDS));
        }
    }
}

fn tolerate(spec: &mut Value, key: &str) {
    let covered = list(spec, &["tolerations"]).iter().any(|toleration| {
        let (own_key, effect) = (text(toleration, &["key"]), text(toleration, &["effect"]));
        (own_key == key || own_key.is_empty()) && matches!(effect, "" | "NoExecute")
    });
    if covered {
        return;
    }
    set(spec, "tolerations", json!([]));
    if let Some(tolerations) = spec["tolerations"].as_array_mut() {
        tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": TOLERATION_SECONDS}));
    }
}

/// Returns true for an image without a digest that has no tag, or the tag `latest`.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn list_mut<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_what_kubernetes_gives_them() {
        let mut pod = json!({"spec": {"containers": [{"name": "c", "image": "registry:5000/a:1",
            "ports": [{"containerPort": 1}], "livenessProbe": {"exec": {"command": ["x"]}, "periodSeconds": 0},
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}});
        apply(&mut pod);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["ports"][0]["protocol"], "TCP");
        assert_eq!(container["livenessProbe"]["periodSeconds"], 10);
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(qos_class(&pod), "Guaranteed");
        assert_eq!(pod["spec"]["tolerations"].as_array().expect("a list").len(), 2);
    }

    #[test]
    fn defaulting_twice_changes_nothing() {
        let mut once = json!({"spec": {"containers": [{"name": "c", "image": "a"}]}});
        apply(&mut once);
        let mut twice = once.clone();
        apply(&mut twice);
        assert_eq!(once, twice);
        assert_eq!(once["spec"]["containers"][0]["imagePullPolicy"], "Always");
    }
}
