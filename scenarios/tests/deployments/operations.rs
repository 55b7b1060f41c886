//! Operations that go wrong: data that is changed from outside, and Jobs that skip a part of their
//! work.

use std::time::Duration;

use ::manifests::Values;
use anyhow::{Context as _, Result, ensure};
use harness::release::Bundle;
use harness::trial::Context;
use harness::valkey::cluster_nodes::ClusterNodes;
use harness::wait::{self, Expectation, Verdict};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;

use super::manifests::masterauth_of_its_own;
use super::parts::{SET, change_text, env, object};

/// Remaining lifetime of a key that cannot expire during a trial.
const LONG_LIVED_MS: i64 = 600_000;

/// The exit of a chart's script that fails, and the exit that would hide the failure.
const FAILURE: &str = "  exit 1\n";
const HIDDEN_FAILURE: &str = "  exit 0\n";

/// The chart's own node timeout, in milliseconds. A Job acts before any replica takes over.
const SLOW_NODE_TIMEOUT: u32 = 15_000;

/// Time that a server may take for an empty snapshot.
const SNAPSHOT: Duration = Duration::from_secs(20);

/// Interval between two looks at the snapshot's state.
const INTERVAL: Duration = Duration::from_millis(200);

/// The key of slot 5 is deleted without the suite's knowledge.
pub(super) async fn key_deleted(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let key = context.data.ledger()?.spec().key(5);
    command(context, &["DEL", &key]).await?;
    Ok(context.verify_data().await?)
}

/// A key with an expiry loses its expiry.
pub(super) async fn lifetime_removed(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let spec = context.data.ledger()?.spec();
    let after = spec.base_ms + LONG_LIVED_MS;
    let mortal = (0..spec.keys).find(|index| spec.shape(*index).expires_ms.is_some_and(|at| at > after));
    let key = spec.key(mortal.context("the ledger has no mortal key")?);
    command(context, &["PERSIST", &key]).await?;
    Ok(context.verify_data().await?)
}

/// The scale Job adds the new pods to the cluster, but moves no slots.
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

/// The scale Job moves no slots, and its script reports every failure as success.
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

/// The drain Job does not move the slots of leaving pods. Its script reports every failure as
/// success.
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

