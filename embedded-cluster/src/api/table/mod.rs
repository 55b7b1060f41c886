//! `meta.k8s.io/v1 Table`: what `kubectl get` prints. The columns of each kind are Kubernetes' own.

mod cells;
mod cluster;
mod pods;
mod workloads;

use serde_json::{Value, json};

use super::content::metadata_only;
use super::events;
use super::object::{self, text};
use super::request::Context;

/// One column: its name, type (`string` or `integer`), and 1 when it is for `-o wide` only.
#[derive(Clone, Copy, Debug)]
struct Column {
    name: &'static str,
    kind: &'static str,
    priority: u8,
}

/// How a kind is shown.
struct Layout {
    columns: Vec<Column>,
    /// The cells of one object, as many as there are columns.
    row: fn(&Value) -> Vec<Value>,
}

/// A table of objects; a row carries the object's metadata, or all of it or nothing (`includeObject`).
pub(crate) fn of_objects(ctx: &Context, objects: &[&Value], revision: &str) -> Value {
    let layout = layout(ctx.kind.kind);
    let columns: Vec<Value> = layout
        .columns
        .iter()
        .map(|column| {
            let format = if column.name == "Name" { "name" } else { "" };
            json!({"name": column.name, "type": column.kind, "format": format, "description": "",
                "priority": column.priority})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|value| json!({"cells": (layout.row)(value), "object": row_object(ctx, value)}))
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision},
        "columnDefinitions": columns, "rows": rows})
}

/// The table that a bookmark is wrapped in.
pub(crate) fn bookmark(ctx: &Context, bookmark: &Value) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": text(bookmark, &["metadata", "resourceVersion"])},
        "columnDefinitions": null, "rows": [{"cells": [], "object": row_object(ctx, bookmark)}]})
}

fn row_object(ctx: &Context, value: &Value) -> Value {
    match ctx.options.get("includeObject") {
        "None" => Value::Null,
        "Object" => events::to_served(ctx.kind, value.clone()),
        _ => metadata_only(value),
    }
}

fn layout(kind: &str) -> Layout {
    match kind {
        "Pod" => pods::pods(),
        "StatefulSet" => workloads::stateful_sets(),
        "Job" => workloads::jobs(),
        "PodDisruptionBudget" => workloads::disruption_budgets(),
        "ControllerRevision" => workloads::controller_revisions(),
        "Service" => cluster::services(),
        "Endpoints" => cluster::endpoints(),
        "EndpointSlice" => cluster::endpoint_slices(),
        "PersistentVolumeClaim" => cluster::claims(),
        "PersistentVolume" => cluster::volumes(),
        "StorageClass" => cluster::storage_classes(),
        "Node" => cluster::nodes(),
        "Namespace" => cluster::namespaces(),
        "Event" => cluster::events(),
        "ConfigMap" => cluster::config_maps(),
        "Secret" => cluster::secrets(),
        "ServiceAccount" => cluster::service_accounts(),
        "Lease" => cluster::leases(),
        _ => Layout {
            columns: columns("Name|Age"),
            row: |o| vec![json!(object::name(o)), cells::age(o)],
        },
    }
}

/// Columns from their names, separated by `|`; `#` before a name makes it a number, and `+` shows it with
/// `-o wide` only.
fn columns(names: &'static str) -> Vec<Column> {
    names
        .split('|')
        .map(|name| {
            let (name, priority) = name.strip_prefix('+').map_or((name, 0), |rest| (rest, 1));
            let (name, kind) = name
                .strip_prefix('#')
                .map_or((name, "string"), |rest| (rest, "integer"));
            Column { name, kind, priority }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::KINDS;

    #[test]
    fn every_row_has_as_many_cells_as_columns() {
        for kind in KINDS {
            let layout = layout(kind.kind);
            let empty = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}});
            assert_eq!((layout.row)(&empty).len(), layout.columns.len(), "{}", kind.kind);
        }
    }
}
