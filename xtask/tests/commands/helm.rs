//! A user's session with helm 3 and helm 4 on `cargo xtask cluster up`. It installs, upgrades,
//! rolls back, tests and uninstalls, and checks helm's output. Ignored, with the reason, where that
//! version is missing.

use std::path::Path;

use needs::needs;

use crate::fixtures::cluster::Cluster;
use crate::fixtures::helms::Helm;
use crate::fixtures::text;

/// Probes without delay, so that the session takes seconds.
const FAST: &str = "startupProbe.initialDelaySeconds=0,startupProbe.periodSeconds=1,\
                    readinessProbe.initialDelaySeconds=0,readinessProbe.periodSeconds=1";

/// One version of helm, and its cluster.
struct Session {
    helm: Helm,
    cluster: Cluster,
}

impl Session {
    /// Returns helm's output. Fails the test if helm fails.
    #[track_caller]
    fn helm(&self, arguments: &[&str]) -> String {
        self.cluster.run(self.program().as_str(), arguments)
    }

    /// Returns helm's refusal. Fails the test if helm succeeds.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.cluster.command(self.program().as_str(), arguments).output();
        let output = output.expect("helm runs");
        assert!(
            !output.status.success(),
            "helm {arguments:?}: {}",
            text(&output.stdout)
        );
        text(&output.stderr)
    }

    fn program(&self) -> String {
        self.helm.folder().join("helm").display().to_string()
    }

    /// Returns a field of an object.
    #[track_caller]
    fn field(&self, object: &str, path: &str) -> String {
        let path = format!("jsonpath={{.{path}}}");
        self.cluster.run("kubectl", &["get", object, "-o", &path])
    }

    /// Returns the names of all objects of a kind, one per line.
    #[track_caller]
    fn names(&self, kind: &str) -> String {
        self.cluster.run("kubectl", &["get", kind, "-o", "name"])
    }
}

#[needs(helm3)]
#[test]
fn a_session_with_helm_3() {
    session(3);
}

#[needs(helm4)]
#[test]
fn a_session_with_helm_4() {
    session(4);
}

fn session(major: u32) {
    let helm = Helm::of(major).unwrap_or_else(|| panic!("this test needs helm {major} on PATH"));
    let cluster = Cluster::up(&format!("helm{major}"), &[]);
    let session = Session { helm, cluster };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = |relative: &str| folder.join(relative).display().to_string();
    let (hooks, example) = (
        path("tests/commands/hooks-chart"),
        path("../scenarios/testdata/chart"),
    );
    hooks_run_by_weight_and_go_by_their_policies(&session, &hooks);
    what_others_set_stays_and_what_the_release_sets_comes_back(&session, &hooks, major);
    helm_tells_what_was_done(&session);
    a_hook_that_fails_fails_its_verb(&session, &hooks, major);
    uninstalling_leaves_nothing_but_what_is_kept(&session);
    the_example_chart_goes_forward_and_back(&session, &example, major);
    waiting_ends_with_its_timeout(&session, &example);
}

fn hooks_run_by_weight_and_go_by_their_policies(session: &Session, chart: &str) {
    let installed = session.helm(&["install", "h", chart, "--wait", "--timeout", "60s"]);
    assert!(installed.contains("STATUS: deployed"), "{installed}");
    let created = session.cluster.run(
        "kubectl",
        &[
            "get",
            "events",
            "--sort-by=.metadata.resourceVersion",
            "-o",
            "jsonpath={range .items[?(@.reason==\"SuccessfulCreate\")]}{.involvedObject.name} {end}",
        ],
    );
    assert_eq!(
        created.trim(),
        "h-zeroth h-second h-third",
        "by weight, not by name"
    );
    assert_eq!(
        session.names("jobs").trim(),
        "job.batch/h-third",
        "the others are deleted when they have succeeded, and this one is kept"
    );
}

