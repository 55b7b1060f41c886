//! A pod's volumes, as directories of the node that containers see through bind mounts.
//!
//! | file | what is in it |
//! |---|---|
//! | `payload` | the files of configMap, secret, projected and downwardAPI volumes (pure) |
//! | `atomic` | writes and updates such files so that a reader always sees one version |
//! | `ownership` | `fsGroup` |
//! | `sub_path` | a part of a volume, which its containers may change at any time |
//!
//! Containers write into some of these directories. Their files never redirect the node's
//! operations: links are not followed, and names are resolved beneath the volume.

mod atomic;
mod ownership;
mod payload;
mod sub_path;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EmptyDirVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Volume,
};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub(crate) use sub_path::SubPath;

use super::removal::remove_in_background;
use super::spec::Bind;
use crate::quantity;

/// The directory of persistent volumes below the node's state directory; the claim controller
/// creates paths in it.
pub const PERSISTENT_VOLUMES: &str = "volumes";

/// The time that a claim may take to be bound before its pod gets an event.
const BINDING: Duration = Duration::from_secs(2);

/// The reasons why a volume cannot be mounted (yet). `FailedMount` events contain the texts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {reason}")]
    SetUp { volume: String, reason: String },
    #[error("MountVolume.SetUp failed for volume {volume:?}")]
    Io {
        volume: String,
        #[source]
        source: io::Error,
    },
    #[error("read the objects that volume {volume:?} refers to")]
    Api {
        volume: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// The locations of a pod's volumes.
#[derive(Debug, Default, Clone)]
pub(crate) struct PodVolumes {
    mounted: BTreeMap<String, Mounted>,
}

/// One volume of a pod.
#[derive(Debug, Clone)]
struct Mounted {
    directory: PathBuf,
    /// True if every container sees the volume read-only, even if it requests otherwise.
    read_only: bool,
}

/// The mounts of one container.
#[derive(Debug, Default)]
pub(crate) struct ContainerMounts {
    pub(crate) binds: Vec<Bind>,
    /// Parts of volumes. The container's helper mounts them in `sub_paths/INDEX` of the bundle,
    /// where `binds` refer to them.
    pub(crate) sub_paths: Vec<SubPath>,
}

/// The directory of a container's bundle in which its sub paths are mounted.
pub(crate) const SUB_PATHS: &str = "sub_paths";

/// The directory of a container's bundle in which the volumes declared by its image are mounted.
pub(crate) const IMAGE_VOLUMES: &str = "image_volumes";

/// The factory of volumes, with their sources and locations.
#[derive(Clone)]
pub(crate) struct VolumeMaker {
    client: Client,
    /// The node's state directory.
    state_dir: PathBuf,
}

impl VolumeMaker {
    pub(crate) fn new(client: Client, state_dir: PathBuf) -> Self {
        Self { client, state_dir }
    }

    /// Creates every volume of the pod, or updates existing ones from the API.
    pub(crate) async fn prepare(&self, pod: &Pod, pod_dir: &Path) -> Result<PodVolumes, VolumeError> {
        let spec = pod.spec.as_ref();
        let fs_group = fs_group(pod);
        let mut volumes = PodVolumes::default();
        for volume in spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten() {
            let mounted = Mounted {
                directory: self.one(pod, pod_dir, volume, fs_group).await?,
                read_only: is_read_only(volume),
            };
            volumes.mounted.insert(volume.name.clone(), mounted);
        }
        Ok(volumes)
    }

    /// Updates the volumes whose files come from the API.
    pub(crate) async fn refresh(&self, pod: &Pod, pod_dir: &Path) -> Result<(), VolumeError> {
        let spec = pod.spec.as_ref();
        let volumes = spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten();
        for volume in volumes.filter(|volume| comes_from_api(volume)) {
            self.one(pod, pod_dir, volume, fs_group(pod)).await?;
        }
        Ok(())
    }

    async fn one(
        &self,
        pod: &Pod,
        pod_dir: &Path,
        volume: &Volume,
        fs_group: Option<u32>,
    ) -> Result<PathBuf, VolumeError> {
        let directory = pod_dir.join("volumes").join(&volume.name);
        let failed = |source| VolumeError::Io {
            volume: volume.name.clone(),
            source,
        };
        if let Some(empty) = &volume.empty_dir {
            let limit = empty.size_limit.as_ref();
            if limit.is_some_and(|limit| quantity::units(&limit.0).is_none()) {
                return Err(self.set_up(volume, "sizeLimit is not a quantity"));
            }
            empty_dir(&directory, empty, fs_group).map_err(failed)?;
            return Ok(directory);
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            let path = self.claimed(pod, volume, &claim.claim_name).await?;
            if !path.is_dir() {
                fs::create_dir_all(&path).map_err(failed)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
            }
            ownership::apply(&path, fs_group, claim.read_only == Some(true)).map_err(failed)?;
            return Ok(path);
        }
        let sources = self.sources(pod, volume).await?;
        let files = payload::files(pod, volume, &sources).map_err(|reason| self.set_up(volume, &reason))?;
        atomic::write(&directory, &files, fs_group).map_err(failed)?;
        Ok(directory)
    }

    fn set_up(&self, volume: &Volume, reason: &str) -> VolumeError {
        VolumeError::SetUp {
            volume: volume.name.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Returns the directory of the persistent volume to which a claim is bound.
    async fn claimed(&self, pod: &Pod, volume: &Volume, claim: &str) -> Result<PathBuf, VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = |source| VolumeError::Api {
            volume: volume.name.clone(),
            source: Box::new(source),
        };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        // Binding follows scheduling within milliseconds. Only a claim that takes longer needs an
        // event.
        let bound = await_condition(claims.clone(), claim, |claim: Option<&PersistentVolumeClaim>| {
            claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
        });
        // The code below checks the result: bound, timed out or failed.
        let _ = tokio::time::timeout(BINDING, bound).await;
        let Some(claim_object) = claims.get_opt(claim).await.map_err(api)? else {
            return Err(self.set_up(volume, &format!("persistentvolumeclaim {claim:?} not found")));
        };
        let bound = claim_object.status.and_then(|status| status.phase).as_deref() == Some("Bound");
        let Some(name) = claim_object
            .spec
            .and_then(|spec| spec.volume_name)
            .filter(|_| bound)
        else {
            return Err(self.set_up(volume, &format!("PVC {namespace}/{claim} is not bound")));
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let Some(object) = volumes.get_opt(&name).await.map_err(api)? else {
            return Err(self.set_up(volume, &format!("persistentvolume {name:?} not found")));
        };
        self.path_of(&object).ok_or_else(|| {
            let root = self.state_dir.join(PERSISTENT_VOLUMES);
            self.set_up(
                volume,
                &format!(
                    "persistentvolume {name:?} has no local or hostPath path right below {}",
                    root.display()
                ),
            )
        })
    }

    fn path_of(&self, object: &PersistentVolume) -> Option<PathBuf> {
        let spec = object.spec.as_ref()?;
        let path = spec
            .local
            .as_ref()
            .map(|local| &local.path)
            .or(spec.host_path.as_ref().map(|host| &host.path))?;
        let path = PathBuf::from(path);
        let root = self.state_dir.join(PERSISTENT_VOLUMES);
        // Accepts one directory directly below the root: a deeper path could go through a link that
        // a container made.
        let mut below = path.strip_prefix(&root).ok()?.components();
        let one = matches!((below.next(), below.next()), (Some(Component::Normal(_)), None));
        one.then_some(path)
    }

    /// Removes the data of a deleted persistent volume.
    pub(crate) fn delete_persistent(&self, object: &PersistentVolume) {
        let retained = object
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
            == Some("Retain");
        if let Some(path) = self.path_of(object).filter(|_| !retained) {
            remove_in_background(path);
        }
    }

    async fn sources(&self, pod: &Pod, volume: &Volume) -> Result<payload::Sources, VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = |source| VolumeError::Api {
            volume: volume.name.clone(),
            source: Box::new(source),
        };
        let (config_maps, secrets) = payload::references(volume);
        let mut sources = payload::Sources::default();
        for name in config_maps {
            let objects: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            if let Some(object) = objects.get_opt(&name).await.map_err(api)? {
                sources.config_maps.insert(name, object);
            }
        }
        for name in secrets {
            let objects: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            if let Some(object) = objects.get_opt(&name).await.map_err(api)? {
                sources.secrets.insert(name, object);
            }
        }
        Ok(sources)
    }
}

impl PodVolumes {
    /// Returns the mounts of one container, whose files are in `bundle`.
    ///
    /// # Errors
    /// Fails with the kubelet's text for `CreateContainerConfigError`.
    pub(crate) fn mounts(
        &self,
        container: &Container,
        bundle: &Path,
        expand: impl Fn(&str) -> String,
    ) -> Result<ContainerMounts, String> {
        let mut mounts = ContainerMounts::default();
        for wanted in container.volume_mounts.iter().flatten() {
            let volume = self.mounted.get(&wanted.name).ok_or_else(|| {
                format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    wanted.name, container.name
                )
            })?;
            let sub_path = match (&wanted.sub_path, &wanted.sub_path_expr) {
                (Some(path), _) if !path.is_empty() => Some(path.clone()),
                (_, Some(expression)) if !expression.is_empty() => Some(expand(expression)),
                _ => None,
            };
            let source = match sub_path {
                None => volume.directory.clone(),
                Some(path) => {
                    let prepared = SubPath::prepare(&volume.directory, &path)?;
                    mounts.sub_paths.push(prepared);
                    bundle
                        .join(SUB_PATHS)
                        .join((mounts.sub_paths.len() - 1).to_string())
                }
            };
            mounts.binds.push(Bind {
                source,
                destination: PathBuf::from(&wanted.mount_path),
                read_only: volume.read_only || wanted.read_only == Some(true),
            });
        }
        // A mount inside another's path must come after it.
        mounts
            .binds
            .sort_by_key(|bind| bind.destination.components().count());
        Ok(mounts)
    }

    /// Unmounts in-memory volumes; their directories are removed with the pod's.
    pub(crate) fn unmount(&self, pod_dir: &Path) {
        let directories = self.mounted.values().map(|volume| &volume.directory);
        for directory in directories.filter(|directory| directory.starts_with(pod_dir)) {
            // Only in-memory volumes are mount points.
            let _ = umount2(directory, MntFlags::MNT_DETACH);
        }
    }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|group| u32::try_from(group).ok())
}

