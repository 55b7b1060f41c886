//! Objects of a fresh cluster: its namespaces and the default StorageClass. Existing objects stay
//! unchanged.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

use super::claims::PROVISIONER;
use super::error::{ControllerError, During};

/// The namespaces that every Kubernetes cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// The name of the default StorageClass in kind and minikube.
const STORAGE_CLASS: &str = "standard";

pub(crate) async fn run(client: &Client) -> Result<(), ControllerError> {
    let namespaces = Api::<Namespace>::all(client.clone());
    for name in NAMESPACES {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let created = namespaces.create(&PostParams::default(), &namespace).await;
        created
            .unless_there()
            .during(|| format!("create namespace {name}"))?;
    }
    let class = storage_class();
    let created = Api::all(client.clone())
        .create(&PostParams::default(), &class)
        .await;
    created
        .unless_there()
        .during(|| format!("create storage class {}", class.name_any()))?;
    Ok(())
}

/// Builds a StorageClass like kind's: the volume is created where the first pod that uses it is
/// scheduled.
fn storage_class() -> StorageClass {
    StorageClass {
        metadata: ObjectMeta {
            name: Some(STORAGE_CLASS.to_owned()),
            annotations: Some(
                [(
                    "storageclass.kubernetes.io/is-default-class".to_owned(),
                    "true".to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        volume_binding_mode: Some("WaitForFirstConsumer".to_owned()),
        ..StorageClass::default()
    }
}
