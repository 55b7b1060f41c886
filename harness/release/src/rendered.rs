//! The expected deployment, read from the rendered objects: names, and settings without a chart
//! parameter. For a parameter, its value is the expectation from the README, and the rendering is
//! judged.

use std::collections::BTreeMap;

use manifests::release::PASSWORD_KEY;
use manifests::{Mode, Values};
use serde_json::Value;

use super::bundle::Bundle;
use super::object::Object;

/// The key of the configuration in its ConfigMap (chart README, "Chart Structure").
const CONFIG_KEY: &str = "valkey.conf";

impl Bundle {
    /// Returns the StatefulSet of the server pods.
    pub fn stateful_set(&self) -> Option<&Object> {
        self.of_kind("StatefulSet").next()
    }

    /// Returns the name of the Secret with the servers' password.
    pub fn secret_name(&self) -> Option<&str> {
        let set = self.stateful_set()?;
        let containers = at(set, "/spec/template/spec/containers")?.as_array()?;
        let variables = containers
            .iter()
            .filter_map(|container| container["env"].as_array());
        let referred = variables.flatten().find_map(|variable| {
            let reference = variable.pointer("/valueFrom/secretKeyRef")?;
            (reference["key"] == PASSWORD_KEY).then(|| reference["name"].as_str())?
        });
        referred.or_else(|| {
            let has_key = |secret: &&Object| {
                ["data", "stringData"]
                    .iter()
                    .any(|part| secret.content.data[*part].get(PASSWORD_KEY).is_some())
            };
            self.of_kind("Secret").find(has_key).map(Object::name)
        })
    }

    /// Returns the ConfigMap with `valkey.conf`.
    pub fn config_map(&self) -> Option<&Object> {
        let has_key = |map: &&Object| map.content.data["data"].get(CONFIG_KEY).is_some();
        self.of_kind("ConfigMap").find(has_key)
    }

    /// Returns the directives of `valkey.conf`. The last occurrence of a directive counts.
    fn directives(&self) -> BTreeMap<&str, &str> {
        let text = self
            .config_map()
            .and_then(|map| map.content.data["data"][CONFIG_KEY].as_str());
        let lines = text.unwrap_or_default().lines().map(str::trim);
        lines
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(char::is_whitespace))
            .map(|(name, arguments)| (name, arguments.trim()))
            .collect()
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.resources.iter().filter(move |object| object.kind() == kind)
    }
}

/// Returns `values` as a chart's rendering shows them. `has` returns true if the chart has a
/// parameter.
pub(super) fn expected(values: &Values, bundle: &Bundle, has: impl Fn(&str) -> bool) -> Values {
    let mut values = values.clone();
    let Some(set) = bundle.stateful_set() else {
        return values;
    };
    set.name().clone_into(&mut values.fullname_override);
    let replicas = at(set, "/spec/replicas").and_then(Value::as_u64);
    let replicas = u32::try_from(replicas.unwrap_or(1)).unwrap_or(u32::MAX);
    match values.mode {
        Mode::Cluster if !has("cluster.replicas") => values.cluster.replicas = replicas,
        Mode::Standalone if !has("standalone.replicas") => values.standalone.replicas = replicas,
        _ => {}
    }
    if !has("persistence.enabled") {
        let claims = at(set, "/spec/volumeClaimTemplates").and_then(Value::as_array);
        values.persistence.enabled = claims.is_some_and(|claims| !claims.is_empty());
    }
    if !has("auth.enabled") {
        values.auth.enabled = bundle.secret_name().is_some();
    }
    if let Some(timeout) = bundle.directives().get("cluster-node-timeout")
        && let Ok(timeout) = timeout.parse()
    {
        values.cluster.node_timeout = timeout;
    }
    let rendered = |field: &str| at(set, &format!("/spec/template/spec/securityContext/{field}"))?.as_i64();
    let context = &mut values.security_context;
    for (field, id) in [
        ("runAsUser", &mut context.run_as_user),
        ("runAsGroup", &mut context.run_as_group),
        ("fsGroup", &mut context.fs_group),
    ] {
        if id.is_none() || !has(&format!("securityContext.{field}")) {
            *id = rendered(field);
        }
    }
    values
}

fn at<'a>(object: &'a Object, pointer: &str) -> Option<&'a Value> {
    object.content.data.pointer(pointer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle() -> Bundle {
        Bundle::from_values([
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "own"},
                "spec": {"replicas": 9, "template": {"spec": {"securityContext": {"runAsUser": 1001},
                    "containers": [{"name": "valkey", "env": [{"name": "P", "valueFrom":
                        {"secretKeyRef": {"name": "own-auth", "key": "valkey-password"}}}]}]}}}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own-config"},
                "data": {"valkey.conf": "# x\ncluster-node-timeout 100\n  cluster-node-timeout 7000\n"}}),
        ])
        .unwrap()
    }

    #[test]
    fn what_a_chart_has_no_parameter_for_is_read_from_its_objects() {
        let values = Values {
            mode: Mode::Cluster,
            ..Values::default()
        };
        let read = expected(&values, &bundle(), |_| false);
        assert_eq!((read.cluster.replicas, read.cluster.node_timeout), (9, 7000));
        assert_eq!(read.fullname_override, "own");
        assert!(read.auth.enabled && !read.persistence.enabled);
        assert_eq!(read.security_context.run_as_user, Some(1001));
        assert_eq!(read.security_context.fs_group, None);
        assert_eq!(bundle().secret_name(), Some("own-auth"));
        assert_eq!(bundle().config_map().map(Object::name), Some("own-config"));
    }

    #[test]
    fn a_parameter_the_chart_has_keeps_its_rendered_value() {
        let values = Values {
            mode: Mode::Cluster,
            ..Values::default()
        };
        let promised = expected(&values, &bundle(), |_| true);
        assert_eq!(promised.cluster.replicas, 6);
        assert!(promised.persistence.enabled);
        assert_eq!(promised.security_context.run_as_user, Some(999));
    }
}
