//! The PodDisruptionBudget of cluster mode.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Context;
use crate::release::SERVER_COMPONENT;
use crate::values::Mode;

/// The budget. It selects servers only: with Job pods in its selector the disruption controller cannot tell how
/// many pods to expect and allows no disruption at all.
pub(super) fn disruption_budget(context: &Context<'_>) -> Option<PodDisruptionBudget> {
    let pdb = &context.values.pdb;
    if context.values.mode != Mode::Cluster || !pdb.enabled {
        return None;
    }
    let least = pdb.min_available_is_set();
    let labels = context.release.component_labels(context.values, SERVER_COMPONENT);
    let spec = PodDisruptionBudgetSpec {
        min_available: least.then(|| pdb.min_available.clone()),
        max_unavailable: (!least).then(|| pdb.max_unavailable.clone()),
        selector: Some(LabelSelector {
            match_labels: Some(labels),
            match_expressions: None,
        }),
        ..PodDisruptionBudgetSpec::default()
    };
    let metadata = context.metadata(&context.fullname);
    Some(PodDisruptionBudget {
        metadata,
        spec: Some(spec),
        ..PodDisruptionBudget::default()
    })
}
