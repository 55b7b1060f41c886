//! A pod's volumes, as directories of the node that containers see through bind mounts.
//!
//! | file | what is in it |
//! |---|---|
//! | `payload` | the files of configMap, secret, projected and downwardAPI volumes (pure) |
//! | `atomic` | writing such files so that a reader sees all of one version, also later on |
//! | `ownership` | `fsGroup` |

mod atomic;
mod ownership;
mod payload;

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

use super::quantity;
use super::spec::Bind;

/// Directory of persistent volumes below the node's state directory; the claim controller makes paths in it.
pub const PERSISTENT_VOLUMES: &str = "volumes";

/// How long a claim may take to be bound before its pod says so.
const BINDING: Duration = Duration::from_secs(2);

/// Why a volume cannot be mounted (yet). The texts end up in `FailedMount` events.
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
    #[error("read what volume {volume:?} needs")]
    Api {
        volume: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Where a pod's volumes are.
#[derive(Debug, Default, Clone)]
pub(crate) struct PodVolumes {
    directories: BTreeMap<String, PathBuf>,
}

/// What volumes are made from.
#[derive(Clone)]
pub(crate) struct VolumeMaker {
    client: Client,
    /// Of the node.
    state_dir: PathBuf,
}

impl VolumeMaker {
    pub(crate) fn new(client: Client, state_dir: PathBuf) -> Self {
        Self { client, state_dir }
    }

    /// Makes every volume of the pod, or brings those that follow the API up to date.
    pub(crate) async fn prepare(&self, pod: &Pod, pod_dir: &Path) -> Result<PodVolumes, VolumeError> {
        let spec = pod.spec.as_ref();
        let fs_group = fs_group(pod);
        let mut volumes = PodVolumes::default();
        for volume in spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten() {
            let directory = self.one(pod, pod_dir, volume, fs_group).await?;
            volumes.directories.insert(volume.name.clone(), directory);
        }
        Ok(volumes)
    }

    /// Brings the volumes that follow ConfigMaps and Secrets up to date, if this object is one of theirs.
    pub(crate) async fn refresh(&self, pod: &Pod, pod_dir: &Path, object: &str) -> Result<(), VolumeError> {
        let spec = pod.spec.as_ref();
        for volume in spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten() {
            let (config_maps, secrets) = payload::references(volume);
            if config_maps.iter().chain(&secrets).any(|name| name == object) {
                self.one(pod, pod_dir, volume, fs_group(pod)).await?;
            }
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

    /// The directory of the persistent volume that a claim is bound to.
    async fn claimed(&self, pod: &Pod, volume: &Volume, claim: &str) -> Result<PathBuf, VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api = |source| VolumeError::Api {
            volume: volume.name.clone(),
            source: Box::new(source),
        };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        // Binding follows scheduling by milliseconds; only a claim that takes longer is worth an event.
        let bound = await_condition(claims.clone(), claim, |claim: Option<&PersistentVolumeClaim>| {
            claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()) == Some("Bound")
        });
        // Whether it is bound, timed out or failed shows below.
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
                    "persistentvolume {name:?} has no local or hostPath path below {}",
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
        let plain = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        (plain && path.starts_with(&root) && path != root).then_some(path)
    }

    /// Removes the data of a deleted persistent volume.
    pub(crate) fn delete_persistent(&self, object: &PersistentVolume) {
        let retained = object
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
            == Some("Retain");
        if let Some(path) = self.path_of(object).filter(|path| path.exists() && !retained)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a deleted persistent volume's data stays behind");
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
    /// The bind mounts of one container.
    ///
    /// # Errors
    /// The kubelet's text for `CreateContainerConfigError`.
    pub(crate) fn binds(
        &self,
        container: &Container,
        expand: impl Fn(&str) -> String,
    ) -> Result<Vec<Bind>, String> {
        let mut binds = Vec::new();
        for wanted in container.volume_mounts.iter().flatten() {
            let directory = self.directories.get(&wanted.name).ok_or_else(|| {
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
                None => directory.clone(),
                Some(path) => sub_directory(directory, &path)?,
            };
            binds.push(Bind {
                source,
                destination: PathBuf::from(&wanted.mount_path),
                read_only: wanted.read_only == Some(true),
            });
        }
        // A mount inside another's path must come after it.
        binds.sort_by_key(|bind| bind.destination.components().count());
        Ok(binds)
    }

    /// Undoes the mounts of in-memory volumes; the directories go with the pod's.
    pub(crate) fn unmount(&self, pod_dir: &Path) {
        for directory in self
            .directories
            .values()
            .filter(|directory| directory.starts_with(pod_dir))
        {
            // Only in-memory volumes are mount points.
            let _ = umount2(directory, MntFlags::MNT_DETACH);
        }
    }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|group| u32::try_from(group).ok())
}

fn sub_directory(volume: &Path, sub_path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    if relative
        .components()
        .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(format!(
            "subPath {sub_path:?} must be relative and must not contain '..'"
        ));
    }
    let path = volume.join(relative);
    if !path.exists() {
        fs::create_dir_all(&path).map_err(|error| format!("failed to create subPath directory: {error}"))?;
    }
    // A link inside the volume must not lead out of it.
    let real = path
        .canonicalize()
        .map_err(|error| format!("failed to prepare subPath {sub_path:?}: {error}"))?;
    let root = volume
        .canonicalize()
        .map_err(|error| format!("failed to prepare subPath {sub_path:?}: {error}"))?;
    if real.starts_with(root) {
        Ok(real)
    } else {
        Err(format!("subPath {sub_path:?} leads out of its volume"))
    }
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
            MsFlags::empty(),
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

    #[test]
    fn nested_mounts_come_after_their_parents_and_unknown_volumes_are_named() {
        let volumes = PodVolumes {
            directories: BTreeMap::from([("a".to_owned(), "/v/a".into())]),
        };
        let container: Container = serde_json::from_value(json!({"name": "c", "volumeMounts": [
            {"name": "a", "mountPath": "/data/deep/er"}, {"name": "a", "mountPath": "/data", "readOnly": true}]})).unwrap();
        let binds = volumes.binds(&container, str::to_owned).unwrap();
        assert_eq!(binds[0].destination, PathBuf::from("/data"));
        assert!(binds[0].read_only);
        let container: Container =
            serde_json::from_value(json!({"name": "c", "volumeMounts": [{"name": "b", "mountPath": "/b"}]}))
                .unwrap();
        assert!(
            volumes
                .binds(&container, str::to_owned)
                .unwrap_err()
                .contains("\"b\"")
        );
    }

    #[test]
    fn a_sub_path_stays_inside_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sub_directory(dir.path(), "a/b").unwrap().is_dir());
        assert!(sub_directory(dir.path(), "../x").is_err());
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        assert!(
            sub_directory(dir.path(), "out")
                .unwrap_err()
                .contains("leads out")
        );
    }
}
