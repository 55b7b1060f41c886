//! Pods come and go, every key stays.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::checks::forecast;
use harness::trial::operations::{departing, node_id};
use harness::valkey::ClusterObservation;
use harness::valkey::ledger::Class;
use harness::valkey::slots::SlotSet;
use manifests::{Values, Variant};

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, cluster_only};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "scaling",
    scenarios: &[
        scenario!(there_and_back_again, cluster_only, holds),
        scenario!(two_shards_at_once, cluster_only, long),
        scenario!(replicas_for_bare_primaries, cluster_only),
        scenario!(a_step_that_is_not_a_multiple, cluster_only),
        scenario!(without_draining_a_safe_plan_keeps_everything, cluster_only, long),
        scenario!(
            without_draining_an_unsafe_plan_loses_what_was_predicted,
            cluster_only,
            long
        ),
        scenario!(a_job_that_is_killed_is_completed, cluster_only, holds),
    ],
};

/// For how long Valkey refuses to hear of a node again that it was told to forget (`CLUSTER FORGET`).
const FORGET_BAN: Duration = Duration::from_secs(60);

/// The chart's own walk, 6 → 8 → 6 → 8, under load: each new primary gets its share, each departing one is emptied before
/// its pod goes, nothing dead is left, and returning volumes bring nothing back. Back at 6, all stays as it is while the
/// ban on forgotten nodes runs out and gossip goes on.
async fn there_and_back_again(context: &mut Context) -> Result<()> {
    let values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.start_load().await?;
    for pods in [8, 6, 8, 6] {
        context
            .scale(with_pods(&values, pods))
            .await
            .with_context(|| format!("scale to {pods} pods"))?;
    }
    context.stop_load(context.migration_budget()).await?;
    context.verify_data().await?;
    context.verify_objects().await?;
    // One combination watches for all: what it watches for is in the servers, not in their images.
    if context.variant() == Variant::Rpm {
        hold_beyond_the_ban(context).await?;
    }
    Ok(())
}

/// What is well stays so while the ban on forgotten nodes runs out, gossip goes on and node timeouts pass, and every key is
/// there afterwards. The last act of a scenario: other trials run meanwhile.
pub(crate) async fn hold_beyond_the_ban(context: &mut Context) -> Result<()> {
    let ban = FORGET_BAN + 2 * node_timeout(context)?;
    context.hold_stable(ban).await?;
    context.verify_data().await?;
    Ok(())
}

/// 6 → 10 → 6: two shards are added and removed in one step.
async fn two_shards_at_once(context: &mut Context) -> Result<()> {
    let values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.scale(with_pods(&values, 10)).await?;
    context.verify_data().await?;
    context.write_data().await?;
    context.scale(values).await?;
    context.verify_data().await?;
    Ok(())
}

/// Three primaries without replicas get one each when the same upgrade doubles the pods and asks for replicas.
async fn replicas_for_bare_primaries(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    values.cluster.replicas = 3;
    values.cluster.replicas_per_primary = 0;
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    values.cluster.replicas = 6;
    values.cluster.replicas_per_primary = 1;
    context.scale(values).await?;
    context.verify_data().await?;
    Ok(())
}

/// 6 → 7 makes no fourth primary but one more replica, as the chart documents, and the Job says so.
async fn a_step_that_is_not_a_multiple(context: &mut Context) -> Result<()> {
    let values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let outputs = context.scale(with_pods(&values, 7)).await?;
    let flagged = outputs
        .iter()
        .flat_map(|output| &output.lines)
        .any(|line| line.contains("not a multiple"));
    ensure!(
        flagged,
        "no hook says that 7 pods are not a multiple of 2: {outputs:?}"
    );
    context.verify_data().await?;
    Ok(())
}

/// With draining off, 8 → 6 takes the documented way: replicas on pods that stay take over from primaries that leave. The
/// suite predicts that nothing is lost, and nothing is. Then the volumes of the removed pods come back, with what they
/// knew and held when they left.
async fn without_draining_a_safe_plan_keeps_everything(context: &mut Context) -> Result<()> {
    let eight = undrained(&context.values(), 8);
    context.install(eight.clone()).await?;
    let before = context.healthy().await?;
    context.write_data().await?;
    let six = undrained(&eight, 6);
    let leaving = departing(&before, &six);
    let owners = leaving.iter().filter(|pod| owns_slots(&before, pod)).count();
    if owners == 0 {
        // Formation makes the lowest pods primaries: the fourth of them stays. One that leaves takes over first.
        context.fail_over_to(&leaving[0]).await?;
    }
    let before = context.healthy().await?;
    ensure!(
        leaving.iter().any(|pod| owns_slots(&before, pod)),
        "no pod of {leaving:?} owns slots: nothing has to fail over"
    );
    let predicted = forecast::losses(&before, &leaving);
    ensure!(predicted.is_empty(), "a safe plan would lose {predicted:?}");
    context.start_load().await?;
    context.scale(six).await?;
    context.stop_load(context.failover_budget()?).await?;
    context.verify_data().await?;
    context.write_data().await?;
    context.scale(eight).await?;
    context.verify_data().await?;
    Ok(())
}

