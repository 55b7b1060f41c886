//! Data outlives pods.

use anyhow::Result;
use harness::trial::TrialError;
use harness::valkey::{ClusterObservation, PodFacts};
use manifests::{Mode, Variant};

use crate::Context;
use crate::scaling::hold_beyond_the_ban;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "persistence",
    scenarios: &[
        scenario!(data_survives_pod_deletion, everywhere),
        scenario!(full_restart, everywhere, holds),
    ],
};

/// A key in every slot survives when all pods of one shard are deleted at once. No replica is left,
/// so the data comes back from the append-only files on the pods' claims. The pods come back under
/// other addresses.
async fn data_survives_pod_deletion(context: &mut Context) -> Result<()> {
    needs_volumes(context)?;
    context.install(context.values()).await?;
    let before = context.healthy().await?;
    context.write_data().await?;
    let shard = shard_of_first_pod(&before);
    context.replace_pods(&shard).await?;
    context.healthy().await?;
    context.verify_data().await?;
    Ok(())
}

/// Every pod is deleted at once, so that every address that a server remembers is stale. The
/// servers find each other again, keep every key, and stay connected.
async fn full_restart(context: &mut Context) -> Result<()> {
    needs_volumes(context)?;
    context.install(context.values()).await?;
    let before = context.healthy().await?;
    context.write_data().await?;
    let everyone: Vec<String> = before.pods.iter().map(|pod| pod.name.clone()).collect();
    context.replace_pods(&everyone).await?;
    context.healthy().await?;
    context.verify_data().await?;
    if (context.mode(), context.variant()) == (Mode::Cluster, Variant::Hardened) {
        hold_beyond_the_ban(context).await?;
    }
    Ok(())
}

/// Skips the trial if the pods have no volumes: then no data outlives its pod.
pub(crate) fn needs_volumes(context: &Context) -> Result<()> {
    if context.values().persistence.enabled {
        return Ok(());
    }
    let reason = "persistence.enabled is false: neither data nor the identity of a node outlives its pod";
    Err(TrialError::NotJudged(reason.to_owned()).into())
}

/// Returns the first pod, and every pod of its shard.
fn shard_of_first_pod(seen: &ClusterObservation) -> Vec<String> {
    let Some(first) = seen.pods.first() else {
        return Vec::new();
    };
    let shard_of = |pod: &str| {
        let nodes = seen.views.get(pod)?.as_ref().ok()?.nodes.as_ref()?;
        let myself = nodes.myself()?;
        Some(myself.primary.clone().unwrap_or_else(|| myself.id.clone()))
    };
    let shard = shard_of(&first.name);
    let same = |pod: &&PodFacts| pod.name == first.name || (shard.is_some() && shard_of(&pod.name) == shard);
    seen.pods
        .iter()
        .filter(same)
        .map(|pod| pod.name.clone())
        .collect()
}
