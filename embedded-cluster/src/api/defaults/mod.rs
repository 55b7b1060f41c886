//! Defaulting: what Kubernetes fills in when the author leaves it out, one file per kind.

pub(crate) mod pod;

use serde_json::Value;

use super::kinds::Kind;

/// Fills in the defaults of an object.
pub(crate) fn apply(kind: &Kind, object: &mut Value) {
    match kind.kind {
        "Pod" => pod::apply(&mut object["spec"]),
        _ => {}
    }
}

/// Keeps what an update leaves out though it cannot be changed.
pub(crate) fn carry_over(_kind: &Kind, _old: &Value, _new: &mut Value) {}