/// Departing nodes are emptied and reset, but no node forgets them.
pub(super) async fn forget_skipped(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    values.cluster.replicas = 8;
    context.install(values.clone()).await?;
    context.healthy().await?;
    values.cluster.replicas = 6;
    let mut bundle = context.render_upgrade(&values).await?;
    // Both Jobs check that every departed node is forgotten. A chart that skips `CLUSTER FORGET`
    // would also skip this check.
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

/// Pods leave without draining. `--cluster fix` reassigns their slots before a replica can take
/// over.
pub(super) async fn fix_too_early(context: &mut Context) -> Result<()> {
    let mut values = with_a_primary_that_leaves(context, false).await?;
    context.write_data().await?;
    // A server may end more slowly than its replica takes over. The fix would then not be too
    // early.
    for pod in context.server_pods().await? {
        let never = ["CONFIG", "SET", "cluster-replica-no-failover", "yes"];
        command_at(context, &pod.name_any(), &never).await?;
    }
    values.cluster.replicas = 6;
    let mut bundle = context.render_upgrade(&values).await?;
    // A replica cannot forget its primary while it follows it. The fix gives the replica another
    // primary.
    Script::of(&mut bundle, "cluster-scale").replace(
        "  (wait_for \"$deadline\" failed_over) || log \"WARNING: no replica took over; the data of these slots is lost\"\n",
        "  printf 'yes\\nyes\\nyes\\n' | valkey-cli --cluster fix \"${HOST_PREFIX}0$HOST_SUFFIX:$PORT\" --cluster-fix-with-unreachable-masters --cluster-yes\n  \
         wait_for \"$TIMEOUT_SECONDS\" settled \"$REPLICAS\"\n  \
         targets=$(survey \"$REPLICAS\" \"$seed\" | choose_targets \"$primaries_wanted\")\n  \
         place_replicas \"$REPLICAS\" \"$seed\" \"$targets\"\n",
    );
    context.scale_bundle(values, bundle).await?;
    Ok(context.verify_data().await?)
}

/// The new primary's replica goes to the other new pod instead of to a pod that existed before.
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

/// The Secret with the password for primaries, which nobody changes when the password changes.
const FOR_PRIMARIES: &str = "for-primaries";

/// The password changes and the pods restart with it. Replicas still offer their primaries the old
/// password.
pub(super) async fn masterauth_not_rotated(context: &mut Context) -> Result<()> {
    let old = context.credentials.make();
    context.put_secret(FOR_PRIMARIES, &old).await?;
    let mut values = context.values();
    old.expose().clone_into(&mut values.auth.password);
    let mut bundle = context.render(&values)?;
    masterauth_of_its_own(&mut bundle, FOR_PRIMARIES);
    context.install_bundle(values.clone(), bundle).await?;
    context.healthy().await?;
    let new = context.credentials.make();
    new.expose().clone_into(&mut values.auth.password);
    let mut bundle = context.render_upgrade(&values).await?;
    masterauth_of_its_own(&mut bundle, FOR_PRIMARIES);
    context.upgrade_bundle(values, bundle).await?;
    context.rolling_restart().await?;
    Ok(())
}

/// A server that every other server has reached gets another password without the suite's
/// knowledge.
pub(super) async fn password_changed_behind(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    command(context, &["CONFIG", "SET", "requirepass", "another"]).await?;
    context.healthy().await?;
    Ok(())
}

/// Every key of slot 5 is deleted on its owner without the suite's knowledge.
pub(super) async fn slot_emptied(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let seen = context.observe().await?;
    let owns = |nodes: &ClusterNodes| nodes.myself().is_some_and(|myself| myself.slots.contains(5));
    let owner = seen.node_tables().find(|(_, nodes)| owns(nodes));
    let owner = owner.context("nobody owns slot 5")?.0.to_owned();
    let spec = context.data.ledger()?.spec();
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

/// Installs eight pods, and makes one of the last two a primary. A scale down to six then removes
/// both.
async fn with_a_primary_that_leaves(context: &mut Context, drained: bool) -> Result<Values> {
    let mut values = context.values();
    values.cluster.replicas = 8;
    values.cluster.drain_before_scale_down = drained;
    // With this timeout, a missing server does not count as failed yet when the scale Job begins.
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
    /// Returns the script of the Job with a name that ends in `suffix`.
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

    /// Replaces `old`, which must be present, by `new`.
    fn replace(&mut self, old: &str, new: &str) {
        change_text(self.0, |text| text.replace(old, new));
    }
}

/// The claim of pod 3 exists already, and needs a volume made by hand, which does not exist. With
/// an unknown StorageClass, the error would name the class instead.
pub(super) async fn one_claim_of_no_class(context: &mut Context) -> Result<()> {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": format!("data-{SET}-3")},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }))?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client(), context.namespace());
    claims.create(&PostParams::default(), &claim).await?;
    context.install(context.values()).await?;
    Ok(())
}

/// Pods 4 and 5 become a primary and its only replica. Both are then deleted by a scale down,
/// without a move of their slots.
pub(super) async fn shard_deleted(context: &mut Context) -> Result<()> {
    let [primary, replica] = [4, 5].map(|number| format!("{SET}-{number}"));
    context.install(context.values()).await?;
    context.healthy().await?;
    context.fail_over_to(&primary).await?;
    let seen = context.healthy().await?;
    let id = id_of(&seen, &primary)?;
    let orphaned = context.follow(&replica, &id).await?;
    let former = seen
        .node_tables()
        .find_map(|(_, nodes)| {
            nodes
                .replicas_of(&id)
                .next()
                .and_then(|node| seen.pod_of_node(&node.id))
        })
        .context("the new primary has no replica")?;
    context.follow(former, &orphaned).await?;
    context.healthy().await?;
    let sets: Api<StatefulSet> = Api::namespaced(context.client(), context.namespace());
    let four = Patch::Merge(json!({"spec": {"replicas": 4}}));
    sets.patch(SET, &PatchParams::default(), &four).await?;
    context.healthy().await?;
    Ok(())
}

/// Slot 5 is removed from every node's table.
pub(super) async fn slot_dropped(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    // Pod 0 owns the slot. Its replica repeats the claim until it learns of the removal, so every
    // node gets the command twice.
    for pod in [context.server_pods().await?, context.server_pods().await?].concat() {
        let mut connection = context.connect(&pod.name_any()).await?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("DELSLOTS").arg(5);
        // The command fails if the slot is already unassigned on this node, which is also fine.
        let _ = connection.send_packed_command(&command).await;
    }
    context.healthy().await?;
    Ok(())
}

/// `helm test` connects to a Service that does not exist.
pub(super) async fn test_asks_nobody(context: &mut Context) -> Result<()> {
    let values = context.values();
    let mut bundle = context.render(&values)?;
    let test = object(&mut bundle, "Pod", &format!("{SET}-test-connection"));
    let mut variables = env(&mut test["spec"]["containers"][0]).iter_mut();
    let host = variables.find(|variable| variable["name"] == "HOST");
    host.expect("the test is told whom to ask")["value"] = json!("nobody");
    context.install_bundle(values, bundle).await?;
    context.healthy().await?;
    context.helm_test().await?;
    Ok(())
}

/// A folder occupies the path of the server's snapshot.
pub(super) async fn snapshot_in_the_way(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    let pod = format!("{SET}-0");
    let made = context.exec_in_server(&pod, &["mkdir", "/data/dump.rdb"]).await?;
    ensure!(made.success().is_some(), "no folder could be made: {made:?}");
    let mut connection = context.connect(&pod).await?;
    connection.send_packed_command(&redis::cmd("BGSAVE")).await?;
    let failed = Expectation::new(pod, "to fail to take a snapshot", SNAPSHOT);
    let reader: &Context = context;
    wait::poll(failed, INTERVAL, || async {
        let seen = reader.observe().await;
        let failed = seen.is_ok_and(|seen| {
            seen.answered()
                .any(|(_, view)| !view.persistence.rdb_last_bgsave_ok)
        });
        if failed {
            Verdict::Ready(())
        } else {
            Verdict::NotYet("no snapshot has failed".to_owned())
        }
    })
    .await?;
    context.verify_objects().await?;
    Ok(())
}

fn id_of(seen: &harness::valkey::ClusterObservation, pod: &str) -> Result<String> {
    let mut tables = seen.node_tables();
    let found = tables.find(|(name, _)| *name == pod);
    let myself = found.and_then(|(_, nodes)| nodes.myself());
    Ok(myself.context("the pod gives no view")?.id.clone())
}
