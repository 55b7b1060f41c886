//! Reconciliation of claims: protection, default class, provisioning, binding.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::PROVISIONER;
use super::decide::{Next, PROTECTION, is_used, next};
use super::volume::{self, volume};
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::events::EventRecorder;
use crate::controllers::hub::Hub;

const COMPONENT: &str = "persistentvolume-controller";
/// The mode of a fresh volume: everyone may write, as with local-path. The pod's user is not known
/// here, and the node applies fsGroup.
const VOLUME_MODE: u32 = 0o777;

/// Reconciles one claim.
pub(crate) async fn reconcile(claim: Arc<PersistentVolumeClaim>, hub: Arc<Hub>) -> Reconciled {
    let work = Work {
        events: hub.events(COMPONENT),
        hub,
        claim,
    };
    work.run().await.map(|()| Action::await_change())
}

struct Work {
    hub: Arc<Hub>,
    events: EventRecorder,
    claim: Arc<PersistentVolumeClaim>,
}

impl Work {
    async fn run(&self) -> Result<(), ControllerError> {
        if self.claim.metadata.deletion_timestamp.is_some() {
            return self.release().await;
        }
        if !self
            .claim
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == PROTECTION)
        {
            let mut finalizers = self.claim.finalizers().to_vec();
            finalizers.push(PROTECTION.to_owned());
            self.patch(json!({ "metadata": { "finalizers": finalizers } }))
                .await?;
        }
        let node = self.hub.nodes.state().first().map(|node| node.name_any());
        match next(&self.claim, &self.hub.storage_classes.state(), node.as_deref()) {
            Next::Nothing => Ok(()),
            Next::UseClass(class) => self.patch(json!({ "spec": { "storageClassName": class } })).await,
            Next::Wait {
                warning: true,
                reason,
                message,
            } => {
                self.events.warning(self.claim.as_ref(), reason, &message).await;
                Ok(())
            }
            Next::Wait { reason, message, .. } => {
                self.events.normal(self.claim.as_ref(), reason, &message).await;
                Ok(())
            }
            Next::Provision { node } => Box::pin(self.provision(&node)).await,
            Next::Bind { volume } => self.bind(&volume).await,
        }
    }

    /// Releases a claim that is being deleted when no pod uses it. Reads through the API: a stale
    /// store must not cost a pod that was just created its claim.
    async fn release(&self) -> Result<(), ControllerError> {
        if !self
            .claim
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == PROTECTION)
        {
            return Ok(());
        }
        let api = self.hub.api(&self.claim.namespace().unwrap_or_default());
        let pods = api.list(&Default::default()).await;
        let pods = pods.during(|| format!("list the pods that use claim {}", self.claim.name_any()))?;
        if is_used(&self.claim, pods.items.iter()) {
            return Ok(());
        }
        let rest: Vec<_> = self
            .claim
            .finalizers()
            .iter()
            .filter(|name| *name != PROTECTION)
            .collect();
        self.patch(json!({ "metadata": { "finalizers": rest } })).await
    }

    async fn provision(&self, node: &str) -> Result<(), ControllerError> {
        let class = self
            .claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.clone());
        let classes = self.hub.storage_classes.state();
        let class = classes.iter().find(|found| Some(found.name_any()) == class);
        let reclaim = class.and_then(|class| class.reclaim_policy.clone());
        let name = volume::name(&self.claim);
        self.patch(json!({ "metadata": { "annotations": {
            "volume.kubernetes.io/storage-provisioner": PROVISIONER,
            "volume.beta.kubernetes.io/storage-provisioner": PROVISIONER,
        }}}))
        .await?;
        make_directory(self.hub.config.volumes_dir.join(&name)).await?;
        let wanted = volume(&self.claim, &self.hub.config.volumes_dir, node, reclaim);
        let created = self.volumes().create(&PostParams::default(), &wanted).await;
        if created
            .unless_there()
            .during(|| format!("create volume {name}"))?
            .is_some()
        {
            let message = format!("Successfully provisioned volume {name}");
            self.events
                .normal(self.claim.as_ref(), "ProvisioningSucceeded", &message)
                .await;
        }
        self.bind(&name).await
    }

    async fn bind(&self, name: &str) -> Result<(), ControllerError> {
        let found = self
            .volumes()
            .get_opt(name)
            .await
            .during(|| format!("read volume {name}"))?;
        let Some(found) = found else {
            let message = format!("volume \"{name}\" not found");
            self.events
                .warning(self.claim.as_ref(), "FailedBinding", &message)
                .await;
            return Ok(());
        };
        let spec = found.spec.clone().unwrap_or_default();
        let ours = spec.claim_ref.as_ref().is_none_or(|reference| {
            reference.name == self.claim.metadata.name
                && reference.namespace == self.claim.metadata.namespace
                && reference
                    .uid
                    .as_ref()
                    .is_none_or(|uid| Some(uid) == self.claim.metadata.uid.as_ref())
        });
        if !ours {
            let message = format!("volume \"{name}\" already bound to a different claim.");
            self.events
                .warning(self.claim.as_ref(), "FailedBinding", &message)
                .await;
            return Ok(());
        }
        let reference = kube::Resource::object_ref(self.claim.as_ref(), &());
        self.patch_volume(name, json!({ "spec": { "claimRef": reference } }))
            .await?;
        self.patch_volume_status(name, json!({ "status": { "phase": "Bound" } }))
            .await?;
        self.patch(json!({
            "metadata": { "annotations": {
                "pv.kubernetes.io/bind-completed": "yes",
                "pv.kubernetes.io/bound-by-controller": "yes",
            }},
            "spec": { "volumeName": name },
        }))
        .await?;
        let status = json!({ "phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity });
        let claim = self.claim.name_any();
        let patch = Patch::Merge(json!({ "status": status }));
        let written = self
            .claims()
            .patch_status(&claim, &PatchParams::default(), &patch)
            .await;
        written
            .unless_gone()
            .during(|| format!("write the status of claim {claim}"))
            .map(drop)
    }

    async fn patch(&self, patch: Value) -> Result<(), ControllerError> {
        let name = self.claim.name_any();
        let patched = self
            .claims()
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched
            .unless_gone()
            .during(|| format!("patch claim {name}"))
            .map(drop)
    }

    async fn patch_volume(&self, name: &str, patch: Value) -> Result<(), ControllerError> {
        let patched = self
            .volumes()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.during(|| format!("patch volume {name}")).map(drop)
    }

    async fn patch_volume_status(&self, name: &str, patch: Value) -> Result<(), ControllerError> {
        let patched = self
            .volumes()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched
            .during(|| format!("write the status of volume {name}"))
            .map(drop)
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        self.hub.api(&self.claim.namespace().unwrap_or_default())
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.hub.client.clone())
    }
}

async fn make_directory(path: PathBuf) -> Result<(), ControllerError> {
    use std::os::unix::fs::PermissionsExt;
    let made = async {
        tokio::fs::create_dir_all(&path).await?;
        tokio::fs::set_permissions(&path, std::fs::Permissions::from_mode(VOLUME_MODE)).await
    };
    made.await.map_err(|source| ControllerError::Volume {
        what: format!("make the volume directory {}", path.display()),
        source,
    })
}
