//! A deployment becomes healthy, and stays unchanged when its init Job runs again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::release::HookEvent;
use harness::valkey::cluster_nodes::ClusterNodes;
use harness::valkey::slots::SlotSet;

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, cluster_only, everywhere, once_per_mode};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "formation",
    scenarios: &[
        scenario!(forms, everywhere),
        scenario!(init_job_is_idempotent, cluster_only),
        scenario!(nine_nodes_two_replicas_each, cluster_only),
        scenario!(a_lost_shard_kills_no_healthy_server, cluster_only),
        scenario!(names_follow_the_release, once_per_mode),
    ],
};

/// Every promise holds from every node's view after an install with the profile's values.
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

/// While slots of another shard are lost, the liveness probe of a healthy server still succeeds.
async fn a_lost_shard_kills_no_healthy_server(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    context.needs_full_coverage().await?;
    context.verify_liveness_without_a_shard().await?;
    Ok(())
}

/// Pods find each other under a full name that the user gives, and under the longest release name.
/// Nothing is deployed: only the rendering is checked.
async fn names_follow_the_release(context: &mut Context) -> Result<()> {
    context.verify_names().await?;
    Ok(())
}