/// With draining off, a primary and its only replica leave together. The suite says beforehand which slots that loses;
/// afterwards exactly these are lost, and every other key is there.
async fn without_draining_an_unsafe_plan_loses_what_was_predicted(context: &mut Context) -> Result<()> {
    let eight = undrained(&context.values(), 8);
    context.install(eight.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let six = undrained(&eight, 6);
    // Pods 6 and 7 are replicas of pods 2 and 3. Pod 6 takes over from 2, and 7 follows 6 instead of 3.
    let leaving = departing(&context.observe().await?, &six);
    context.fail_over_to(&leaving[0]).await?;
    let seen = context.healthy().await?;
    let primary = node_id(&seen, &leaving[0])
        .context("the new primary has no ID")?
        .to_owned();
    let orphaned = context.follow(&leaving[1], &primary).await?;
    context.follow(&survivor_of(&seen, &primary)?, &orphaned).await?;
    let seen = context.healthy().await?;
    let predicted = forecast::losses(&seen, &leaving);
    ensure!(
        predicted.keys().eq([&leaving[0]]),
        "the plan would lose {predicted:?} instead of all that {} has",
        leaving[0]
    );
    context.scale(six).await?;
    let found = context.read_data().await?;
    let lost = found.findings.get(&Class::Lost).map(|finding| &finding.slots);
    let lost: SlotSet = lost.into_iter().flatten().copied().collect();
    ensure!(
        lost == predicted[&leaving[0]],
        "lost are the slots {}, predicted were {}",
        lost.summary(),
        predicted[&leaving[0]].summary()
    );
    let others: BTreeMap<_, _> = found
        .findings
        .iter()
        .filter(|(class, _)| **class != Class::Lost)
        .collect();
    ensure!(others.is_empty(), "beside the predicted loss: {others:?}");
    ensure!(
        found.unverified.is_empty(),
        "not verified: {:?}",
        found.unverified
    );
    Ok(())
}

/// The scale Job's pod is deleted while slots are moving. The Job starts another, which completes what the first began:
/// no slot is left open, no key is lost. At 8 all stays as it is.
async fn a_job_that_is_killed_is_completed(context: &mut Context) -> Result<()> {
    let values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.scale_and_kill_job(with_pods(&values, 8)).await?;
    context.verify_data().await?;
    if context.variant() == Variant::Hardened {
        hold_beyond_the_ban(context).await?;
    }
    Ok(())
}

fn with_pods(values: &Values, pods: u32) -> Values {
    let mut values = values.clone();
    values.cluster.replicas = pods;
    values
}

fn undrained(values: &Values, pods: u32) -> Values {
    let mut values = with_pods(values, pods);
    values.cluster.drain_before_scale_down = false;
    values
}

fn node_timeout(context: &Context) -> Result<Duration> {
    Ok(Duration::from_millis(u64::from(
        context.installed_values()?.cluster.node_timeout,
    )))
}

fn owns_slots(seen: &ClusterObservation, pod: &str) -> bool {
    let mut owned = seen.node_tables().filter(|(viewer, _)| *viewer == pod);
    owned.any(|(_, nodes)| nodes.myself().is_some_and(|myself| !myself.slots.is_empty()))
}

/// The pod that follows `primary` and stays.
fn survivor_of(seen: &ClusterObservation, primary: &str) -> Result<String> {
    let follows = |pod: &&str| {
        let mut own = seen.node_tables().filter(|(viewer, _)| viewer == pod);
        own.any(|(_, nodes)| nodes.myself().and_then(|myself| myself.primary.as_deref()) == Some(primary))
    };
    let mut pods = seen.pods.iter().map(|pod| pod.name.as_str());
    Ok(pods
        .find(follows)
        .context("nobody follows the new primary")?
        .to_owned())
}
