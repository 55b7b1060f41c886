//! Data outlives pods.

use anyhow::{Result, ensure};
use kube::ResourceExt;

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite =
    Suite { name: "persistence", scenarios: &[scenario!(data_survives_pod_deletion, everywhere)] };

/// A key in every slot survives the deletion of each pod in turn: the data comes back from the append-only file on the
/// pod's claim, although the pod comes back under another address.
async fn data_survives_pod_deletion(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    context.write_canaries().await?;
    for pod in context.server_pods().await? {
        let name = pod.name_any();
        let replacement = context.replace_pod(&name).await?;
        let address = |pod: &k8s_openapi::api::core::v1::Pod| pod.status.as_ref()?.pod_ip.clone();
        ensure!(
            address(&pod) != address(&replacement),
            "the fault did not take place: pod {name} came back under its old address"
        );
        context.healthy().await?;
    }
    context.verify_canaries().await?;
    Ok(())
}
