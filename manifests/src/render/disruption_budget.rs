//! The PodDisruptionBudget of cluster mode.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::RenderContext;
use crate::release::SERVER_COMPONENT;
use crate::values::Mode;

/// Renders the budget, which selects servers only. With Job pods in the selector, the disruption
/// controller could not compute the expected number of pods. It would then allow no disruption at
/// all.
pub(super) fn disruption_budget(context: &RenderContext<'_>) -> Option<PodDisruptionBudget> {
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
