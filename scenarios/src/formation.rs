//! A deployment comes up, and stays as it is.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::release::HookEvent;
use harness::valkey::cluster_nodes::ClusterNodes;
use harness::valkey::slots::SlotSet;

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, cluster_only, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "formation",
    scenarios: &[
        scenario!(forms, everywhere),
        scenario!(init_job_is_idempotent, cluster_only),
        scenario!(nine_nodes_two_replicas_each, cluster_only),
    ],
};

/// Installed with the profile's values, every promise holds from every node's point of view.
async fn forms(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    context.verify_objects().await?;
    Ok(())
}

/// Running the init Job again on a formed cluster succeeds and changes nothing.
async fn init_job_is_idempotent(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    let before = context.healthy().await?;
    context
        .run_hooks(HookEvent::PostInstall)
        .await
        .context("the init Job was run again")?;
    let after = context.healthy().await?;
    for ((pod, then), (_, now)) in before.node_tables().zip(after.node_tables()) {
        let owned = |nodes: &ClusterNodes| -> BTreeMap<String, SlotSet> {
            let each = nodes.nodes.iter();
            each.map(|node| (node.id.clone(), node.slots.clone())).collect()
        };
        ensure!(
            owned(then) == owned(now),
            "{pod} sees other owners of slots after the Job was run again"
        );
    }
    let restarts = |pods: &[harness::valkey::PodFacts]| -> Vec<(String, i32)> {
        pods.iter()
            .map(|pod| (pod.uid.clone(), pod.restart_count))
            .collect()
    };
    ensure!(
        restarts(&before.pods) == restarts(&after.pods),
        "a pod was replaced or restarted"
    );
    Ok(())
}

/// The chart README's example: nine nodes make three primaries with two replicas each.
async fn nine_nodes_two_replicas_each(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    values.cluster.replicas = 9;
    values.cluster.replicas_per_primary = 2;
    context.install(values).await?;
    context.healthy().await?;
    Ok(())
}
