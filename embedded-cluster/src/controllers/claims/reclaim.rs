//! Reconciliation of volumes whose claim is gone: deleted with their data, or kept as Released.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::PROVISIONER;
use super::volume::PROVISIONED_BY;
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::hub::Hub;

/// Reconciles one volume.
pub(crate) async fn reconcile(volume: Arc<PersistentVolume>, hub: Arc<Hub>) -> Reconciled {
    let name = volume.name_any();
    let volumes = Api::<PersistentVolume>::all(hub.client.clone());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if has_claim(&volume, &hub).await? {
        return Ok(Action::await_change());
    }
    let spec = volume.spec.as_ref();
    let unclaimed = spec.is_none_or(|spec| spec.claim_ref.is_none());
    let wanted = if unclaimed { "Available" } else { "Released" };
    if phase != Some(wanted) {
        let patch = Patch::Merge(json!({ "status": { "phase": wanted } }));
        let written = volumes.patch_status(&name, &PatchParams::default(), &patch).await;
        written
            .unless_gone()
            .during(|| format!("write the status of volume {name}"))?;
    }
    let reclaim = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let ours = volume
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    if !unclaimed && ours && reclaim == Some("Delete") {
        // The name is generated here and has no separator, so this stays within the volumes'
        // directory.
        remove_directory(&hub.config.volumes_dir.join(&name)).await?;
        let deleted = volumes.delete(&name, &DeleteParams::default()).await;
        deleted.unless_gone().during(|| format!("delete volume {name}"))?;
    }
    Ok(Action::await_change())
}

/// Returns true if the claim of the volume still exists. A successor with the claim's name does not
/// count.
async fn has_claim(volume: &PersistentVolume, hub: &Hub) -> Result<bool, ControllerError> {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Ok(false);
    };
    let (namespace, name) = (
        reference.namespace.clone(),
        reference.name.clone().unwrap_or_default(),
    );
    let api = hub.api::<PersistentVolumeClaim>(&namespace.unwrap_or_default());
    let found = api.get_opt(&name).await.during(|| format!("read claim {name}"))?;
    Ok(found.is_some_and(|claim| reference.uid.is_none() || claim.metadata.uid == reference.uid))
}

async fn remove_directory(path: &Path) -> Result<(), ControllerError> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ControllerError::Volume {
            what: format!("remove the volume directory {}", path.display()),
            source: error,
        }),
        _ => Ok(()),
    }
}
