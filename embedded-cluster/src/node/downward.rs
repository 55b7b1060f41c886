//! The downward API: fields and resources of a pod as text, for environment variables and volumes.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::quantity;

/// Returns the value of `fieldRef.fieldPath`.
///
/// # Errors
/// Fails for a path that Kubernetes does not offer.
pub(crate) fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let metadata = &pod.metadata;
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .cloned()
            .unwrap_or_default());
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(key))
            .cloned()
            .unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => Some(map(metadata.labels.as_ref())),
        "metadata.annotations" => Some(map(metadata.annotations.as_ref())),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" | "status.podIPs" => status.and_then(|status| status.pod_ip.clone()),
        "status.hostIP" | "status.hostIPs" => status.and_then(|status| status.host_ip.clone()),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    };
    Ok(value.unwrap_or_default())
}

/// Returns the value of a `resourceFieldRef`: the limit or request of a container, in units of the
/// divisor, rounded up.
///
/// # Errors
/// Fails for a resource other than CPU, memory or ephemeral storage, or a divisor that is not a
/// quantity.
pub(crate) fn resource(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => container,
        Some(name) => spec
            .and_then(|spec| {
                spec.containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten())
                    .find(|c| c.name == name)
            })
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let of = match kind {
        "limits" => limits,
        "requests" => resources
            .and_then(|resources| resources.requests.as_ref())
            .or(limits),
        _ => return Err(unsupported()),
    };
    let parse = |text: &str| quantity::milli(text).ok_or_else(|| format!("{text:?} is not a quantity"));
    let milli = match of.and_then(|of| of.get(name)) {
        Some(quantity) => parse(&quantity.0)?,
        // Without a limit, the value is the node's capacity.
        None => match (kind, name) {
            ("limits", "cpu") => super::capacity::node_cpus() * 1000,
            ("limits", "memory") => super::capacity::node_memory() * 1000,
            ("requests", "cpu" | "memory") | (_, "ephemeral-storage") => 0,
            _ => return Err(unsupported()),
        },
    };
    let divisor = match selector.divisor.as_ref().map(|divisor| divisor.0.as_str()) {
        None | Some("" | "0") => 1000,
        Some(text) => parse(text)?.max(1),
    };
    Ok(((milli + divisor - 1) / divisor).to_string())
}

fn subscript<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    path.strip_prefix(base)?.strip_prefix("['")?.strip_suffix("']")
}

/// Formats a whole map as Kubernetes does: one `key="value"` per line, in order.
fn map(values: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = values
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_by_key_and_as_a_whole() {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"labels": {"app.kubernetes.io/name": "v", "b": "2"}}}),
        )
        .unwrap();
        assert_eq!(
            field(&pod, "metadata.labels['app.kubernetes.io/name']").unwrap(),
            "v"
        );
        assert_eq!(
            field(&pod, "metadata.labels").unwrap(),
            "app.kubernetes.io/name=\"v\"\nb=\"2\""
        );
        assert_eq!(
            field(&pod, "status.phase").unwrap_err(),
            "unsupported fieldPath: status.phase"
        );
    }

    #[test]
    fn resources_are_rounded_up_in_units_of_the_divisor() {
        let container: Container = serde_json::from_value(
            json!({"name": "c", "resources": {"limits": {"memory": "100Mi", "cpu": "1500m"}}}),
        )
        .unwrap();
        let value = |resource: &str, divisor: &str| {
            let selector = serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            resource_of(&container, &selector)
        };
        assert_eq!(value("limits.memory", "1Mi"), "100");
        assert_eq!(value("limits.cpu", "1"), "2");
        assert_eq!(value("requests.cpu", "1m"), "1500");
    }

    fn resource_of(container: &Container, selector: &ResourceFieldSelector) -> String {
        resource(&Pod::default(), container, selector).unwrap()
    }
}
