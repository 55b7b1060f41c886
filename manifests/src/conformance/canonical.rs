//! Replaces a chart's own names by those of the table:
//! - the name of a Job's only container;
//! - the name of the server's container, recognised by its data directory;
//! - the names of the server's volumes, recognised by mount path;
//! - the names of ports, recognised by number.
//!
//! It also fills in the update strategy's type, which the table expects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::case::tool_name;

/// The README's volumes, by mount path.
const MOUNTS: [(&str, &str); 4] = [
    ("/data", "data"),
    ("/etc/valkey", "config"),
    ("/tmp", "tmp"),
    ("/run/valkey", "run"),
];

/// The name that the table gives the server's container.
const SERVER: &str = "valkey";

/// The README's ports, by the numbers that the table's values give them.
const PORTS: [(i64, &str); 4] = [
    (6379, "valkey"),
    (6380, "valkey"),
    (16379, "cluster-bus"),
    (17000, "cluster-bus"),
];

/// Renames containers, volumes and ports of an object with this role.
pub(super) fn rename(role: &str, object: &mut Value) {
    if role.split(' ').next() == Some("Service") {
        rename_ports(object, "/spec/ports", "port");
        return;
    }
    if role == "StatefulSet" {
        rename_server(object);
        for container in items(object, "/spec/template/spec/containers") {
            if container["name"] == SERVER {
                rename_ports(container, "/ports", "containerPort");
            }
        }
        rename_volumes(object);
        let kind = &mut object["spec"]["updateStrategy"]["type"];
        if kind.is_null() {
            *kind = "RollingUpdate".into();
        }
        return;
    }
    let containers = match role.split(' ').next() {
        Some("Pod") => object.pointer_mut("/spec/containers"),
        Some("Job") => object.pointer_mut("/spec/template/spec/containers"),
        _ => None,
    };
    if let Some([only]) = containers.and_then(Value::as_array_mut).map(Vec::as_mut_slice) {
        only["name"] = tool_name(role).into();
    }
}

/// Gives the server's container its name: the container with the data directory, or the only one.
fn rename_server(set: &mut Value) {
    let containers = set.pointer_mut("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array_mut).map(Vec::as_mut_slice);
    let containers = containers.unwrap_or_default();
    if containers.iter().any(|container| container["name"] == SERVER) {
        return;
    }
    let has_data = |container: &&mut Value| {
        let mounts = container["volumeMounts"].as_array();
        let mut mounts = mounts.into_iter().flatten();
        mounts.any(|mount| mount["mountPath"] == "/data")
    };
    let is_only = containers.len() == 1;
    if let Some(server) = containers
        .iter_mut()
        .find(|container| is_only || has_data(container))
    {
        server["name"] = SERVER.into();
    }
}

/// Gives the ports below `pointer` their names, and Services' target ports, too.
fn rename_ports(object: &mut Value, pointer: &str, number: &str) {
    for port in items(object, pointer) {
        let known = PORTS
            .iter()
            .find(|(known, _)| port[number].as_i64() == Some(*known));
        let Some((_, known)) = known else {
            continue;
        };
        if port["targetPort"].is_string() {
            port["targetPort"] = (*known).into();
        }
        port["name"] = (*known).into();
    }
}

fn rename_volumes(set: &mut Value) {
    let containers = set
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array);
    let server = containers
        .into_iter()
        .flatten()
        .find(|container| container["name"] == SERVER);
    let mounts = server.and_then(|server| server["volumeMounts"].as_array());
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for mount in mounts.into_iter().flatten() {
        let path = mount["mountPath"]
            .as_str()
            .unwrap_or_default()
            .trim_end_matches('/');
        let known = MOUNTS.iter().find(|(at, _)| *at == path);
        if let (Some((_, known)), Some(own)) = (known, mount["name"].as_str()) {
            names.insert(own.to_owned(), known);
        }
    }
    let taken = |name: &str| names.keys().any(|own| own != name) && names.contains_key(name);
    // Swapping names with each other would cause a collision, but no chart does that.
    if names.iter().any(|(own, known)| own != known && taken(known)) {
        return;
    }
    let renamed = |name: &mut Value| {
        if let Some(known) = name.as_str().and_then(|own| names.get(own)) {
            *name = (*known).into();
        }
    };
    for pointer in ["/spec/template/spec/volumes", "/spec/volumeClaimTemplates"] {
        for item in items(set, pointer) {
            let at = if pointer.ends_with("volumes") {
                "/name"
            } else {
                "/metadata/name"
            };
            item.pointer_mut(at).map(renamed);
        }
    }
    for kind in ["containers", "initContainers"] {
        for container in items(set, &format!("/spec/template/spec/{kind}")) {
            for mount in items(container, "/volumeMounts") {
                mount.pointer_mut("/name").map(renamed);
            }
        }
    }
}

fn items<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    value
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_go_by_their_paths_and_tools_by_their_roles() {
        let mut set = json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "valkey-data"}}],
            "template": {"spec": {"volumes": [{"name": "conf"}, {"name": "own"}],
                "containers": [{"name": "valkey", "volumeMounts": [{"name": "valkey-data", "mountPath": "/data"},
                    {"name": "conf", "mountPath": "/etc/valkey/"}, {"name": "own", "mountPath": "/own"}]}]}}}});
        rename("StatefulSet", &mut set);
        assert_eq!(
            set.pointer("/spec/volumeClaimTemplates/0/metadata/name"),
            Some(&json!("data"))
        );
        let spec = &set["spec"]["template"]["spec"];
        assert_eq!(spec["volumes"], json!([{"name": "config"}, {"name": "own"}]));
        assert_eq!(spec["containers"][0]["volumeMounts"][1]["name"], "config");
        let mut job = json!({"spec": {"template": {"spec": {"containers": [{"name": "init"}]}}}});
        rename("Job cluster-init", &mut job);
        assert_eq!(
            job.pointer("/spec/template/spec/containers/0/name"),
            Some(&json!("cluster-init"))
        );
    }
}
