//! OpenAPI, as far as clients read it.
//!
//! - kubectl checks that the server validates fields (`fieldValidation`) and supports dry runs.
//! - `kubectl explain` reads the schemas, which come with the types.
//!
//! Version 2 has no schemas: clients that speak version 3 never read them there.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::kinds::{KINDS, ResourceKind, groups};

/// The path of the schemas in a document.
const SCHEMAS: &str = "/components/schemas";

/// Returns `/openapi/v3`: the index of the documents of each group and version.
pub(crate) fn index() -> Value {
    let mut paths = json!({});
    for (group, version) in groups() {
        let path = prefix(group, version);
        paths[path.as_str()] = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
    }
    json!({"paths": paths})
}

/// Returns `/openapi/v3/apis/GROUP/VERSION`.
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

/// Returns `/openapi/v2`: everything in one document.
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

/// The only media type in which client libraries ask for version 2.
pub(crate) const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The media type of the answer. The requested type is not a valid media type.
pub(crate) const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Returns `/openapi/v2` in protobuf. Clients ask for it when no version 3 document has their kind.
/// The paths are left out, so that clients find nothing here either. A string field of protobuf is
/// its number and kind, its length and its bytes.
pub(crate) fn document_v2_protobuf() -> Vec<u8> {
    const SWAGGER: u8 = 1;
    const INFO: u8 = 2;
    const TITLE: u8 = 1;
    const VERSION: u8 = 2;
    let field = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("no field is longer than 127 bytes");
        [&[number << 3 | 2, length], content].concat()
    };
    let info = [field(TITLE, b"Kubernetes"), field(VERSION, b"embedded")].concat();
    [field(SWAGGER, b"2.0"), field(INFO, &info)].concat()
}

/// Returns the schemas of a group and version's kinds, and of every type within them.
fn schemas(group: &str, version: &str) -> Map<String, Value> {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = SCHEMAS.into())
        .into_generator();
    let kinds = KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version);
    let named: Vec<(String, &ResourceKind)> = kinds
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

fn path(kind: &ResourceKind) -> String {
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

fn item(kind: &ResourceKind, parameter: impl Fn(&str) -> Value) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_in_protobuf_is_a_document_without_paths() {
        let document = document_v2_protobuf();
        assert_eq!(document[..5], [0x0a, 3, b'2', b'.', b'0']);
        assert_eq!(document[5..7], [0x12, 22]);
        assert_eq!(document[7..9], [0x0a, 10]);
        assert_eq!(&document[9..19], b"Kubernetes");
        assert_eq!(document.len(), 7 + 22);
    }
}
