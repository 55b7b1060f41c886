//! `meta.k8s.io/v1 Table`: what `kubectl get` prints.

use serde_json::{Value, json};

use super::content::metadata_only;
use super::object;
use super::request::Context;

/// A table of objects; a row carries the object's metadata, or all of it or nothing (`includeObject`).
pub(crate) fn of_objects(ctx: &Context, objects: &[&Value], revision: &str) -> Value {
    let columns = vec![column("Name", "string"), column("Age", "string")];
    let rows: Vec<Value> = objects
        .iter()
        .map(|value| {
            let cells = json!([
                object::name(value),
                object::text(value, &["metadata", "creationTimestamp"])
            ]);
            json!({"cells": cells, "object": row_object(ctx, value)})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision},
        "columnDefinitions": columns, "rows": rows})
}

/// The table that a bookmark is wrapped in.
pub(crate) fn bookmark(ctx: &Context, bookmark: &Value) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": object::text(bookmark, &["metadata", "resourceVersion"])},
        "columnDefinitions": null, "rows": [{"cells": [], "object": row_object(ctx, bookmark)}]})
}

fn column(name: &str, column_type: &str) -> Value {
    json!({"name": name, "type": column_type, "format": "", "description": "", "priority": 0})
}

fn row_object(ctx: &Context, value: &Value) -> Value {
    match ctx.options.get("includeObject") {
        "None" => Value::Null,
        "Object" => value.clone(),
        _ => metadata_only(value),
    }
}
