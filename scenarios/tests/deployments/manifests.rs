//! Functions that break a deployment: each changes the rendered objects in one place.
//!
//! [`super::registry`] lists them.

use harness::release::{Bundle, HookEvent};
use serde_json::{Value, json};

use super::parts::{SET, change_configuration, change_text, env, object, pod_template, server};

/// Replicas cannot authenticate to their primaries.
pub(super) fn without_masterauth(bundle: &mut Bundle) {
    change_extra_flags(bundle, |flags| {
        flags.replace("--masterauth $(VALKEY_PASSWORD)", "")
    });
}

/// Every server announces an address that no host has (TEST-NET-1, RFC 5737).
pub(super) fn wrong_announce_address(bundle: &mut Bundle) {
    change_extra_flags(bundle, |flags| flags.replace("$(POD_IP)", "192.0.2.1"));
}

/// Pods have no DNS names before they are ready.
pub(super) fn hidden_until_ready(bundle: &mut Bundle) {
    let service = object(bundle, "Service", "vk-percona-valkey-headless");
    service["spec"]["publishNotReadyAddresses"] = json!(false);
}

/// The init Job expects seven pods, but the release has six.
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

/// The server refuses its configuration.
pub(super) fn server_with_unknown_directive(bundle: &mut Bundle) {
    change_configuration(bundle, |conf| format!("{conf}\nno-such-directive yes\n"));
}

/// No registry has the image.
pub(super) fn image_that_does_not_exist(bundle: &mut Bundle) {
    server(bundle)["image"] = json!("perconalab/valkey:0.0.0-none");
}

/// A probe needs a shell, which the image lacks.
pub(super) fn probe_through_a_shell(bundle: &mut Bundle) {
    server(bundle)["readinessProbe"]["exec"]["command"] = json!(["sh", "-c", "valkey-cli ping | grep PONG"]);
}

/// The client Service routes to a port that no pod has.
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

/// The root filesystem is read-only, and no writable folder is mounted.
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

/// Data is in an `emptyDir`, so it is lost with its pod.
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

/// The server accepts clients without a password.
pub(super) fn server_without_password(bundle: &mut Bundle) {
    env(server(bundle))
        .retain(|variable| variable["name"] != "VALKEY_PASSWORD" && variable["name"] != "VALKEY_EXTRA_FLAGS");
}

/// Replicas take the password for their primaries from a separate Secret.
pub(super) fn masterauth_of_its_own(bundle: &mut Bundle, secret: &str) {
    change_extra_flags(bundle, |flags| {
        flags.replace("$(VALKEY_PASSWORD)", "$(PASSWORD_FOR_PRIMARIES)")
    });
    let variable = json!({
        "name": "PASSWORD_FOR_PRIMARIES",
        "valueFrom": {"secretKeyRef": {"name": secret, "key": "valkey-password"}},
    });
    // A variable can only refer to earlier variables.
    env(server(bundle)).insert(0, variable);
}

/// The server may gain privileges, which the namespace's Pod Security refuses.
pub(super) fn may_gain_privileges(bundle: &mut Bundle) {
    server(bundle)["securityContext"]["allowPrivilegeEscalation"] = json!(true);
}

/// The server reads its password from a key that the Secret does not have.
pub(super) fn password_under_another_key(bundle: &mut Bundle) {
    let reference = env(server(bundle))
        .iter_mut()
        .find_map(|variable| variable.pointer_mut("/valueFrom/secretKeyRef"));
    reference.expect("the password comes from a Secret")["key"] = json!("password");
}

/// The server's node selector matches no node.
pub(super) fn wants_another_node(bundle: &mut Bundle) {
    pod_template(bundle)["nodeSelector"] = json!({"disk": "none-has-this"});
}

/// The init Job runs only at the next upgrade.
pub(super) fn forms_at_upgrade(bundle: &mut Bundle) {
    let init = bundle
        .hooks
        .iter_mut()
        .find(|hook| hook.object.name().ends_with("cluster-init"));
    init.expect("the chart renders the Job").events = vec![HookEvent::PostUpgrade];
}

/// The configuration is mounted from a ConfigMap that does not exist.
pub(super) fn configuration_that_nobody_makes(bundle: &mut Bundle) {
    let volumes = pod_template(bundle)["volumes"]
        .as_array_mut()
        .expect("a pod has volumes");
    let map = volumes.iter_mut().find_map(|volume| volume.get_mut("configMap"));
    map.expect("the configuration is mounted")["name"] = json!("vk-percona-valkey-config");
}

/// The server listens on another port than its probes use. The startup probe gives up sooner than
/// the chart's own, which waits for a large dataset.
pub(super) fn listens_elsewhere(bundle: &mut Bundle) {
    change_configuration(bundle, |conf| conf.replace("port 6379\n", "port 6380\n"));
    server(bundle)["startupProbe"]["failureThreshold"] = json!(5);
}

/// The StatefulSet names a Service that does not exist, so that no pod has a DNS name.
pub(super) fn named_by_another_service(bundle: &mut Bundle) {
    object(bundle, "StatefulSet", SET)["spec"]["serviceName"] = json!(format!("{SET}-nodes"));
}

/// The client Service selects pods by a label that no pod has.
pub(super) fn service_selects_nothing(bundle: &mut Bundle) {
    object(bundle, "Service", SET)["spec"]["selector"]["app.kubernetes.io/role"] = json!("primary");
}

/// The readiness probe uses a port on which no process listens.
pub(super) fn readiness_asks_another_port(bundle: &mut Bundle) {
    server(bundle)["readinessProbe"]["exec"]["command"] = json!(["valkey-cli", "-e", "-p", "6380", "ping"]);
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
