//! OpenAPI, as far as clients look into it: kubectl wants to know whether the server validates fields
//! (`fieldValidation`) and can be asked for a dry run, and `kubectl explain` reads the schemas, which come with the
//! types. Version 2 has no schemas: nothing that speaks version 3 asks for it.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::kinds::{KINDS, Kind, groups};

/// Where a document keeps its schemas.
const SCHEMAS: &str = "/components/schemas";

/// `/openapi/v3`: where the document of each group and version is.
pub(crate) fn index() -> Value {
    let mut paths = json!({});
    for (group, version) in groups() {
        let path = prefix(group, version);
        paths[path.as_str()] = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
    }
    json!({"paths": paths})
}

/// `/openapi/v3/apis/GROUP/VERSION`.
pub(crate) fn document(group: &str, version: &str) -> Option<Value> {
    if !groups().contains(&(group, version)) {
        return None;
    }
    let mut paths = json!({});
    for kind in KINDS.iter().filter(|k| k.group == group && k.version == version) {
        paths[path(kind)] = item(
            kind,
            |name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}),
        );
    }
    let schemas = schemas(group, version);
    Some(json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": {"schemas": schemas}}))
}

/// `/openapi/v2`: everything in one document.
pub(crate) fn document_v2() -> Value {
    let mut paths = json!({});
    for kind in KINDS {
        paths[path(kind)] = item(
            kind,
            |name| json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}),
        );
    }
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": {}})
}

/// The schemas of the kinds of a group and version, and of every type that they are made of.
fn schemas(group: &str, version: &str) -> Map<String, Value> {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = SCHEMAS.into())
        .into_generator();
    let kinds = KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version);
    let named: Vec<(String, &Kind)> = kinds
        .filter_map(|kind| {
            let reference = serde_json::to_value((kind.schema)(&mut generator)).ok()?;
            let name = reference["$ref"].as_str()?.rsplit('/').next()?.to_owned();
            Some((name, kind))
        })
        .collect();
    let mut schemas = generator.take_definitions(true);
    for (name, kind) in named {
        if let Some(schema) = schemas.get_mut(&name) {
            let kind = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
            schema["x-kubernetes-group-version-kind"] = json!([kind]);
        }
    }
    schemas
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "embedded"})
}

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

fn path(kind: &Kind) -> String {
    let namespace = if kind.namespaced {
        "namespaces/{namespace}/"
    } else {
        ""
    };
    format!(
        "/{}/{namespace}{}/{{name}}",
        prefix(kind.group, kind.version),
        kind.plural
    )
}

fn item(kind: &Kind, parameter: impl Fn(&str) -> Value) -> Value {
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
        .into_iter()
        .map(parameter)
        .collect();
    json!({"patch": {
        "operationId": format!("patch{}{}{}", kind.group, kind.version, kind.kind),
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
    }})
}