fn what_others_set_stays_and_what_the_release_sets_comes_back(session: &Session, chart: &str, major: u32) {
    let read = |path: &str| session.field("configmap/h", path);
    let generated = read("data.generated");
    let previewed = session.helm(&["upgrade", "h", chart, "--set", "colour=green", "--dry-run=server"]);
    assert!(
        previewed.contains("colour: green") && previewed.contains(&generated),
        "lookup finds what is there, also in a preview:\n{previewed}"
    );
    assert_eq!(read("data.colour"), "red", "a preview changes nothing");

    session.helm(&["upgrade", "h", chart, "--set", "colour=blue", "--timeout", "60s"]);
    assert_eq!(
        (read("data.colour"), read("data.only")),
        ("blue".to_owned(), String::new()),
        "a key goes with its revision"
    );
    assert_eq!(read("data.generated"), generated, "lookup finds what is there");

    session
        .cluster
        .run("kubectl", &["label", "configmap", "h", "mine=yes"]);
    session.cluster.run(
        "kubectl",
        &["patch", "configmap", "h", "-p", r#"{"data":{"colour":"grey"}}"#],
    );
    let back = ["rollback", "h", "1", "--timeout", "60s"];
    if major == 3 {
        // Helm 3 compares the old manifest, the new one and the live object. Its own fields win.
        session.helm(&back);
    } else {
        // Helm 4 applies on the server, which knows that another manager now owns the field.
        let said = session.refused(&back);
        assert!(
            said.contains("conflict") && said.contains("kubectl-patch"),
            "{said}"
        );
        session.helm(&["rollback", "h", "1", "--timeout", "60s", "--force-conflicts"]);
    }
    assert_eq!(
        (read("data.colour"), read("data.only")),
        ("red".to_owned(), "first".to_owned())
    );
    assert_eq!(
        read("metadata.labels.mine"),
        "yes",
        "what others have added stays"
    );
}

fn helm_tells_what_was_done(session: &Session) {
    let history = session.helm(&["history", "h"]);
    assert!(history.contains("Rollback to 1"), "{history}");
    assert!(history.contains("superseded"), "{history}");
    assert!(session.helm(&["list"]).contains("deployed"));
    assert!(session.helm(&["status", "h"]).contains("STATUS: deployed"));
    assert!(
        session
            .helm(&["get", "values", "h", "--revision", "2"])
            .contains("colour: blue")
    );
    assert!(
        session
            .helm(&["get", "hooks", "h"])
            .contains("helm.sh/hook-weight")
    );
    assert!(session.helm(&["get", "manifest", "h"]).contains("colour: red"));
    let revisions = session
        .helm(&["history", "h", "-o", "json"])
        .matches("\"revision\"")
        .count();
    let secrets = session.cluster.run(
        "kubectl",
        &[
            "get",
            "secrets",
            "--field-selector",
            "type=helm.sh/release.v1",
            "-l",
            "name=h,owner=helm",
            "-o",
            "name",
        ],
    );
    assert_eq!(
        secrets.lines().count(),
        revisions,
        "a Secret holds a revision:\n{secrets}"
    );
}

fn a_hook_that_fails_fails_its_verb(session: &Session, chart: &str, major: u32) {
    let said = session.refused(&["test", "h", "--timeout", "60s"]);
    assert!(said.contains("h-failing"), "{said}");
    let jobs = session.names("jobs");
    assert!(jobs.contains("h-failing"), "what failed is kept: {jobs}");
    // Helm 3 deletes succeeded hooks only if all hooks of the event succeed. Helm 4 also deletes
    // them when a later one fails.
    assert_eq!(jobs.contains("h-passing"), major == 3, "{jobs}");
    let said = session.refused(&["upgrade", "h", chart, "--set", "upgraded=1", "--timeout", "60s"]);
    assert!(said.contains("post-upgrade hooks failed"), "{said}");
    assert!(session.helm(&["status", "h"]).contains("STATUS: failed"));
    let jobs = session.names("jobs");
    assert!(
        !jobs.contains("h-upgraded"),
        "it is deleted because it failed: {jobs}"
    );
}

fn uninstalling_leaves_nothing_but_what_is_kept(session: &Session) {
    session.helm(&["uninstall", "h", "--wait", "--timeout", "60s"]);
    let left = session.names("configmaps");
    assert!(!left.contains("configmap/h\n"), "{left}");
    let jobs = session.names("jobs");
    assert!(jobs.contains("h-farewell"), "hooks belong to no revision: {jobs}");
    assert!(session.refused(&["status", "h"]).contains("not found"));
}

fn the_example_chart_goes_forward_and_back(session: &Session, chart: &str, major: u32) {
    let deploy = |more: &str| {
        let set = format!("{FAST}{more}");
        session.helm(&[
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
    let password = || session.field("secret/vk-percona-valkey", "data.valkey-password");
    deploy("");
    let before = password();
    // Helm 3 reads the log of a test pod only after its deletion on success.
    let logs: &[&str] = if major == 3 { &[] } else { &["--logs"] };
    let tested = session.helm(&[&["test", "vk"], logs].concat());
    assert!(tested.contains("Succeeded"), "{tested}");
    assert_eq!(
        tested.contains("PONG from vk-percona-valkey:6379"),
        major > 3,
        "{tested}"
    );
    // A variable is added in the second revision and removed in the third.
    deploy(",config.maxmemory=64mb");
    session.helm(&["rollback", "vk", "1", "--wait", "--timeout", "60s"]);
    assert_eq!(password(), before, "the generated password is kept");
    let names = session.field(
        "statefulset/vk-percona-valkey",
        "spec.template.spec.containers[0].env[*].name",
    );
    assert_eq!(names, "VALKEY_PASSWORD REDISCLI_AUTH VALKEY_BIND");
    let status = session.helm(&["status", "vk"]);
    assert!(status.contains("REVISION: 3"), "{status}");
    session.helm(&["uninstall", "vk", "--wait", "--timeout", "60s"]);
    let claims = session.cluster.run(
        "kubectl",
        &["get", "pvc", "-l", "app.kubernetes.io/instance=vk", "-o", "name"],
    );
    assert_eq!(
        claims.trim(),
        "persistentvolumeclaim/data-vk-percona-valkey-0",
        "claims stay"
    );
}

fn waiting_ends_with_its_timeout(session: &Session, chart: &str) {
    let said = session.refused(&[
        "install",
        "slow",
        chart,
        "--set",
        "image.tag=that-nobody-has",
        "--wait",
        "--timeout",
        "3s",
    ]);
    assert!(said.contains("deadline exceeded"), "{said}");
    assert!(session.helm(&["list", "--failed"]).contains("slow"));
    session.helm(&["uninstall", "slow", "--wait", "--timeout", "60s"]);
}
