//! Rows of everything that is not a workload: services, storage, nodes, events, data.

use serde_json::{Value, json};

use super::cells::{NONE, age, joined, labels, number, or_none, since};
use super::{Layout, columns};
use crate::api::events::occurred_at;
use crate::api::object::{self, at, list, text};

pub(crate) fn services() -> Layout {
    Layout {
        columns: columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age|+Selector"),
        row: |service| {
            let ports = list(service, &["spec", "ports"])
                .iter()
                .map(|port| format!("{}/{}", number(port, &["port"]), text(port, &["protocol"])));
            vec![
                json!(object::name(service)),
                json!(text(service, &["spec", "type"])),
                or_none(service, &["spec", "clusterIP"]),
                json!(NONE),
                joined(ports),
                age(service),
                labels(at(service, &["spec", "selector"])),
            ]
        },
    }
}

pub(crate) fn endpoints() -> Layout {
    Layout {
        columns: columns("Name|Endpoints|Age"),
        row: |endpoints| {
            let mut all = Vec::new();
            for subset in list(endpoints, &["subsets"]) {
                for address in list(subset, &["addresses"]) {
                    for port in list(subset, &["ports"]) {
                        all.push(format!("{}:{}", text(address, &["ip"]), number(port, &["port"])));
                    }
                }
            }
            vec![json!(object::name(endpoints)), few(&all), age(endpoints)]
        },
    }
}

pub(crate) fn endpoint_slices() -> Layout {
    Layout {
        columns: columns("Name|AddressType|Ports|Endpoints|Age"),
        row: |slice| {
            let ports: Vec<String> = list(slice, &["ports"])
                .iter()
                .map(|port| number(port, &["port"]).to_string())
                .collect();
            let addresses: Vec<String> = list(slice, &["endpoints"])
                .iter()
                .flat_map(|endpoint| list(endpoint, &["addresses"]))
                .filter_map(|address| address.as_str().map(str::to_owned))
                .collect();
            let ports = if ports.is_empty() {
                json!("<unset>")
            } else {
                few(&ports)
            };
            let kind = json!(text(slice, &["addressType"]));
            vec![
                json!(object::name(slice)),
                kind,
                ports,
                few(&addresses),
                age(slice),
            ]
        },
    }
}

/// Formats the first three texts and the number of the others.
fn few(all: &[String]) -> Value {
    match all.len() {
        0 => json!(NONE),
        1..=3 => json!(all.join(",")),
        count => json!(format!("{} + {} more...", all[..3].join(","), count - 3)),
    }
}

pub(crate) fn claims() -> Layout {
    Layout {
        columns: columns(
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|+VolumeMode",
        ),
        row: |claim| {
            let phase = if object::is_terminating(claim) {
                "Terminating"
            } else {
                text(claim, &["status", "phase"])
            };
            vec![
                json!(object::name(claim)),
                json!(phase),
                json!(text(claim, &["spec", "volumeName"])),
                json!(text(claim, &["status", "capacity", "storage"])),
                access_modes(list(claim, &["status", "accessModes"])),
                json!(text(claim, &["spec", "storageClassName"])),
                json!("<unset>"),
                age(claim),
                json!(text(claim, &["spec", "volumeMode"])),
            ]
        },
    }
}

pub(crate) fn volumes() -> Layout {
    Layout {
        columns: columns(
            "Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|+VolumeMode",
        ),
        row: |volume| {
            let claim = match text(volume, &["spec", "claimRef", "name"]) {
                "" => String::new(),
                name => format!("{}/{name}", text(volume, &["spec", "claimRef", "namespace"])),
            };
            let phase = if object::is_terminating(volume) {
                "Terminating"
            } else {
                text(volume, &["status", "phase"])
            };
            vec![
                json!(object::name(volume)),
                json!(text(volume, &["spec", "capacity", "storage"])),
                access_modes(list(volume, &["spec", "accessModes"])),
                json!(text(volume, &["spec", "persistentVolumeReclaimPolicy"])),
                json!(phase),
                json!(claim),
                json!(text(volume, &["spec", "storageClassName"])),
                json!("<unset>"),
                json!(text(volume, &["status", "reason"])),
                age(volume),
                json!(text(volume, &["spec", "volumeMode"])),
            ]
        },
    }
}

fn access_modes(modes: &[Value]) -> Value {
    let short = modes.iter().filter_map(Value::as_str).map(|mode| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    });
    json!(short.collect::<Vec<_>>().join(","))
}

pub(crate) fn storage_classes() -> Layout {
    Layout {
        columns: columns("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"),
        row: |class| {
            let default = text(
                class,
                &[
                    "metadata",
                    "annotations",
                    "storageclass.kubernetes.io/is-default-class",
                ],
            );
            let name = object::name(class);
            let name = if default == "true" {
                format!("{name} (default)")
            } else {
                name.to_owned()
            };
            vec![
                json!(name),
                json!(text(class, &["provisioner"])),
                json!(text(class, &["reclaimPolicy"])),
                json!(text(class, &["volumeBindingMode"])),
                json!(class["allowVolumeExpansion"] == true),
                age(class),
            ]
        },
    }
}

