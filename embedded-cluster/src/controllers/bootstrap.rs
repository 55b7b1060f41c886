//! What a fresh cluster has: its namespaces and the default StorageClass. What is already there stays as it is.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

use super::claims::PROVISIONER;
use super::error::{ControllerError, During};

/// The namespaces every Kubernetes cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// kind's and minikube's name for their default StorageClass.
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

/// Like kind's: the volume is made where the first pod that uses it is scheduled.
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
