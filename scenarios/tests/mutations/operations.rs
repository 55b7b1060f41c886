//! Operations that go wrong: data that somebody else changes, and Jobs that leave a part of their work out.

use anyhow::{Context as _, Result};
use harness::release::Bundle;
use harness::trial::Context;
use harness::valkey::cluster_nodes::ClusterNodes;
use kube::ResourceExt;
use kube::api::DynamicObject;
use manifests::Values;

use super::broken;
use super::parts::change_text;

/// How much longer than any trial a key must live to count as one that does not expire meanwhile.
const LONG_LIVED_MS: i64 = 600_000;

/// How a script of the chart ends when it cannot do its work, and how it would if it hid that.
const FAILURE: &str = "  exit 1\n";
const HIDDEN_FAILURE: &str = "  exit 0\n";

/// The chart's own node timeout, in milliseconds: no replica takes over before a Job has done something rash.
const SLOW_NODE_TIMEOUT: u32 = 15_000;

/// The key of slot 5 is deleted behind the suite's back.
pub(super) async fn key_deleted(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let key = context.ledger()?.spec().key(5);
    command(context, &["DEL", &key]).await?;
    Ok(context.verify_data().await?)
}

/// A key that should expire is made to live for ever.
pub(super) async fn lifetime_removed(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let spec = context.ledger()?.spec();
    let after = spec.base_ms + LONG_LIVED_MS;
    let mortal = (0..spec.keys).find(|index| spec.shape(*index).expires_ms.is_some_and(|at| at > after));
    let key = spec.key(mortal.context("the ledger has no mortal key")?);
    command(context, &["PERSIST", &key]).await?;
    Ok(context.verify_data().await?)
}

/// The scale Job takes new pods in, and leaves the slots where they are.
pub(super) async fn rebalance_skipped(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    values.cluster.replicas = 8;
    let mut bundle = context.render_upgrade(&values).await?;
    Script::of(&mut bundle, "cluster-scale")
        .replace("  rebalance \"$REPLICAS\" \"$seed\" \"$targets\"\n", "");
    context.upgrade_bundle(values, bundle).await?;
    context.healthy().await?;
    Ok(())
}

/// The scale Job moves no slots, and its script ends every failure with success.
pub(super) async fn scale_job_hides_its_failure(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    values.cluster.replicas = 8;
    let mut bundle = context.render_upgrade(&values).await?;
    let mut script = Script::of(&mut bundle, "cluster-scale");
    script.replace(FAILURE, HIDDEN_FAILURE);
    script.replace(
        "  rebalance \"$REPLICAS\" \"$seed\" \"$targets\"\n",
        "  die \"the slots could not be moved\"\n",
    );
    context.scale_bundle(values, bundle).await?;
    Ok(())
}

/// The drain Job does not move the slots of the pods that leave, and its script ends every failure with success.
pub(super) async fn drain_job_hides_its_failure(context: &mut Context) -> Result<()> {
    let mut values = with_a_primary_that_leaves(context, true).await?;
    values.cluster.replicas = 6;
    let mut bundle = context.render_upgrade(&values).await?;
    let mut script = Script::of(&mut bundle, "cluster-drain");
    script.replace(FAILURE, HIDDEN_FAILURE);
    script.replace(
        "\nrebalance \"$REPLICAS\" \"$seed\" \"$targets\"\n",
        "\ndie \"the slots could not be moved\"\n",
    );
    context.scale_bundle(values, bundle).await?;
    Ok(())
}

/// Departing nodes are emptied and reset, and nobody is told to forget them.
pub(super) async fn forget_skipped(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    values.cluster.replicas = 8;
    context.install(values.clone()).await?;
    context.healthy().await?;
    values.cluster.replicas = 6;
    let mut bundle = context.render_upgrade(&values).await?;
    // Both Jobs look whether everything is forgotten; a chart that forgets to forget does not look either.
    for job in ["cluster-drain", "cluster-scale"] {
        let mut script = Script::of(&mut bundle, job);
        script.replace(
            "    wait_for \"$TIMEOUT_SECONDS\" forget \"$REPLICAS\" \"$id\"\n",
            "",
        );
        script.replace("\nwait_for \"$TIMEOUT_SECONDS\" complete\n", "\n");
    }
    Script::of(&mut bundle, "cluster-scale")
        .replace("  wait_for \"$TIMEOUT_SECONDS\" knows_all \"$REPLICAS\"\n", "");
    context.scale_bundle(values, bundle).await?;
    Ok(())
}

/// Pods leave without having been drained, and `--cluster fix` gives their slots away before a replica could take over.
pub(super) async fn fix_too_early(context: &mut Context) -> Result<()> {
    let mut values = with_a_primary_that_leaves(context, false).await?;
    context.write_data().await?;
    // A server may take longer to end than its replica needs to take over: then the fix would not be too early.
    for pod in context.server_pods().await? {
        let never = ["CONFIG", "SET", "cluster-replica-no-failover", "yes"];
        command_at(context, &pod.name_any(), &never).await?;
    }
    values.cluster.replicas = 6;
    let mut bundle = context.render_upgrade(&values).await?;
    // The replica of a primary that is gone cannot forget it while it follows it: the fix finds it another.
    Script::of(&mut bundle, "cluster-scale").replace(
        "  (wait_for \"$patience\" failed_over) || log \"WARNING: no replica took over; the data of these slots is lost\"\n",
        "  printf 'yes\\nyes\\nyes\\n' | valkey-cli --cluster fix \"${HOST_PREFIX}0$HOST_SUFFIX:$PORT\" --cluster-fix-with-unreachable-masters --cluster-yes\n  \
         wait_for \"$TIMEOUT_SECONDS\" settled \"$REPLICAS\"\n  \
         targets=$(survey \"$REPLICAS\" \"$seed\" | choose_targets \"$primaries_wanted\")\n  \
         place_replicas \"$REPLICAS\" \"$seed\" \"$targets\"\n",
    );
    context.scale_bundle(values, bundle).await?;
    Ok(context.verify_data().await?)
}

