//! The failures that the mutations do not have already.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::release::{Bundle, HookEvent};
use harness::trial::Context;
use harness::wait::{self, Expectation, Verdict};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::parts::{SET, change_configuration, env, object, pod_template, server};

/// How long a server may take for a snapshot of nothing.
const SNAPSHOT: Duration = Duration::from_secs(20);

/// How often to look whether it has taken one.
const INTERVAL: Duration = Duration::from_millis(200);

/// Installs what is rendered, broken by `breakage`, and looks at it.
pub(super) async fn deploy(context: &mut Context, breakage: fn(&mut Bundle)) -> Result<()> {
    let values = context.values();
    let mut bundle = context.render(&values)?;
    breakage(&mut bundle);
    context.install_bundle(values, bundle).await?;
    context.healthy().await?;
    context.verify_objects().await?;
    Ok(())
}

/// The server may gain privileges, which the namespace does not allow.
pub(super) fn may_gain_privileges(bundle: &mut Bundle) {
    server(bundle)["securityContext"]["allowPrivilegeEscalation"] = json!(true);
}

/// The server wants its password under a key that the Secret does not have.
pub(super) fn password_under_another_key(bundle: &mut Bundle) {
    let reference = env(server(bundle))
        .iter_mut()
        .find_map(|variable| variable.pointer_mut("/valueFrom/secretKeyRef"));
    reference.expect("the password comes from a Secret")["key"] = json!("no-such-key");
}

/// The server wants a node that is not there.
pub(super) fn wants_another_node(bundle: &mut Bundle) {
    pod_template(bundle)["nodeSelector"] = json!({"disk": "none-has-this"});
}

/// The init Job runs at the next upgrade only.
pub(super) fn forms_at_upgrade(bundle: &mut Bundle) {
    let init = bundle
        .hooks
        .iter_mut()
        .find(|hook| hook.object.name().ends_with("cluster-init"));
    init.expect("the chart renders the Job").events = vec![HookEvent::PostUpgrade];
}

/// The claim of pod 3 is there already, and wants a volume that somebody has made by hand: nobody has. A class that does not
/// exist would be missed by its name.
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

/// Pods 4 and 5 become a primary and its only replica, and are then scaled away, as if nobody had moved their slots.
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

/// Slot 5 is taken from every node's table.
pub(super) async fn slot_dropped(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    // Pod 0 owns it. Its replica repeats the claim until it has heard of that, so that everybody is told twice.
    for pod in [context.server_pods().await?, context.server_pods().await?].concat() {
        let mut connection = context.connect(&pod.name_any()).await?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("DELSLOTS").arg(5);
        // Whether a node had it or has lost it already, it does not have it now.
        let _ = connection.send_packed_command(&command).await;
    }
    context.healthy().await?;
    Ok(())
}

/// The configuration is mounted from a ConfigMap that nobody makes.
pub(super) fn configuration_that_nobody_makes(bundle: &mut Bundle) {
    let volumes = pod_template(bundle)["volumes"]
        .as_array_mut()
        .expect("a pod has volumes");
    let map = volumes.iter_mut().find_map(|volume| volume.get_mut("configMap"));
    map.expect("the configuration is mounted")["name"] = json!("nobody-makes-this");
}

/// The server listens on another port than its probes ask. They give up sooner than the chart's, which wait for a large
/// dataset.
pub(super) fn listens_elsewhere(bundle: &mut Bundle) {
    change_configuration(bundle, |conf| conf.replace("port 6379\n", "port 6380\n"));
    server(bundle)["startupProbe"]["failureThreshold"] = json!(5);
}

/// The StatefulSet names a Service that does not exist, so that no pod has a name.
pub(super) fn named_by_another_service(bundle: &mut Bundle) {
    object(bundle, "StatefulSet", SET)["spec"]["serviceName"] = json!(format!("{SET}-nodes"));
}

/// The Service of the clients selects pods by a label that none has.
pub(super) fn service_selects_nothing(bundle: &mut Bundle) {
    object(bundle, "Service", SET)["spec"]["selector"]["app.kubernetes.io/role"] = json!("primary");
}

/// The readiness probe asks on a port where nobody is.
pub(super) fn readiness_asks_another_port(bundle: &mut Bundle) {
    server(bundle)["readinessProbe"]["exec"]["command"] = json!(["valkey-cli", "-e", "-p", "6380", "ping"]);
}

/// `helm test` asks a Service that does not exist.
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

/// A folder is where the server wants its snapshot.
pub(super) async fn snapshot_in_the_way(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    let pod = format!("{SET}-0");
    let made = context.exec(&pod, "valkey", &["mkdir", "/data/dump.rdb"]).await?;
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
