//! Defaults of PodDisruptionBudgets.

use serde_json::{Value, json};

use super::set;

/// Fills in a budget's spec: without either bound, at least one pod stays.
pub(crate) fn apply(spec: &mut Value) {
    if spec.get("maxUnavailable").is_none() {
        set(spec, "minAvailable", json!(1));
    }
}
