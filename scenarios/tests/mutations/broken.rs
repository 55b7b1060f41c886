//! The ways to break a deployment: each changes what the chart renders in one place.

use harness::release::Bundle;
use serde_json::{Value, json};

use super::parts::{SET, change_configuration, change_text, env, object, pod_template, server};

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
    change_configuration(bundle, |conf| format!("{conf}\nno-such-directive yes\n"));
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
    let service = object(bundle, "Service", SET);
    service["spec"]["ports"][0]["targetPort"] = json!("redis");
}

/// The Job's pods carry the servers' labels.
pub(super) fn job_pods_in_service(bundle: &mut Bundle) {
    let job = object(bundle, "Job", "vk-percona-valkey-cluster-init");
    job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] = json!("server");
}

/// The budget also counts the pods of Jobs.
pub(super) fn budget_for_job_pods(bundle: &mut Bundle) {
    let budget = object(bundle, "PodDisruptionBudget", SET);
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
    let set = object(bundle, "StatefulSet", SET);
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
    env(server(bundle))
        .retain(|variable| variable["name"] != "VALKEY_PASSWORD" && variable["name"] != "VALKEY_EXTRA_FLAGS");
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
    // A variable can only refer to those before it.
    env(server(bundle)).insert(0, variable);
}

fn set_env(container: &mut Value, name: &str, value: &str) {
    let variable = env(container)
        .iter_mut()
        .find(|variable| variable["name"] == name);
    variable.unwrap_or_else(|| panic!("the container has no variable {name}"))["value"] = json!(value);
}

fn change_extra_flags(bundle: &mut Bundle, change: impl Fn(&str) -> String) {
    let mut variables = env(server(bundle)).iter_mut();
    let flags = variables.find(|variable| variable["name"] == "VALKEY_EXTRA_FLAGS");
    change_text(
        &mut flags.expect("a cluster's server has extra flags")["value"],
        change,
    );
}
