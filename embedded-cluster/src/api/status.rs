//! Errors as the Kubernetes API reports them: a `Status` object with a code, a reason and causes.
//!
//! Every refusal of this server is an [`ApiError`]. Validation collects field errors as
//! [`FieldError`]s. They become one `Invalid` status with the text that Kubernetes prints.

use http::StatusCode;
use serde_json::{Value, json};

use super::kinds::ResourceKind;

/// A refusal, ready to be sent as a `Status` object.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
}

impl ApiError {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn not_found(kind: &ResourceKind, name: &str) -> Self {
        Self {
            details: Some(details(kind, name)),
            ..Self::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("{} {name:?} not found", kind.qualified_resource()),
            )
        }
    }

    /// The path or resource is not served.
    pub(crate) fn unknown_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn already_exists(kind: &ResourceKind, name: &str) -> Self {
        Self {
            details: Some(details(kind, name)),
            ..Self::new(
                StatusCode::CONFLICT,
                "AlreadyExists",
                format!("{} {name:?} already exists", kind.qualified_resource()),
            )
        }
    }

    pub(crate) fn conflict(kind: &ResourceKind, name: &str, why: &str) -> Self {
        Self {
            details: Some(details(kind, name)),
            ..Self::new(
                StatusCode::CONFLICT,
                "Conflict",
                format!(
                    "Operation cannot be fulfilled on {} {name:?}: {why}",
                    kind.qualified_resource()
                ),
            )
        }
    }

    /// The caller's resourceVersion is not the stored one.
    pub(crate) fn stale(kind: &ResourceKind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(crate) fn forbidden(kind: &ResourceKind, name: &str, why: &str) -> Self {
        Self {
            details: Some(details(kind, name)),
            ..Self::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                format!("{} {name:?} is forbidden: {why}", kind.qualified_resource()),
            )
        }
    }

    /// The client asked for history older than the watch log.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The store is full. The words are etcd's.
    pub(crate) fn store_full() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "etcdserver: mvcc: database space exceeded",
        )
    }

    /// The object is larger than the store accepts. The words are etcd's.
    pub(crate) fn object_too_large() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "",
            "etcdserver: request is too large",
        )
    }

    /// Refused for now: the client should try again later.
    pub(crate) fn too_many_requests(what: &str) -> Self {
        Self {
            details: Some(json!({"retryAfterSeconds": 1})),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TooManyRequests",
                format!("too many {what}, please try again later"),
            )
        }
    }

    pub(crate) fn invalid(kind: &ResourceKind, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = if texts.len() == 1 {
            texts[0].clone()
        } else {
            format!("[{}]", texts.join(", "))
        };
        let causes: Vec<Value> = errors.iter().map(FieldError::cause).collect();
        let mut details = json!({"name": name, "kind": kind.kind, "causes": causes});
        if !kind.group.is_empty() {
            details["group"] = json!(kind.group);
        }
        Self {
            details: Some(details),
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                format!("{} {name:?} is invalid: {text}", kind.qualified_kind()),
            )
        }
    }

    /// Returns the `Status` object to send.
    pub(crate) fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status["code"] = json!(self.code.as_u16());
        status
    }
}

fn details(kind: &ResourceKind, name: &str) -> Value {
    let mut details = json!({"name": name});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    details["kind"] = json!(kind.plural);
    details
}

/// A problem with one field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FieldProblem {
    Required(String),
    Invalid(Value, String),
    Unsupported(Value, Vec<&'static str>),
    Duplicate(Value),
    Forbidden(String),
    TooLong(usize),
    NotFound(Value),
}

/// One validation error; its text is the one Kubernetes' `field.Error` prints.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldError {
    pub(crate) field: String,
    pub(crate) problem: FieldProblem,
}

impl FieldError {
    pub(crate) fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: FieldProblem::Required(detail.into()),
        }
    }

    pub(crate) fn invalid(
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: FieldProblem::Invalid(value.into(), detail.into()),
        }
    }

    pub(crate) fn unsupported(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&'static str],
    ) -> Self {
        Self {
            field: field.into(),
            problem: FieldProblem::Unsupported(value.into(), supported.to_vec()),
        }
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            field: field.into(),
            problem: FieldProblem::Duplicate(value.into()),
        }
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: FieldProblem::Forbidden(detail.into()),
        }
    }

    pub(crate) fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self {
            field: field.into(),
            problem: FieldProblem::TooLong(limit),
        }
    }

    pub(crate) fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            field: field.into(),
            problem: FieldProblem::NotFound(value.into()),
        }
    }

    fn reason(&self) -> &'static str {
        match self.problem {
            FieldProblem::Required(_) => "FieldValueRequired",
            FieldProblem::Invalid(..) => "FieldValueInvalid",
            FieldProblem::Unsupported(..) => "FieldValueNotSupported",
            FieldProblem::Duplicate(_) => "FieldValueDuplicate",
            FieldProblem::Forbidden(_) => "FieldValueForbidden",
            FieldProblem::TooLong(_) => "FieldValueTooLong",
            FieldProblem::NotFound(_) => "FieldValueNotFound",
        }
    }

    /// Returns the text without the field's path.
    fn problem_text(&self) -> String {
        match &self.problem {
            FieldProblem::Required(detail) if detail.is_empty() => "Required value".to_owned(),
            FieldProblem::Required(detail) => format!("Required value: {detail}"),
            FieldProblem::Invalid(value, detail) if detail.is_empty() => format!("Invalid value: {value}"),
            FieldProblem::Invalid(value, detail) => format!("Invalid value: {value}: {detail}"),
            FieldProblem::Unsupported(value, supported) => {
                let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
                format!(
                    "Unsupported value: {value}: supported values: {}",
                    list.join(", ")
                )
            }
            FieldProblem::Duplicate(value) => format!("Duplicate value: {value}"),
            FieldProblem::Forbidden(detail) => format!("Forbidden: {detail}"),
            FieldProblem::NotFound(value) => format!("Not found: {value}"),
            FieldProblem::TooLong(limit) => format!("Too long: may not be more than {limit} bytes"),
        }
    }

    fn cause(&self) -> Value {
        json!({"reason": self.reason(), "message": self.problem_text(), "field": self.field})
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.problem_text())
    }
}
