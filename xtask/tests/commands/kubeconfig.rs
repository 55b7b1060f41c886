//! A run on an existing cluster through a kubeconfig. Permissions may be missing, and the objects
//! of others are left alone.

use crate::fixtures::cluster::Cluster;
use crate::fixtures::{finish, report_in, run, xtask};

/// Runs `xtask COMMAND` on this cluster, in its context with this suffix.
fn on(cluster: &Cluster, command: &str, context: &str, more: &[&str]) -> (Option<i32>, String) {
    let context = format!("{}{context}", cluster.name);
    let mut xtask = xtask(&[
        command,
        "--cluster",
        "kubeconfig",
        "--context",
        &context,
        "--kubeconfig",
    ]);
    finish(xtask.arg(&cluster.kubeconfig).args(more))
}

#[test]
fn a_run_passes_where_it_says_it_will_take_place() {
    let cluster = Cluster::up("kubeconfig", &[]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    let pattern = "formation::forms::standalone";
    let more = [
        "--scenario",
        pattern,
        "--namespace-prefix",
        "ci-7",
        "--storage-class",
        "standard",
        "--report",
        report,
    ];
    let (code, text) = on(&cluster, "e2e", "", &more);
    assert_eq!(code, Some(0), "{text}");
    let announced = text.find("creates and changes only these 3 namespaces");
    assert!(
        announced.is_some_and(|at| at < text.find("cluster: ").unwrap_or(0)),
        "{text}"
    );
    for expected in [
        "Kubernetes v",
        "https://127.0.0.1:",
        "\n  ci-7-forms-standalone-rpm-",
        "\n  ci-7-client-",
        "\"restricted\"",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing: {text}");
    }
    let report = report_in(folder.path());
    assert_eq!(report["provenance"]["provider"], "kubeconfig");
    let image = &report["provenance"]["images"][0];
    assert_eq!(image["source"], "cluster", "{report}");
    assert!(
        image["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    );
}

#[test]
fn what_a_cluster_lacks_is_skipped_with_the_reason() {
    let cluster = Cluster::up("lacks", &[]);
    let more = [
        "--scenario",
        "forms::standalone-rpm",
        "--storage-class",
        "golden",
        "--report",
    ];
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    let (code, text) = on(&cluster, "e2e", "", &[&more[..], &[report]].concat());
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("there is no storage class \"golden\"; the cluster has: standard"),
        "{text}"
    );
}

#[test]
fn all_missing_permissions_are_told_before_anything_is_touched() {
    let denied = [
        "--deny",
        "create:pods/exec",
        "--deny",
        "*:secrets",
        "--deny",
        "create:namespaces",
    ];
    let cluster = Cluster::up("denied", &denied);
    let (code, text) = on(
        &cluster,
        "e2e",
        "-restricted",
        &["--scenario", "forms::standalone-rpm"],
    );
    assert_eq!(code, Some(3), "{text}");
    for missing in [
        "pods/exec in namespace vk-forms-standalone-rpm-",
        ": create, delete, get, list, patch, watch",
        "namespaces of the cluster: create",
        "nothing was changed",
    ] {
        assert!(text.contains(missing), "{missing:?} is missing: {text}");
    }
}

#[test]
fn a_sweep_removes_what_a_run_left_once_it_is_old_enough() {
    let cluster = Cluster::up("sweep", &[]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let report = folder.path().to_str().expect("a readable path");
    let (code, text) = on(
        &cluster,
        "e2e",
        "",
        &[
            "--scenario",
            "forms::standalone-rpm",
            "--keep",
            "--report",
            report,
        ],
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("delete namespaces -l valkey-e2e/run=e2e-"),
        "{text}"
    );
    // The trial's namespace, and that of its clients.
    for (more, expected) in [
        (&[][..], "2 found, 0 removed, 2 too young"),
        (
            &["--older-than", "0s", "--dry-run"],
            "2 found, 0 removed, 0 too young",
        ),
        (&["--older-than", "0s", "--run", "e2e-other"], "0 found"),
        (&["--older-than", "0s"], "2 found, 2 removed"),
    ] {
        let (code, text) = on(&cluster, "sweep", "", more);
        assert_eq!(code, Some(0), "{more:?}: {text}");
        assert!(
            text.contains(expected),
            "{more:?} does not say {expected:?}: {text}"
        );
    }
}

#[test]
fn a_context_is_never_chosen_by_accident() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("config");
    std::fs::write(
        &file,
        "{contexts: [{name: prod, context: {cluster: c, user: u}}], current-context: prod}",
    )
    .expect("the folder is there");
    let file = file.to_str().expect("a readable path");
    let e2e = |more: &[&str]| run(&[&["e2e"], more].concat());
    for (arguments, hint) in [
        (
            &["--cluster", "kubeconfig", "--kubeconfig", file][..],
            "--context",
        ),
        (&["--context", "prod"], "--context needs --cluster kubeconfig"),
        (
            &[
                "--cluster",
                "kubeconfig",
                "--context",
                "test",
                "--kubeconfig",
                file,
            ],
            "no context \"test\"; it has: prod",
        ),
        (&["--namespace-prefix=-x"], "does not begin with a dash"),
    ] {
        let (code, text) = e2e(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains(hint),
            "{arguments:?} does not mention {hint:?}: {text}"
        );
    }
}

#[test]
fn credentials_that_the_api_server_refuses_are_named() {
    let cluster = Cluster::up("stranger", &[]);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let text = std::fs::read_to_string(&cluster.kubeconfig).expect("cluster up wrote it");
    let of_nobody = text.lines().map(|line| match line.split_once("token:") {
        Some((before, _)) => format!("{before}token: nobody\n"),
        None => format!("{line}\n"),
    });
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, of_nobody.collect::<String>()).expect("the folder is there");
    let mut e2e = xtask(&["e2e", "--cluster", "kubeconfig", "--context", &cluster.name]);
    let (code, text) = finish(
        e2e.arg("--kubeconfig")
            .arg(&file)
            .arg("--report")
            .arg(folder.path()),
    );
    assert_eq!(code, Some(3), "{text}");
    for expected in ["refused the credentials of context", "401", "log in again"] {
        assert!(text.contains(expected), "{expected:?} is missing: {text}");
    }
}

#[test]
fn what_is_on_this_machine_is_not_reached_through_a_proxy() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let behind_a_proxy = |arguments: &[&str], report: &str| {
        let mut command = xtask(arguments);
        for variable in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"] {
            command.env(variable, "http://user:hunter2@127.0.0.1:9");
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy");
        finish(command.arg("--report").arg(folder.path().join(report)))
    };
    let (code, text) = behind_a_proxy(&["e2e", "--scenario", "formation::forms::standalone-rpm"], "a");
    assert_eq!(code, Some(0), "{text}");
    let file = folder.path().join("kubeconfig");
    std::fs::write(
        &file,
        "{clusters: [{name: c, cluster: {server: 'https://api.example.org:6443'}}], users: [{name: u, user: {}}],
          contexts: [{name: far, context: {cluster: c, user: u}}]}",
    )
    .expect("the folder is there");
    let file = file.to_str().expect("a readable path");
    let far = [
        "e2e",
        "--cluster",
        "kubeconfig",
        "--context",
        "far",
        "--kubeconfig",
        file,
    ];
    let (code, text) = behind_a_proxy(&far, "b");
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("needs the proxy http://127.0.0.1:9"), "{text}");
    assert!(text.contains("NO_PROXY") && !text.contains("hunter2"), "{text}");
}
