//! Defaults of claims, volumes and their classes. The default class is filled in by `admission`.

use serde_json::{Value, json};

use super::set;

/// Fills in a claim's spec.
pub(crate) fn apply(spec: &mut Value) {
    set(spec, "volumeMode", json!("Filesystem"));
    set(spec, "resources", json!({}));
}

/// Fills in a volume.
pub(crate) fn apply_volume(volume: &mut Value) {
    set(&mut volume["spec"], "volumeMode", json!("Filesystem"));
    set(
        &mut volume["spec"],
        "persistentVolumeReclaimPolicy",
        json!("Retain"),
    );
}

/// Fills in a class.
pub(crate) fn apply_class(class: &mut Value) {
    set(class, "reclaimPolicy", json!("Delete"));
    set(class, "volumeBindingMode", json!("Immediate"));
}
