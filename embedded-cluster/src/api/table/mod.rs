//! `meta.k8s.io/v1 Table`: the output of `kubectl get`. The columns of each kind are Kubernetes'
//! own.

mod cells;
pub(crate) mod cluster;
pub(crate) mod pods;
pub(crate) mod workloads;

use serde_json::{Value, json};

use super::content::metadata_only;
use super::events;
use super::object::{self, text};
use super::request::RequestContext;

/// One column: its name, type (`string` or `integer`), and 1 when it is for `-o wide` only.
#[derive(Clone, Copy, Debug)]
struct Column {
    name: &'static str,
    kind: &'static str,
    priority: u8,
}

/// The table layout of a kind.
pub(crate) struct Layout {
    columns: Vec<Column>,
    /// Returns the cells of one object, one per column.
    row: fn(&Value) -> Vec<Value>,
}

/// Returns a table of objects. A row carries the object's metadata, all of it or nothing
/// (`includeObject`).
pub(crate) fn of_objects(ctx: &RequestContext, objects: &[&Value], revision: &str) -> Value {
    let layout = (ctx.kind.behaviour.layout)();
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

/// Returns the table that wraps a bookmark.
pub(crate) fn bookmark(ctx: &RequestContext, bookmark: &Value) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": text(bookmark, &["metadata", "resourceVersion"])},
        "columnDefinitions": null, "rows": [{"cells": [], "object": row_object(ctx, bookmark)}]})
}

fn row_object(ctx: &RequestContext, value: &Value) -> Value {
    match ctx.options.get("includeObject") {
        "None" => Value::Null,
        "Object" => events::to_served(ctx.kind, value.clone()),
        _ => metadata_only(value),
    }
}

/// Returns the layout of a kind without special columns.
pub(crate) fn plain() -> Layout {
    Layout {
        columns: columns("Name|Age"),
        row: |o| vec![json!(object::name(o)), cells::age(o)],
    }
}

/// Parses columns from names separated by `|`. A `#` before a name makes it a number. A `+` shows
/// the column with `-o wide` only.
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
            let layout = (kind.behaviour.layout)();
            let empty = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}});
            assert_eq!((layout.row)(&empty).len(), layout.columns.len(), "{}", kind.kind);
        }
    }
}
