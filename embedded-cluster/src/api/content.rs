//! Bodies: reading what a client sends, and answering in the form it accepts.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::protobuf;
use super::status::ApiError;

/// The largest body accepted, as in Kubernetes.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;

/// The requested form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    Object,
    /// A `meta.k8s.io/v1 Table`, as `kubectl get` prints it.
    Table,
    /// Only apiVersion, kind and metadata.
    Metadata,
}

/// The content type that the `Accept` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) yaml: bool,
}

impl Accept {
    /// Returns the first acceptable form; 406 when there is none (protobuf alone, for instance).
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(text) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
            return Ok(Self {
                form: Form::Object,
                yaml: false,
            });
        };
        text.split(',').find_map(Self::parse_one).ok_or_else(|| {
            ApiError::new(
                StatusCode::NOT_ACCEPTABLE,
                "NotAcceptable",
                "only the following media types are accepted: application/json, application/yaml",
            )
        })
    }

    fn parse_one(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let yaml = match parts.next()? {
            "application/json" | "application/*" | "*/*" | "" => false,
            "application/yaml" => true,
            _ => return None,
        };
        let form = match parts.find_map(|p| p.strip_prefix("as=")) {
            None => Form::Object,
            Some("Table") => Form::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Form::Metadata,
            Some(_) => return None,
        };
        Some(Self { form, yaml })
    }
}

/// Decodes a JSON or YAML body. An absent body is `null`.
pub(crate) fn decode(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    match media_type(headers) {
        "" | "application/json" => serde_json::from_slice(body).map_err(|error| malformed(&error)),
        "application/yaml" => serde_yaml::from_slice(body).map_err(|error| malformed(&error)),
        other @ "application/vnd.kubernetes.protobuf" => {
            protobuf::decode(body).ok_or_else(|| unsupported_media_type(other))
        }
        other => Err(unsupported_media_type(other)),
    }
}

/// Returns the content type without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

pub(crate) fn unsupported_media_type(given: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (got {given})"
        ),
    )
}

fn malformed(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("the object provided is unrecognized: {error}"))
}

/// Builds an answer with a JSON (or YAML) body.
pub(crate) fn respond(code: StatusCode, yaml: bool, value: &Value) -> Response {
    if yaml {
        let text = serde_yaml::to_string(value).expect("a JSON value is a YAML value");
        return respond_bytes(code, "application/yaml", text.into());
    }
    respond_bytes(code, "application/json", value.to_string().into())
}

/// Builds an answer from a body that is already encoded.
pub(crate) fn respond_bytes(code: StatusCode, content_type: &'static str, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds a `Warning` header, which kubectl prints.
pub(crate) fn warn(response: &mut Response, text: &str) {
    let clean: String = text
        .chars()
        .filter(|c| !c.is_control() && *c != '"' && *c != '\\')
        .collect();
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{clean}\"")) {
        response.headers_mut().append(header::WARNING, value);
    }
}

/// Returns only apiVersion, kind and metadata of an object.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<Accept, ApiError> {
        Accept::parse(&HeaderMap::from_iter([(
            header::ACCEPT,
            text.parse().expect("ascii"),
        )]))
    }

    #[test]
    fn kubectl_gets_a_table() {
        let asked = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1,application/json";
        assert_eq!(accept(asked).expect("acceptable").form, Form::Table);
        let fallback = accept("application/vnd.kubernetes.protobuf,application/json").expect("acceptable");
        assert_eq!(
            fallback,
            Accept {
                form: Form::Object,
                yaml: false
            }
        );
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf")
                .expect_err("protobuf alone")
                .code,
            406
        );
    }

    #[test]
    fn yaml_and_malformed_bodies() {
        let yaml =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"))]);
        assert_eq!(decode(&yaml, b"a: 1").expect("yaml"), json!({"a": 1}));
        assert_eq!(
            decode(&HeaderMap::new(), b"{\"a\":").expect_err("malformed").code,
            400
        );
    }
}
