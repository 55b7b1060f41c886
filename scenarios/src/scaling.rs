//! Pods are added and removed, every key stays.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::checks::forecast;
use harness::trial::TrialError;
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

/// Time that Valkey refuses to hear of a node again after `CLUSTER FORGET`.
const FORGET_BAN: Duration = Duration::from_secs(60);

/// The chart's own walk under load: 6 → 8 → 6 → 8 → 6. Each new primary gets its share of slots.
/// Each departing primary is emptied before its pod is deleted. No dead node is left, and returning
/// volumes bring nothing back. At the end, the release stays healthy while the ban on forgotten
/// nodes expires.
async fn there_and_back_again(context: &mut Context) -> Result<()> {
    let values = six_pods(context);
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
    let budget = if context.environment().subject.drains(&values) {
        context.migration_budget()
    } else {
        context.failover_budget()?
    };
    context.stop_load(budget).await?;
    context.verify_data().await?;
    context.verify_objects().await?;
    // One combination watches for all of them, because the result does not depend on the image.
    if context.variant() == Variant::Rpm {
        hold_beyond_the_ban(context).await?;
    }
    Ok(())
}

/// Checks that a healthy release stays healthy while the ban on forgotten nodes expires. Gossip
/// goes on and node timeouts pass in that time. Afterwards every key must be there. This is the
/// last act of a scenario, so that other trials run at the same time.
pub(crate) async fn hold_beyond_the_ban(context: &mut Context) -> Result<()> {
    let ban = FORGET_BAN + 2 * node_timeout(context)?;
    context.hold_stable(ban).await?;
    context.verify_data().await?;
    Ok(())
}

/// 6 → 10 → 6: two shards are added and then removed in one step.
async fn two_shards_at_once(context: &mut Context) -> Result<()> {
    let values = six_pods(context);
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.scale(with_pods(&values, 10)).await?;
    context.verify_data().await?;
    context.write_data().await?;
    is_safe(context, &values).await?;
    context.scale(values).await?;
    context.verify_data().await?;
    Ok(())
}

/// Skips the trial if the step deletes a whole shard and the subject does not drain it. The README
/// advises against such a step.
async fn is_safe(context: &Context, values: &Values) -> Result<()> {
    if context.environment().subject.drains(values) {
        return Ok(());
    }
    let seen = context.observe().await?;
    let losses = forecast::losses(&seen, &departing(&seen, values));
    if losses.is_empty() {
        return Ok(());
    }
    let shards: Vec<&str> = losses.keys().map(String::as_str).collect();
    let reason = format!(
        "without draining, this step removes every pod of the shard of {}, which the README forbids",
        shards.join(", ")
    );
    Err(TrialError::NotJudged(reason).into())
}

/// Three primaries without replicas get one replica each. One upgrade doubles the pods and asks for
/// replicas.
async fn replicas_for_bare_primaries(context: &mut Context) -> Result<()> {
    let mut values = six_pods(context);
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

/// 6 → 7 makes no fourth primary but one more replica, as the chart documents.
async fn a_step_that_is_not_a_multiple(context: &mut Context) -> Result<()> {
    let values = six_pods(context);
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.scale(with_pods(&values, 7)).await?;
    context.verify_data().await?;
    Ok(())
}

/// 8 → 6 without draining, as documented: replicas on remaining pods take over from leaving
/// primaries. The suite predicts no loss, and no key is lost. Then the volumes of the removed pods
/// come back with their old state and data.
async fn without_draining_a_safe_plan_keeps_everything(context: &mut Context) -> Result<()> {
    let eight = undrained(&six_pods(context), 8);
    context.install(eight.clone()).await?;
    let before = context.healthy().await?;
    context.write_data().await?;
    let six = undrained(&eight, 6);
    let leaving = departing(&before, &six);
    let owners = leaving.iter().filter(|pod| owns_slots(&before, pod)).count();
    if owners == 0 {
        // Formation makes the lowest pods primaries, so the fourth primary stays. A leaving pod
        // must take over first.
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

/// A primary and its only replica leave together, without draining. The suite predicts the lost
/// slots. Afterwards exactly these slots are lost, and every other key is there.
async fn without_draining_an_unsafe_plan_loses_what_was_predicted(context: &mut Context) -> Result<()> {
    let eight = undrained(&six_pods(context), 8);
    context.install(eight.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let six = undrained(&eight, 6);
    // Pods 6 and 7 are replicas of pods 2 and 3. Pod 6 takes over from pod 2, and pod 7 follows pod
    // 6 instead of pod 3.
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
        "the plan would lose {predicted:?} instead of all slots of {}",
        leaving[0]
    );
    context.scale(six).await?;
    let found = context.read_data().await?;
    let lost = found.findings.get(&Class::Lost).map(|finding| &finding.slots);
    let lost: SlotSet = lost.into_iter().flatten().copied().collect();
    let predicted = &predicted[&leaving[0]];
    // A slot whose keys have all expired shows no loss.
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let visible = predicted.intersection(&context.data.ledger()?.spec().slots_at(now_ms));
    // A chart without our switch may drain all the same, and then loses nothing.
    let drains = lost.is_empty() && !context.environment().subject.drains(&context.values());
    ensure!(
        drains || lost.difference(predicted).is_empty() && visible.difference(&lost).is_empty(),
        "slots {} were lost, but slots {} were predicted",
        lost.summary(),
        predicted.summary()
    );
    let others: BTreeMap<_, _> = found
        .findings
        .iter()
        .filter(|(class, _)| **class != Class::Lost)
        .collect();
    ensure!(
        others.is_empty(),
        "problems besides the predicted loss: {others:?}"
    );
    ensure!(
        found.unverified.is_empty(),
        "not verified: {:?}",
        found.unverified
    );
    Ok(())
}

/// The scale Job's pod is deleted while slots are moving. The Job starts another pod, which
/// completes the work: no slot stays open, no key is lost. The release stays healthy with 8 pods.
async fn a_job_that_is_killed_is_completed(context: &mut Context) -> Result<()> {
    let values = six_pods(context);
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

/// Returns values for three primaries with one replica each. The README's walk starts there,
/// whatever the numbers of the chart or the user are.
fn six_pods(context: &Context) -> Values {
    let mut values = context.values();
    (values.cluster.replicas, values.cluster.replicas_per_primary) = (6, 1);
    values
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
        context.deployment.values()?.cluster.node_timeout,
    )))
}

fn owns_slots(seen: &ClusterObservation, pod: &str) -> bool {
    let mut owned = seen.node_tables().filter(|(viewer, _)| *viewer == pod);
    owned.any(|(_, nodes)| nodes.myself().is_some_and(|myself| !myself.slots.is_empty()))
}

/// Returns the pod that follows `primary`.
fn survivor_of(seen: &ClusterObservation, primary: &str) -> Result<String> {
    let follows = |pod: &&str| {
        let mut own = seen.node_tables().filter(|(viewer, _)| viewer == pod);
        own.any(|(_, nodes)| nodes.myself().and_then(|myself| myself.primary.as_deref()) == Some(primary))
    };
    let mut pods = seen.pods.iter().map(|pod| pod.name.as_str());
    Ok(pods
        .find(follows)
        .context("no replica follows the new primary")?
        .to_owned())
}
