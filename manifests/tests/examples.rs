//! The example values files match the chart's README, and render.

use manifests::examples::{ALL, CLUSTER, CUSTOM, HARDENED, STANDALONE};
use manifests::{Manifests, Mode, Password, Release, Variant, render};
use serde_json::{Value, json};

fn rendered(example: &manifests::examples::Example) -> Manifests {
    let release =
        Release::install("my-valkey", "prod").with_password(Password::parse("password").expect("valid"));
    let values = example
        .values()
        .unwrap_or_else(|error| panic!("{}: {error}", example.file));
    render(&release, &values).unwrap_or_else(|error| panic!("{}: {error}", example.file))
}

fn server(manifests: &Manifests) -> Value {
    let set = serde_json::to_value(&manifests.stateful_set).expect("plain JSON");
    set["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn all_of_them_render() {
    for example in &ALL {
        assert!(rendered(example).objects().len() >= 5, "{}", example.file);
    }
}

#[test]
fn the_standalone_example_has_its_limits() {
    let manifests = rendered(&STANDALONE);
    assert_eq!(
        server(&manifests)["resources"],
        json!({"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}})
    );
    let conf = &manifests.config_map.data.expect("data")["valkey.conf"];
    assert!(
        conf.contains("maxmemory 512mb\nmaxmemory-policy allkeys-lru\n"),
        "{conf}"
    );
}

#[test]
fn the_cluster_example_has_nine_nodes_on_fast_disks() {
    let values = CLUSTER.values().expect("valid");
    assert_eq!(
        (values.mode, values.replicas(), values.primaries()),
        (Mode::Cluster, 9, 3)
    );
    let set = serde_json::to_value(rendered(&CLUSTER).stateful_set).expect("plain JSON");
    let claim = &set["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claim["storageClassName"], "fast-ssd");
    let anti = &set["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
    assert_eq!(
        anti["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"],
        100
    );
}

#[test]
fn the_hardened_example_reads_the_users_secret() {
    assert_eq!(HARDENED.values().expect("valid").image.variant, Variant::Hardened);
    let manifests = rendered(&HARDENED);
    assert!(manifests.secret.is_none());
    assert_eq!(
        server(&manifests)["env"][0]["valueFrom"]["secretKeyRef"]["name"],
        "my-valkey-secret"
    );
}

#[test]
fn the_custom_example_ends_the_configuration() {
    let conf = &rendered(&CUSTOM).config_map.data.expect("data")["valkey.conf"];
    assert!(
        conf.ends_with("tcp-keepalive 60\nloglevel notice\ndatabases 16\nhz 10\ndynamic-hz yes\n"),
        "{conf}"
    );
}
