//! The ways to break a deployment: each changes what the chart renders in one place.

use harness::release::Bundle;
use serde_json::{Value, json};

/// Replicas cannot authenticate to their primaries.
pub(super) fn without_masterauth(bundle: &mut Bundle) {
    change_extra_flags(bundle, |flags| {
        flags.replace("--masterauth $(VALKEY_PASSWORD)", "")
    });
}

/// Every server tells the others an address that nobody has (TEST-NET-1, RFC 5737).
pub(super) fn wrong_announce_address(bundle: &mut Bundle) {
    change_extra_flags(bundle, |flags| flags.replace("$(POD_IP)", "192.0.2.1"));
}

/// Pods have no names before they are ready.
pub(super) fn hidden_until_ready(bundle: &mut Bundle) {
    let service = object(bundle, "Service", "vk-percona-valkey-headless");
    service["spec"]["publishNotReadyAddresses"] = json!(false);
}

/// The init Job is told of seven pods where there are six.
pub(super) fn init_job_waits_for_a_pod_too_many(bundle: &mut Bundle) {
    let job = object(bundle, "Job", "vk-percona-valkey-cluster-init");
    set_env(
        &mut job["spec"]["template"]["spec"]["containers"][0],
        "REPLICAS",
        "7",
    );
}

/// The init Job makes every pod a primary.
pub(super) fn primaries_only(bundle: &mut Bundle) {
    let job = object(bundle, "Job", "vk-percona-valkey-cluster-init");
    set_env(
        &mut job["spec"]["template"]["spec"]["containers"][0],
        "REPLICAS_PER_PRIMARY",
        "0",
    );
}

/// The server does not accept its configuration.
pub(super) fn server_with_unknown_directive(bundle: &mut Bundle) {
    let map = object(bundle, "ConfigMap", "vk-percona-valkey");
    let conf = map["data"]["valkey.conf"]
        .as_str()
        .expect("the chart renders valkey.conf")
        .to_owned();
    map["data"]["valkey.conf"] = json!(format!("{conf}\nno-such-directive yes\n"));
}

/// No registry has the image.
pub(super) fn image_that_does_not_exist(bundle: &mut Bundle) {
    server(bundle)["image"] = json!("perconalab/valkey:0.0.0-none");
}

/// A probe that only works where there is a shell.
pub(super) fn probe_through_a_shell(bundle: &mut Bundle) {
    server(bundle)["readinessProbe"]["exec"]["command"] = json!(["sh", "-c", "valkey-cli ping | grep PONG"]);
}

/// The client Service leads to a port that no pod has.
pub(super) fn service_with_unknown_port_name(bundle: &mut Bundle) {
    let service = object(bundle, "Service", "vk-percona-valkey");
    service["spec"]["ports"][0]["targetPort"] = json!("redis");
}

/// The Job's pods carry the servers' labels.
pub(super) fn job_pods_in_service(bundle: &mut Bundle) {
    let job = object(bundle, "Job", "vk-percona-valkey-cluster-init");
    job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] = json!("server");
}

/// The budget also counts the pods of Jobs.
pub(super) fn budget_for_job_pods(bundle: &mut Bundle) {
    let budget = object(bundle, "PodDisruptionBudget", "vk-percona-valkey");
    let labels = budget["spec"]["selector"]["matchLabels"]
        .as_object_mut()
        .expect("the budget has a selector");
    labels.remove("app.kubernetes.io/component");
}

/// A read-only root filesystem, and nowhere to write to.
pub(super) fn without_tmpfs(bundle: &mut Bundle) {
    let is_scratch = |entry: &Value| entry["name"] == "tmp" || entry["name"] == "run";
    let mounts = server(bundle)["volumeMounts"]
        .as_array_mut()
        .expect("the server mounts volumes");
    mounts.retain(|mount| !is_scratch(mount));
    let pod = pod_template(bundle);
    pod["volumes"]
        .as_array_mut()
        .expect("the pod has volumes")
        .retain(|volume| !is_scratch(volume));
}

