//! The status of PodDisruptionBudgets. The API server handles the evictions themselves.
//!
//! | module | what is in it |
//! |---|---|
//! | `budget` | number of disruptions allowed; pure |
//! | `reconcile` | writes the status |

mod budget;
mod reconcile;

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::drive::drive;
use super::hub::{Change, Hub, Object};

/// Runs the controller.
pub(crate) async fn run(hub: Arc<Hub>) {
    let store = hub.disruption_budgets.clone();
    drive(hub, store, concerns, |budget, hub| {
        reconcile::reconcile(budget, hub).boxed()
    })
    .await;
}

fn concerns(change: &Change, hub: &Hub) -> Vec<ObjectRef<PodDisruptionBudget>> {
    match &change.object {
        Object::PodDisruptionBudget(budget) if !change.deleted => vec![ObjectRef::from_obj(budget.as_ref())],
        Object::Pod(_) | Object::StatefulSet(_) => {
            let namespace = change.object.meta().namespace.as_deref();
            let here = hub
                .disruption_budgets
                .state_filter(|budget| budget.namespace().as_deref() == namespace);
            here.iter()
                .map(|budget| ObjectRef::from_obj(budget.as_ref()))
                .collect()
        }
        _ => Vec::new(),
    }
}
