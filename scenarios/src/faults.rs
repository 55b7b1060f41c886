//! Servers fail: one at a time, a whole shard, a majority of the primaries. The guarantees of
//! Valkey are checked, other losses are predicted, and the cluster must recover.
//!
//! Each scenario keeps pods away for as long as it needs ([`harness::trial::outage`]). Kubernetes
//! replaces a deleted pod within a second, before its peers notice that it was missing.

use anyhow::{Context as _, Result, ensure};
use harness::trial::TrialError;
use harness::trial::operations::node_id;
use harness::valkey::ClusterObservation;

use crate::Context;
use crate::persistence::needs_volumes;
use crate::scenario;
use crate::scenario::{Suite, cluster_only};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "faults",
    scenarios: &[
        scenario!(a_primary_that_stays_away_is_replaced, cluster_only),
        scenario!(a_replica_that_stays_away_is_not_missed, cluster_only),
        scenario!(a_lost_shard_returns_with_its_data, cluster_only),
        scenario!(a_lost_majority_returns_with_its_data, cluster_only),
    ],
};

/// A primary goes down and stays down. Its replica takes over within the node timeout plus an
/// election, and the primary returns as a replica. No write that a replica had confirmed is lost.
async fn a_primary_that_stays_away_is_replaced(context: &mut Context) -> Result<()> {
    needs_replicas(context)?;
    let before = running(context).await?;
    context.needs_followers()?;
    let primary = primaries(&before)
        .into_iter()
        .next()
        .context("no pod owns slots")?;
    context.start_load().await?;
    let outage = context.keep_down(std::slice::from_ref(&primary)).await?;
    let during = context.taken_over(&outage).await?;
    ensure!(
        highest_epoch(&during) > highest_epoch(&before),
        "another node owns the slots of {primary} without an election"
    );
    context.restore_pods(outage).await?;
    let after = context.healthy().await?;
    ensure!(
        !primaries(&after).contains(&primary),
        "{primary} is a primary again, without having been elected"
    );
    context.stop_load(context.failover_budget()?).await?;
    context.verify_data().await?;
    Ok(())
}

/// A replica goes down for longer than the node timeout. Clients do not notice, and the replica
/// catches up when it is back.
async fn a_replica_that_stays_away_is_not_missed(context: &mut Context) -> Result<()> {
    needs_replicas(context)?;
    let before = running(context).await?;
    let owners = primaries(&before);
    let names = before.pods.iter().map(|pod| pod.name.clone());
    let replica = names
        .into_iter()
        .find(|pod| !owners.contains(pod))
        .context("every pod owns slots")?;
    context.start_load().await?;
    let outage = context.keep_down(&[replica]).await?;
    context.marked_as_failed(&outage).await?;
    context.restore_pods(outage).await?;
    context.healthy().await?;
    context.stop_load(context.migration_budget()).await?;
    context.verify_data().await?;
    Ok(())
}

/// A primary and its only replica go down. Every other node reports that the cluster is down and is
/// not ready, and no node takes their slots. When the pods return with their volumes, every key is
/// there.
async fn a_lost_shard_returns_with_its_data(context: &mut Context) -> Result<()> {
    needs_replicas(context)?;
    let before = running(context).await?;
    context.needs_full_coverage().await?;
    let primary = primaries(&before)
        .into_iter()
        .next()
        .context("no pod owns slots")?;
    let shard = shard_of(&before, &primary)?;
    ensure!(shard.len() > 1, "{primary} has no replica");
    let outage = context.keep_down(&shard).await?;
    context.cluster_is_down(&outage).await?;
    context.unready_while_down(&outage).await?;
    context.restore_pods(outage).await?;
    context.healthy().await?;
    context.verify_data().await?;
    Ok(())
}

/// Most of the primaries go down at once. The remaining nodes cannot hold an election, and report
/// that the cluster is down. When the primaries are back, every key is there.
async fn a_lost_majority_returns_with_its_data(context: &mut Context) -> Result<()> {
    let before = running(context).await?;
    let mut majority = primaries(&before);
    majority.truncate(majority.len() / 2 + 1);
    let outage = context.keep_down(&majority).await?;
    context.cluster_is_down(&outage).await?;
    context.unready_while_down(&outage).await?;
    context.restore_pods(outage).await?;
    context.healthy().await?;
    context.verify_data().await?;
    Ok(())
}

/// Skips the trial if no primary has a replica.
fn needs_replicas(context: &Context) -> Result<()> {
    if context.values().cluster.replicas_per_primary > 0 {
        return Ok(());
    }
    let reason = "cluster.replicasPerPrimary is 0: there is no replica that could fail or take over";
    Err(TrialError::NotJudged(reason.to_owned()).into())
}

/// Installs the release and writes a key into every slot. Skips the trial if the servers have no
/// volumes to return to.
async fn running(context: &mut Context) -> Result<ClusterObservation> {
    needs_volumes(context)?;
    context.install(context.values()).await?;
    context.healthy().await?;
    context.write_data().await?;
    Ok(context.observe().await?)
}

/// Returns the names of the pods that own slots.
fn primaries(seen: &ClusterObservation) -> Vec<String> {
    let own = seen
        .node_tables()
        .filter(|(_, nodes)| nodes.myself().is_some_and(|myself| !myself.slots.is_empty()));
    own.map(|(pod, _)| pod.to_owned()).collect()
}

/// Returns a primary and every pod that follows it.
fn shard_of(seen: &ClusterObservation, primary: &str) -> Result<Vec<String>> {
    let id = node_id(seen, primary).with_context(|| format!("{primary} has no ID"))?;
    let follows = seen
        .node_tables()
        .filter(|(_, nodes)| nodes.myself().and_then(|myself| myself.primary.as_deref()) == Some(id));
    let replicas = follows.map(|(pod, _)| pod.to_owned());
    Ok(std::iter::once(primary.to_owned()).chain(replicas).collect())
}

/// Returns the highest configuration epoch that any node knows.
fn highest_epoch(seen: &ClusterObservation) -> u64 {
    let nodes = seen.node_tables().flat_map(|(_, nodes)| &nodes.nodes);
    nodes.map(|node| node.config_epoch).max().unwrap_or_default()
}