/// The hardened server may write everywhere.
pub(super) fn writable_root(bundle: &mut Bundle) {
    server(bundle)["securityContext"]["readOnlyRootFilesystem"] = json!(false);
}

/// The pod runs as another user than the values say.
pub(super) fn runs_as_another_user(bundle: &mut Bundle) {
    pod_template(bundle)["securityContext"] = json!({"runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 999});
}

/// Data goes where the pod goes.
pub(super) fn data_without_claim(bundle: &mut Bundle) {
    let set = object(bundle, "StatefulSet", "vk-percona-valkey");
    set["spec"]
        .as_object_mut()
        .expect("a StatefulSet has a spec")
        .remove("volumeClaimTemplates");
    let volumes = pod_template(bundle)["volumes"]
        .as_array_mut()
        .expect("the pod has volumes");
    volumes.push(json!({"name": "data", "emptyDir": {}}));
}

/// The server lets everybody in.
pub(super) fn server_without_password(bundle: &mut Bundle) {
    let container = server(bundle);
    let env = container["env"]
        .as_array_mut()
        .expect("the server has an environment");
    env.retain(|variable| variable["name"] != "VALKEY_PASSWORD" && variable["name"] != "VALKEY_EXTRA_FLAGS");
}

/// Replicas take the password for their primaries from a Secret of its own.
pub(super) fn masterauth_of_its_own(bundle: &mut Bundle, secret: &str) {
    change_extra_flags(bundle, |flags| {
        flags.replace("$(VALKEY_PASSWORD)", "$(PASSWORD_FOR_PRIMARIES)")
    });
    let variable = json!({
        "name": "PASSWORD_FOR_PRIMARIES",
        "valueFrom": {"secretKeyRef": {"name": secret, "key": "valkey-password"}},
    });
    let env = server(bundle)["env"]
        .as_array_mut()
        .expect("the server has an environment");
    // A variable can only refer to those before it.
    env.insert(0, variable);
}

fn object<'a>(bundle: &'a mut Bundle, kind: &str, name: &str) -> &'a mut Value {
    let found = bundle.objects_mut().find(|object| {
        object.types.as_ref().is_some_and(|types| types.kind == kind)
            && object.metadata.name.as_deref() == Some(name)
    });
    &mut found
        .unwrap_or_else(|| panic!("the chart does not render {kind} {name}"))
        .data
}

fn pod_template(bundle: &mut Bundle) -> &mut Value {
    &mut object(bundle, "StatefulSet", "vk-percona-valkey")["spec"]["template"]["spec"]
}

fn server(bundle: &mut Bundle) -> &mut Value {
    let containers = pod_template(bundle)["containers"]
        .as_array_mut()
        .expect("a pod has containers");
    let server = containers
        .iter_mut()
        .find(|container| container["name"] == "valkey");
    server.expect("the chart calls the server's container valkey")
}

fn set_env(container: &mut Value, name: &str, value: &str) {
    let env = container["env"]
        .as_array_mut()
        .expect("the container has an environment");
    let variable = env.iter_mut().find(|variable| variable["name"] == name);
    variable.unwrap_or_else(|| panic!("the container has no variable {name}"))["value"] = json!(value);
}

fn change_extra_flags(bundle: &mut Bundle, change: impl Fn(&str) -> String) {
    let env = server(bundle)["env"]
        .as_array_mut()
        .expect("the server has an environment");
    let flags = env
        .iter_mut()
        .find(|variable| variable["name"] == "VALKEY_EXTRA_FLAGS");
    let flags = flags.expect("a cluster's server has extra flags");
    let before = flags["value"].as_str().expect("the flags are a text").to_owned();
    let after = change(&before);
    assert_ne!(
        before, after,
        "the chart's flags are not what this mutation changes"
    );
    flags["value"] = json!(after);
}
