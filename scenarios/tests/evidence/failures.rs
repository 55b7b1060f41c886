//! The failures that the mutations do not have already.

use anyhow::{Context as _, Result};
use harness::release::{Bundle, HookEvent};
use harness::trial::Context;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SET: &str = "vk-percona-valkey";

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
    let env = server(bundle)["env"]
        .as_array_mut()
        .expect("the server has an environment");
    let reference = env
        .iter_mut()
        .find_map(|variable| variable.pointer_mut("/valueFrom/secretKeyRef"));
    reference.expect("the password comes from a Secret")["key"] = json!("no-such-key");
}

/// The server wants a node that is not there.
pub(super) fn wants_another_node(bundle: &mut Bundle) {
    pod(bundle)["nodeSelector"] = json!({"disk": "none-has-this"});
}

/// The init Job runs at the next upgrade only.
pub(super) fn forms_at_upgrade(bundle: &mut Bundle) {
    let init = bundle
        .hooks
        .iter_mut()
        .find(|hook| hook.object.name().ends_with("cluster-init"));
    init.expect("the chart renders the Job").events = vec![HookEvent::PostUpgrade];
}

/// The claim of pod 3 is there already, of a class that nobody provides.
pub(super) async fn one_claim_of_no_class(context: &mut Context) -> Result<()> {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": format!("data-{SET}-3")},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "nobody-provides-this",
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

fn id_of(seen: &harness::valkey::ClusterObservation, pod: &str) -> Result<String> {
    let mut tables = seen.node_tables();
    let found = tables.find(|(name, _)| *name == pod);
    let myself = found.and_then(|(_, nodes)| nodes.myself());
    Ok(myself.context("the pod gives no view")?.id.clone())
}

fn pod(bundle: &mut Bundle) -> &mut Value {
    let set = bundle
        .objects_mut()
        .find(|object| {
            object
                .types
                .as_ref()
                .is_some_and(|types| types.kind == "StatefulSet")
        })
        .expect("the chart renders a StatefulSet");
    &mut set.data["spec"]["template"]["spec"]
}

fn server(bundle: &mut Bundle) -> &mut Value {
    let containers = pod(bundle)["containers"]
        .as_array_mut()
        .expect("a pod has containers");
    let server = containers
        .iter_mut()
        .find(|container| container["name"] == "valkey");
    server.expect("the chart calls the server's container valkey")
}