/// Returns true if the volume is read-only. The kubelet mounts volumes from the API read-only, and
/// claims if the pod asks for it.
fn is_read_only(volume: &Volume) -> bool {
    let claim = volume.persistent_volume_claim.as_ref();
    comes_from_api(volume) || claim.is_some_and(|claim| claim.read_only == Some(true))
}

/// Returns true for a configMap, secret, projected or downwardAPI volume.
fn comes_from_api(volume: &Volume) -> bool {
    volume.empty_dir.is_none() && volume.persistent_volume_claim.is_none()
}

fn empty_dir(directory: &Path, source: &EmptyDirVolumeSource, fs_group: Option<u32>) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    if source.medium.as_deref() == Some("Memory") {
        let limit = source
            .size_limit
            .as_ref()
            .and_then(|limit| quantity::units(&limit.0))
            .filter(|limit| *limit > 0);
        let options = limit.map_or_else(
            || "mode=0777".to_owned(),
            |limit| format!("mode=0777,size={limit}"),
        );
        mount(
            Some("tmpfs"),
            directory,
            Some("tmpfs"),
            MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
            Some(options.as_str()),
        )?;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))?;
    ownership::apply(directory, fs_group, false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volumes(read_only: bool) -> PodVolumes {
        let mounted = Mounted {
            directory: "/v/a".into(),
            read_only,
        };
        PodVolumes {
            mounted: BTreeMap::from([("a".to_owned(), mounted)]),
        }
    }

    fn mounts(volumes: &PodVolumes, container: serde_json::Value) -> Result<ContainerMounts, String> {
        let container: Container = serde_json::from_value(container).unwrap();
        volumes.mounts(&container, Path::new("/bundle"), str::to_owned)
    }

    #[test]
    fn nested_mounts_follow_parents_and_unknown_volumes_are_named() {
        let nested = json!({"name": "c", "volumeMounts": [
            {"name": "a", "mountPath": "/data/deep/er"}, {"name": "a", "mountPath": "/data", "readOnly": true}]});
        let binds = mounts(&volumes(false), nested).unwrap().binds;
        assert_eq!(binds[0].destination, PathBuf::from("/data"));
        assert!(binds[0].read_only && !binds[1].read_only);
        let unknown = json!({"name": "c", "volumeMounts": [{"name": "b", "mountPath": "/b"}]});
        assert!(mounts(&volumes(false), unknown).unwrap_err().contains("\"b\""));
    }

    #[test]
    fn a_read_only_volume_is_read_only_for_everyone() {
        let wanted =
            json!({"name": "c", "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": false}]});
        assert!(mounts(&volumes(true), wanted).unwrap().binds[0].read_only);
        for (volume, read_only) in [
            (json!({"configMap": {"name": "m"}}), true),
            (json!({"secret": {"secretName": "s"}}), true),
            (json!({"projected": {"sources": []}}), true),
            (json!({"downwardAPI": {"items": []}}), true),
            (
                json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
                true,
            ),
            (json!({"persistentVolumeClaim": {"claimName": "c"}}), false),
            (json!({"emptyDir": {}}), false),
        ] {
            let mut named = volume.clone();
            named["name"] = json!("v");
            assert_eq!(
                is_read_only(&serde_json::from_value(named).unwrap()),
                read_only,
                "{volume}"
            );
        }
    }
}
