//! Defaults of PersistentVolumeClaims. The default class is filled in by `admission`.

use serde_json::{Value, json};

use super::set;

/// Fills in a claim's spec.
pub(crate) fn apply(spec: &mut Value) {
    set(spec, "volumeMode", json!("Filesystem"));
    set(spec, "resources", json!({}));
}
