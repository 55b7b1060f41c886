//! A person's session with helm on `cargo xtask cluster up`: install, upgrade, rollback, test, uninstall, and what helm
//! tells of them. Skipped, with the reason printed, where helm is missing.

use std::path::Path;

#[path = "support/cluster.rs"]
mod cluster;
mod support;

use cluster::Cluster;
use support::{is_there, text};

/// Probes that begin at once, so that the session takes seconds.
const FAST: &str = "startupProbe.initialDelaySeconds=0,startupProbe.periodSeconds=1,\
                    readinessProbe.initialDelaySeconds=0,readinessProbe.periodSeconds=1";

#[test]
fn a_session_with_helm() {
    if !is_there("helm", &["version"]) {
        return;
    }
    let cluster = Cluster::up("helm");
    charts_hooks_run_in_order_and_go_by_their_policies(&cluster);
    the_example_chart_goes_forward_and_back(&cluster);
}

fn charts_hooks_run_in_order_and_go_by_their_policies(cluster: &Cluster) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hooks-chart");
    let chart = folder.to_str().expect("a path in UTF-8");
    let helm = |arguments: &[&str]| cluster.run("helm", arguments);
    let read = |path: &str| {
        let path = format!("jsonpath={{.{path}}}");
        cluster.run("kubectl", &["get", "configmap", "h", "-o", &path])
    };
    let installed = helm(&["install", "h", chart, "--wait", "--timeout", "60s"]);
    assert!(installed.contains("STATUS: deployed"), "{installed}");
    let events = cluster.run(
        "kubectl",
        &[
            "get",
            "events",
            "-o",
            "jsonpath={range .items[?(@.reason==\"SuccessfulCreate\")]}{.involvedObject.name} {end}",
        ],
    );
    assert!(
        events.starts_with("h-first ") && events.contains("h-second"),
        "{events}"
    );
    let jobs = cluster.run("kubectl", &["get", "jobs", "-o", "name"]);
    assert_eq!(
        jobs.trim(),
        "job.batch/h-second",
        "the first is deleted when it has succeeded, the second is kept"
    );

    let generated = read("data.generated");
    helm(&["upgrade", "h", chart, "--set", "colour=blue", "--timeout", "60s"]);
    assert_eq!(
        (read("data.colour"), read("data.only")),
        ("blue".to_owned(), String::new()),
        "a key goes with its revision"
    );
    assert_eq!(read("data.generated"), generated, "lookup finds what is there");
    // What somebody else has added stays, whatever is deployed.
    cluster.run("kubectl", &["label", "configmap", "h", "mine=yes"]);
    helm(&["rollback", "h", "1", "--timeout", "60s"]);
    assert_eq!(
        (read("data.colour"), read("data.only")),
        ("red".to_owned(), "first".to_owned())
    );
    assert_eq!(read("metadata.labels.mine"), "yes");

    let history = helm(&["history", "h"]);
    assert!(
        history.contains("Rollback to 1") && history.matches("superseded").count() == 2,
        "{history}"
    );
    assert!(helm(&["list"]).contains("deployed"));
    assert!(helm(&["get", "values", "h", "--revision", "2"]).contains("colour: blue"));
    assert!(helm(&["get", "hooks", "h"]).contains("helm.sh/hook-weight"));
    let secrets = cluster.run(
        "kubectl",
        &[
            "get",
            "secrets",
            "--field-selector",
            "type=helm.sh/release.v1",
            "-o",
            "name",
        ],
    );
    assert_eq!(secrets.lines().count(), 3, "{secrets}");

    let tested = cluster
        .command("helm", &["test", "h", "--timeout", "60s"])
        .output()
        .expect("helm runs");
    let said = text(&tested.stderr);
    assert!(!tested.status.success() && said.contains("h-failing"), "{said}");
    helm(&["uninstall", "h", "--wait", "--timeout", "60s"]);
    let left = cluster.run("kubectl", &["get", "configmaps", "-o", "name"]);
    assert!(!left.contains("configmap/h"), "{left}");
    let refused = cluster
        .command("helm", &["status", "h"])
        .output()
        .expect("helm runs");
    assert!(text(&refused.stderr).contains("not found"));
}

fn the_example_chart_goes_forward_and_back(cluster: &Cluster) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/testdata/chart");
    let chart = folder.to_str().expect("a path in UTF-8");
    let helm = |arguments: &[&str]| cluster.run("helm", arguments);
    let deploy = |more: &str| {
        let set = format!("{FAST}{more}");
        helm(&[
            "upgrade",
            "--install",
            "vk",
            chart,
            "--set",
            &set,
            "--wait",
            "--timeout",
            "60s",
        ])
    };
    let password = [
        "get",
        "secret",
        "vk-percona-valkey",
        "-o",
        "jsonpath={.data.valkey-password}",
    ];
    deploy("");
    let before = cluster.run("kubectl", &password);
    let tested = helm(&["test", "vk", "--logs"]);
    assert!(tested.contains("PONG from vk-percona-valkey:6379"), "{tested}");
    // A variable comes with the second revision and goes with the third.
    deploy(",config.maxmemory=64mb");
    helm(&["rollback", "vk", "1", "--wait", "--timeout", "60s"]);
    assert_eq!(
        cluster.run("kubectl", &password),
        before,
        "the generated password is kept"
    );
    let env = "jsonpath={.spec.template.spec.containers[0].env[*].name}";
    let names = cluster.run("kubectl", &["get", "statefulset", "vk-percona-valkey", "-o", env]);
    assert_eq!(names, "VALKEY_PASSWORD REDISCLI_AUTH VALKEY_BIND");
    let status = helm(&["status", "vk"]);
    assert!(status.contains("REVISION: 3"), "{status}");
    helm(&["uninstall", "vk", "--wait", "--timeout", "60s"]);
    let claims = cluster.run(
        "kubectl",
        &["get", "pvc", "-l", "app.kubernetes.io/instance=vk", "-o", "name"],
    );
    assert_eq!(
        claims.trim(),
        "persistentvolumeclaim/data-vk-percona-valkey-0",
        "claims stay"
    );
}