pub(crate) fn nodes() -> Layout {
    Layout {
        columns: columns(
            "Name|Status|Roles|Age|Version|+Internal-IP|+External-IP|+OS-Image|+Kernel-Version|+Container-Runtime",
        ),
        row: |node| {
            let ready = list(node, &["status", "conditions"])
                .iter()
                .find(|c| c["type"] == "Ready");
            let status = match ready.map(|condition| text(condition, &["status"])) {
                Some("True") => "Ready",
                Some(_) => "NotReady",
                None => "Unknown",
            };
            let cordoned = if node["spec"]["unschedulable"] == true {
                ",SchedulingDisabled"
            } else {
                ""
            };
            let labels = at(node, &["metadata", "labels"]).and_then(Value::as_object);
            let roles = labels
                .into_iter()
                .flatten()
                .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/").map(str::to_owned));
            let address = list(node, &["status", "addresses"])
                .iter()
                .find(|a| a["type"] == "InternalIP");
            vec![
                json!(object::name(node)),
                json!(format!("{status}{cordoned}")),
                joined(roles),
                age(node),
                json!(text(node, &["status", "nodeInfo", "kubeletVersion"])),
                address.map_or_else(|| json!(NONE), |a| json!(text(a, &["address"]))),
                json!(NONE),
                json!(text(node, &["status", "nodeInfo", "osImage"])),
                json!(text(node, &["status", "nodeInfo", "kernelVersion"])),
                json!(text(node, &["status", "nodeInfo", "containerRuntimeVersion"])),
            ]
        },
    }
}

pub(crate) fn namespaces() -> Layout {
    Layout {
        columns: columns("Name|Status|Age"),
        row: |ns| {
            vec![
                json!(object::name(ns)),
                json!(text(ns, &["status", "phase"])),
                age(ns),
            ]
        },
    }
}

pub(crate) fn events() -> Layout {
    Layout {
        columns: columns("Last Seen|Type|Reason|Object|+Subobject|+Source|Message|+First Seen|+#Count|+Name"),
        row: |event| {
            let about = format!(
                "{}/{}",
                text(event, &["involvedObject", "kind"]).to_lowercase(),
                text(event, &["involvedObject", "name"])
            );
            let source = match text(event, &["source", "component"]) {
                "" => text(event, &["reportingComponent"]),
                component => component,
            };
            let source = match text(event, &["source", "host"]) {
                "" => source.to_owned(),
                host => format!("{source}, {host}"),
            };
            let first = ["firstTimestamp", "eventTime"]
                .iter()
                .map(|f| text(event, &[f]))
                .find(|t| !t.is_empty());
            let last = match text(event, &["series", "lastObservedTime"]) {
                "" => occurred_at(event),
                last => last,
            };
            vec![
                json!(since(last)),
                json!(text(event, &["type"])),
                json!(text(event, &["reason"])),
                json!(about),
                json!(text(event, &["involvedObject", "fieldPath"])),
                json!(source),
                json!(text(event, &["message"]).trim()),
                json!(since(first.unwrap_or(last))),
                json!(
                    number(event, &["count"])
                        .max(number(event, &["series", "count"]))
                        .max(1)
                ),
                json!(object::name(event)),
            ]
        },
    }
}

fn count_of(object: &Value, fields: &[&str]) -> usize {
    fields
        .iter()
        .filter_map(|field| object.get(field))
        .map(|value| value.as_object().map_or(0, serde_json::Map::len) + value.as_array().map_or(0, Vec::len))
        .sum()
}

pub(crate) fn config_maps() -> Layout {
    Layout {
        columns: columns("Name|#Data|Age"),
        row: |map| {
            vec![
                json!(object::name(map)),
                json!(count_of(map, &["data", "binaryData"])),
                age(map),
            ]
        },
    }
}

pub(crate) fn secrets() -> Layout {
    Layout {
        columns: columns("Name|Type|#Data|Age"),
        row: |secret| {
            let kind = json!(text(secret, &["type"]));
            vec![
                json!(object::name(secret)),
                kind,
                json!(count_of(secret, &["data"])),
                age(secret),
            ]
        },
    }
}

pub(crate) fn service_accounts() -> Layout {
    Layout {
        columns: columns("Name|#Secrets|Age"),
        row: |account| {
            vec![
                json!(object::name(account)),
                json!(count_of(account, &["secrets"])),
                age(account),
            ]
        },
    }
}

pub(crate) fn leases() -> Layout {
    Layout {
        columns: columns("Name|Holder|Age"),
        row: |lease| {
            vec![
                json!(object::name(lease)),
                json!(text(lease, &["spec", "holderIdentity"])),
                age(lease),
            ]
        },
    }
}
