//! The container of a pod in which the server runs. The chart's README does not name it.

use k8s_openapi::api::core::v1::{Container, Pod};

/// The port on which Valkey listens by default.
const PORT: i32 = 6379;

/// The data directory of Valkey's images.
const DATA_DIR: &str = "/data";

/// The usual name.
const NAME: &str = "valkey";

/// Returns the server's container: the one with Valkey's port, the usual name or the data
/// directory, in this order; or else the first. A sidecar may have the data directory, too.
pub fn server_container(pod: &Pod) -> Option<&Container> {
    let containers = &pod.spec.as_ref()?.containers;
    let has_port = |container: &&Container| {
        let mut ports = container.ports.iter().flatten();
        ports.any(|port| port.container_port == PORT)
    };
    let has_data = |container: &&Container| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| mount.mount_path.trim_end_matches('/') == DATA_DIR)
    };
    let found = containers.iter().find(has_port);
    let found = found.or_else(|| containers.iter().find(|container| container.name == NAME));
    let found = found.or_else(|| containers.iter().find(has_data));
    found.or_else(|| containers.first())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_server_is_known_by_its_port_its_data_or_its_name() {
        let own = json!({"name": "percona-valkey", "ports": [{"containerPort": 6379}]});
        let data = json!({"name": "db", "volumeMounts": [{"name": "d", "mountPath": "/data/"}]});
        let named = json!({"name": "valkey"});
        let other = json!({"name": "exporter", "ports": [{"containerPort": 9121}]});
        let found = |containers: &[&Value]| {
            let pod = json!({"spec": {"containers": containers}});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            server_container(&pod).map(|container| container.name.clone())
        };
        assert_eq!(
            found(&[&other, &named, &data, &own]).as_deref(),
            Some("percona-valkey")
        );
        assert_eq!(found(&[&other, &data, &named]).as_deref(), Some("valkey"));
        assert_eq!(found(&[&other, &data]).as_deref(), Some("db"));
        assert_eq!(found(&[&other]).as_deref(), Some("exporter"));
    }
}
