//! The ConfigMap with `valkey.conf`, and the checksum that restarts the pods when it changes.

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};

use super::RenderContext;
use crate::manifests::yaml;
use crate::release::{CLIENT_PORT, StringMap};
use crate::values::{Mode, Values};

/// The number that Valkey adds to the client port for its bus when `cluster-port` is not set.
const BUS_OFFSET: u16 = 10_000;

/// Renders the ConfigMap.
pub(super) fn config_map(context: &RenderContext<'_>) -> ConfigMap {
    ConfigMap {
        metadata: context.metadata(&context.fullname),
        data: Some(StringMap::from([(
            "valkey.conf".to_owned(),
            valkey_conf(context.values),
        )])),
        ..ConfigMap::default()
    }
}

/// Returns the SHA-256 of the whole rendered document, labels included. The chart computes
/// `checksum/config` in this way.
pub(super) fn checksum(config_map: &ConfigMap) -> String {
    Sha256::digest(yaml(config_map))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn valkey_conf(values: &Values) -> String {
    let config = &values.config;
    let mut lines = vec![
        "# Network".to_owned(),
        "protected-mode no".to_owned(),
        format!("port {CLIENT_PORT}"),
        "dir /data".to_owned(),
    ];
    let given = [
        ("bind", &config.bind),
        ("maxmemory", &config.maxmemory),
        ("maxmemory-policy", &config.maxmemory_policy),
    ];
    lines.extend(
        given
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("{key} {value}")),
    );
    lines.extend(
        [
            "# Persistence",
            "save 3600 1 300 100 60 10000",
            "dbfilename dump.rdb",
            "appendonly yes",
            "appendfilename \"appendonly.aof\"",
        ]
        .map(str::to_owned),
    );
    if values.mode == Mode::Cluster {
        lines.extend(cluster_lines(values));
    }
    if !config.custom_config.is_empty() {
        lines.push(String::new());
        lines.push("# Custom".to_owned());
        lines.push(config.custom_config.trim_end_matches('\n').to_owned());
    }
    lines.join("\n") + "\n"
}

fn cluster_lines(values: &Values) -> Vec<String> {
    let mut lines = vec![
        "# Cluster".to_owned(),
        "cluster-enabled yes".to_owned(),
        "cluster-config-file /data/nodes.conf".to_owned(),
        format!("cluster-node-timeout {}", values.cluster.node_timeout),
    ];
    // The chart never passes cluster.busPort to the server, although the README promises that the
    // bus uses it.
    if values.cluster.bus_port != CLIENT_PORT + BUS_OFFSET {
        lines.push(format!("cluster-port {}", values.cluster.bus_port));
    }
    lines
}
