//! Patches as functions: take an object and a patch, and return the patched object.

mod apply;
mod fields;
mod schema;
mod strategic;

use http::StatusCode;
use serde_json::Value;

use super::content::MAX_BODY;
use super::intake::MAX_DEPTH;
use super::object::{is_deeper_than, text_size};
use super::status::ApiError;

pub(crate) use apply::{Applier, ApplyConflict, apply, track_create, track_update};
pub(crate) use strategic::strategic_patch_onto;

/// Applies a JSON patch (RFC 6902). A failing operation, such as `test`, is a 422, as in
/// Kubernetes.
pub(crate) fn json_patch_onto(mut base: Value, patch: &json_patch::Patch) -> Result<Value, ApiError> {
    if patch.0.len() > MAX_OPERATIONS {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                patch.0.len()
            ),
        ));
    }
    let mut copied = 0;
    for operation in &patch.0 {
        check_operation(&base, operation, &mut copied)?;
        // Each operation is checked against the result of the operations before it.
        json_patch::patch_unsafe(&mut base, std::slice::from_ref(operation)).map_err(rejected)?;
    }
    Ok(base)
}

/// The most operations of a JSON patch, as in Kubernetes.
const MAX_OPERATIONS: usize = 10_000;

/// Refuses operations that would remove the root, or multiply or deepen the object without end.
fn check_operation(
    base: &Value,
    operation: &json_patch::PatchOperation,
    copied: &mut usize,
) -> Result<(), ApiError> {
    use json_patch::PatchOperation as Operation;
    let from = |from: &str| base.pointer(from).unwrap_or(&Value::Null);
    let (path, value) = match operation {
        Operation::Remove(remove) if remove.path.is_root() => {
            return Err(rejected("the root of the object cannot be removed"));
        }
        Operation::Move(moved) if moved.from.is_root() => {
            return Err(rejected("the root of the object cannot be moved"));
        }
        Operation::Add(add) => (&add.path, &add.value),
        Operation::Replace(replace) => (&replace.path, &replace.value),
        Operation::Move(moved) => (&moved.path, from(moved.from.as_str())),
        Operation::Copy(copy) => {
            let source = from(copy.from.as_str());
            *copied += text_size(source);
            (&copy.path, source)
        }
        Operation::Remove(_) | Operation::Test(_) => return Ok(()),
    };
    if *copied > MAX_BODY {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("the copies of a JSON patch may hold {MAX_BODY} bytes at most"),
        ));
    }
    let depth = path.count();
    if depth > MAX_DEPTH || is_deeper_than(value, MAX_DEPTH - depth) {
        return Err(rejected(format_args!(
            "at most {MAX_DEPTH} levels of nesting are accepted"
        )));
    }
    Ok(())
}

fn rejected(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "Invalid",
        format!("the server rejected our request due to an error in our request: {error}"),
    )
}

/// Applies a JSON merge patch (RFC 7386).
pub(crate) fn merge_patch_onto(mut base: Value, patch: &Value) -> Value {
    json_patch::merge(&mut base, patch);
    base
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(patch: Value) -> u16 {
        let patch = serde_json::from_value(patch).expect("a JSON patch");
        let error = json_patch_onto(json!({"a": {"b": 1}}), &patch).expect_err("refused");
        error.code.as_u16()
    }

    #[test]
    fn the_root_can_be_neither_removed_nor_moved() {
        assert_eq!(refused(json!([{"op": "remove", "path": ""}])), 422);
        assert_eq!(refused(json!([{"op": "move", "from": "", "path": "/a"}])), 422);
        assert_eq!(refused(json!([{"op": "move", "from": "", "path": ""}])), 422);
        assert_eq!(refused(json!([{"op": "copy", "from": "/none", "path": ""}])), 422);
    }

    #[test]
    fn a_json_patch_neither_multiplies_nor_deepens_without_end() {
        let doubling: Vec<Value> = (0..120)
            .map(|_| json!({"op": "copy", "from": "", "path": "/a/b"}))
            .collect();
        assert_eq!(refused(json!(doubling)), 422);
        let wide: Vec<Value> = (0..40)
            .map(|index| json!({"op": "copy", "from": "/a", "path": format!("/a/c{index}")}))
            .collect();
        assert_eq!(refused(json!(wide)), 413);
        let many = vec![json!({"op": "test", "path": "/a/b", "value": 1}); MAX_OPERATIONS + 1];
        assert_eq!(refused(json!(many)), 413);
    }
}