/// The new primary's replica goes to the new pod beside it instead of to one that was there before.
pub(super) async fn replica_on_departing_pod(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    values.cluster.replicas = 8;
    let mut bundle = context.render_upgrade(&values).await?;
    Script::of(&mut bundle, "cluster-scale").replace("| plan_replicas \"$p\" ", "| plan_replicas 0 ");
    context.scale_bundle(values, bundle).await?;
    Ok(())
}

/// The Secret that the password for primaries is taken from, and that nobody changes when the password changes.
const FOR_PRIMARIES: &str = "for-primaries";

/// The password changes and the pods restart with it, but what replicas offer their primaries stays the old one.
pub(super) async fn masterauth_not_rotated(context: &mut Context) -> Result<()> {
    let old = context.new_password();
    context.put_secret(FOR_PRIMARIES, &old).await?;
    let mut values = context.values();
    old.expose().clone_into(&mut values.auth.password);
    let mut bundle = context.render(&values)?;
    broken::masterauth_of_its_own(&mut bundle, FOR_PRIMARIES);
    context.install_bundle(values.clone(), bundle).await?;
    context.healthy().await?;
    let new = context.new_password();
    new.expose().clone_into(&mut values.auth.password);
    let mut bundle = context.render_upgrade(&values).await?;
    broken::masterauth_of_its_own(&mut bundle, FOR_PRIMARIES);
    context.upgrade_bundle(values, bundle).await?;
    context.rolling_restart().await?;
    Ok(())
}

/// A server that everybody has reached gets another password behind the suite's back.
pub(super) async fn password_changed_behind(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    command(context, &["CONFIG", "SET", "requirepass", "another"]).await?;
    context.healthy().await?;
    Ok(())
}

/// Every key of slot 5 is deleted behind the suite's back, where its owner has it.
pub(super) async fn slot_emptied(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let seen = context.observe().await?;
    let owns = |nodes: &ClusterNodes| nodes.myself().is_some_and(|myself| myself.slots.contains(5));
    let owner = seen.node_tables().find(|(_, nodes)| owns(nodes));
    let owner = owner.context("nobody owns slot 5")?.0.to_owned();
    let spec = context.ledger()?.spec();
    let keys: Vec<String> = (0..spec.keys)
        .filter(|index| spec.slot(*index) == 5)
        .map(|index| spec.key(index))
        .collect();
    let words: Vec<&str> = std::iter::once("DEL")
        .chain(keys.iter().map(String::as_str))
        .collect();
    command_at(context, &owner, &words).await?;
    Ok(context.verify_data().await?)
}

/// Eight pods, of which the last two are to leave, and one of these two is a primary.
async fn with_a_primary_that_leaves(context: &mut Context, drained: bool) -> Result<Values> {
    let mut values = context.values();
    values.cluster.replicas = 8;
    values.cluster.drain_before_scale_down = drained;
    // A server that is missed for so long is still being waited for when the scale Job begins.
    values.cluster.node_timeout = SLOW_NODE_TIMEOUT;
    context.install(values.clone()).await?;
    let seen = context.healthy().await?;
    let leaving = seen.pods.get(6).context("there is no seventh pod")?;
    context.fail_over_to(&leaving.name.clone()).await?;
    context.healthy().await?;
    Ok(values)
}

async fn with_data(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    Ok(context.write_data().await?)
}

async fn command(context: &Context, words: &[&str]) -> Result<()> {
    let pods = context.server_pods().await?;
    let pod = pods.first().context("no server runs")?.name_any();
    command_at(context, &pod, words).await
}

async fn command_at(context: &Context, pod: &str, words: &[&str]) -> Result<()> {
    let mut connection = context.connect(pod).await?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    connection.send_packed_command(&command).await?;
    Ok(())
}

/// The script of a Job.
struct Script<'a>(&'a mut serde_json::Value);

impl<'a> Script<'a> {
    /// That of the Job whose name ends in `suffix`.
    fn of(bundle: &'a mut Bundle, suffix: &str) -> Self {
        let is_it = |object: &&mut DynamicObject| {
            let name = object.metadata.name.as_deref();
            object.types.as_ref().is_some_and(|types| types.kind == "Job")
                && name.is_some_and(|name| name.ends_with(suffix))
        };
        let job = bundle
            .objects_mut()
            .find(is_it)
            .expect("the chart renders the Job");
        Self(&mut job.data["spec"]["template"]["spec"]["containers"][0]["command"][2])
    }

    /// Puts `new` where `old` is, which must be there.
    fn replace(&mut self, old: &str, new: &str) {
        change_text(self.0, |text| text.replace(old, new));
    }
}
