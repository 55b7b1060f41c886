//! The parts of the rendered chart, for changes in place.

use harness::release::Bundle;
use serde_json::Value;

/// The name of the StatefulSet, the client Service, the ConfigMap and the budget.
pub(crate) const SET: &str = "vk-percona-valkey";

/// Returns the object of this kind and name.
pub(crate) fn object<'a>(bundle: &'a mut Bundle, kind: &str, name: &str) -> &'a mut Value {
    let found = bundle.objects_mut().find(|object| {
        object.types.as_ref().is_some_and(|types| types.kind == kind)
            && object.metadata.name.as_deref() == Some(name)
    });
    &mut found
        .unwrap_or_else(|| panic!("the chart does not render {kind} {name}"))
        .data
}

/// Returns the template of the servers' pods.
pub(crate) fn pod_template(bundle: &mut Bundle) -> &mut Value {
    &mut object(bundle, "StatefulSet", SET)["spec"]["template"]["spec"]
}

/// Returns the server's container.
pub(crate) fn server(bundle: &mut Bundle) -> &mut Value {
    let containers = pod_template(bundle)["containers"]
        .as_array_mut()
        .expect("a pod has containers");
    let server = containers
        .iter_mut()
        .find(|container| container["name"] == "valkey");
    server.expect("the chart calls the server's container valkey")
}

/// Returns a container's environment.
pub(crate) fn env(container: &mut Value) -> &mut Vec<Value> {
    container["env"]
        .as_array_mut()
        .expect("the container has an environment")
}

/// Changes the servers' `valkey.conf`. Panics if the change has no effect.
pub(crate) fn change_configuration(bundle: &mut Bundle, change: impl Fn(&str) -> String) {
    let configuration = &mut object(bundle, "ConfigMap", SET)["data"]["valkey.conf"];
    change_text(configuration, change);
}

/// Changes a text. Panics if the change has no effect.
pub(crate) fn change_text(value: &mut Value, change: impl Fn(&str) -> String) {
    let before = value.as_str().expect("the chart renders a text").to_owned();
    let after = change(&before);
    assert_ne!(
        before, after,
        "the chart's text is not what this mutation changes"
    );
    *value = Value::String(after);
}
