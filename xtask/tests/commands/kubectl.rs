//! A user's session with kubectl on `cargo xtask cluster up`: typed commands work on real pods.
//!
//! Ignored, with the reason, where kubectl is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use needs::needs;

use crate::fixtures::cluster::Cluster;
use crate::fixtures::{XTASK, text};

const STATEFUL_SET: &str = "statefulset/my-valkey-percona-valkey";
const POD: &str = "my-valkey-percona-valkey-0";
/// The committed rendering with probes without delay, so that the session takes seconds.
const FAST: &str = "startupProbe.initialDelaySeconds=0,startupProbe.periodSeconds=1,\
                    readinessProbe.initialDelaySeconds=0,readinessProbe.periodSeconds=1";

/// Applies a rendering with the given values.
#[track_caller]
fn apply_rendering(cluster: &Cluster, values: &str) {
    let file = cluster.kubeconfig.with_file_name("rendering.yaml");
    let rendering = Command::new(XTASK)
        .args(["manifests", "--set", values])
        .output()
        .expect("xtask runs");
    assert!(rendering.status.success(), "{}", text(&rendering.stderr));
    std::fs::write(&file, rendering.stdout).expect("written");
    cluster.run("kubectl", &["apply", "-f", &file.display().to_string()]);
}

#[needs(kubectl)]
#[test]
fn a_session_with_kubectl() {
    let cluster = Cluster::up("kubectl", &[]);
    let kubectl = |arguments: &[&str]| cluster.run("kubectl", arguments);
    let rendered = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/rendered/standalone-rpm.yaml");
    let watch = cluster
        .command("kubectl", &["get", "pods", "-A", "-w", "--no-headers"])
        .stdout(Stdio::piped())
        .spawn();
    let mut watch = watch.expect("kubectl runs");

    let applied = kubectl(&["apply", "-f", &rendered.display().to_string()]);
    assert!(
        applied.contains("statefulset.apps/my-valkey-percona-valkey created"),
        "{applied}"
    );
    apply_rendering(&cluster, FAST);
    let rolled = kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    assert!(rolled.contains("roll out complete"), "{rolled}");

    assert!(kubectl(&["logs", POD]).contains("Ready to accept connections"));
    assert_eq!(kubectl(&["exec", POD, "--", "valkey-cli", "ping"]).trim(), "PONG");
    let described = kubectl(&["describe", "pod", POD]);
    for expected in [
        "Started container valkey",
        "Successfully assigned",
        "data-my-valkey-percona-valkey-0",
    ] {
        assert!(
            described.contains(expected),
            "describe lacks {expected:?}:\n{described}"
        );
    }

    kubectl(&["scale", STATEFUL_SET, "--replicas=2"]);
    kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    let uid = ["get", "pod", POD, "-o", "jsonpath={.metadata.uid}"];
    let before = kubectl(&uid);
    kubectl(&["rollout", "restart", STATEFUL_SET]);
    kubectl(&["rollout", "status", STATEFUL_SET, "--timeout=60s"]);
    assert_ne!(kubectl(&uid), before, "the restart replaced no pod");

    kubectl(&["delete", STATEFUL_SET, "--timeout=60s"]);
    kubectl(&[
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app.kubernetes.io/component=server",
        "--timeout=60s",
    ]);
    assert!(
        kubectl(&["get", "pvc", "-o", "name"]).contains("data-my-valkey-percona-valkey-1"),
        "claims stay"
    );
    watch.kill().expect("killed");
    let watched = text(&watch.wait_with_output().expect("read").stdout);
    for state in ["Pending", "ContainerCreating", "Running", "Terminating"] {
        assert!(
            watched.contains(state),
            "the watch never showed {state}:\n{watched}"
        );
    }
}

/// A user who looks at objects and changes them, without any pod.
struct Desk {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Desk {
    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.run("kubectl", arguments)
    }

    /// Returns the exit code and the whole output.
    fn attempt(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.attempt_with(arguments, &[])
    }

    fn attempt_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = self.cluster.command("kubectl", arguments);
        let output = command
            .envs(environment.iter().copied())
            .output()
            .expect("kubectl runs");
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        (output.status.code(), said)
    }

    #[track_caller]
    fn colour(&self) -> String {
        self.kubectl(&["get", "configmap", "desk", "-o", "jsonpath={.data.colour}"])
    }

    /// Writes a file with a ConfigMap of this colour, and returns its path.
    fn manifest(&self, colour: &str) -> String {
        let object = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: desk}}\ndata: {{colour: {colour}}}\n"
        );
        self.file(&format!("{colour}.yaml"), &object)
            .display()
            .to_string()
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }
}

#[needs(kubectl)]
#[test]
fn objects_are_looked_at_and_changed_with_kubectl() {
    let desk = Desk {
        cluster: Cluster::up("desk", &["--deny", "delete:configmaps"]),
        folder: tempfile::tempdir().expect("a folder"),
    };
    previews_change_nothing(&desk);
    patches_of_every_type_are_taken(&desk);
    annotations_and_labels_come_and_go(&desk);
    an_editor_changes_what_it_writes(&desk);
    server_side_apply_keeps_who_set_what(&desk);
    permissions_are_told(&desk);
    tables_and_explanations_are_the_servers(&desk);
}

fn previews_change_nothing(desk: &Desk) {
    let (red, blue) = (desk.manifest("red"), desk.manifest("blue"));
    let created = desk.kubectl(&["apply", "-f", &red, "--dry-run=server"]);
    assert!(created.contains("created (server dry run)"), "{created}");
    let (code, said) = desk.attempt(&["get", "configmap", "desk"]);
    assert!(code == Some(1) && said.contains("NotFound"), "{said}");
    desk.kubectl(&["apply", "-f", &red]);
    assert_eq!(desk.attempt(&["diff", "-f", &red]), (Some(0), String::new()));
    let (code, said) = desk.attempt(&["diff", "-f", &blue]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("-  colour: red\n+  colour: blue"), "{said}");
    desk.kubectl(&["apply", "-f", &blue, "--dry-run=server"]);
    desk.kubectl(&["delete", "configmap", "desk", "--dry-run=server"]);
    assert_eq!(desk.colour(), "red");
}

fn patches_of_every_type_are_taken(desk: &Desk) {
    for (kind, patch, colour) in [
        ("strategic", r#"{"data":{"colour":"green"}}"#, "green"),
        ("merge", r#"{"data":{"colour":"grey"}}"#, "grey"),
        (
            "json",
            r#"[{"op":"test","path":"/data/colour","value":"grey"},{"op":"replace","path":"/data/colour","value":"gold"}]"#,
            "gold",
        ),
    ] {
        desk.kubectl(&["patch", "configmap", "desk", "--type", kind, "-p", patch]);
        assert_eq!(desk.colour(), colour, "{kind}");
    }
    let stale = r#"[{"op":"test","path":"/data/colour","value":"grey"}]"#;
    let (code, said) = desk.attempt(&["patch", "configmap", "desk", "--type", "json", "-p", stale]);
    assert!(code == Some(1) && said.contains("/data/colour"), "{said}");
}

fn annotations_and_labels_come_and_go(desk: &Desk) {
    for (verb, field) in [("annotate", "annotations"), ("label", "labels")] {
        let path = format!("jsonpath={{.metadata.{field}.mine}}");
        let mine = || desk.kubectl(&["get", "configmap", "desk", "-o", &path]);
        desk.kubectl(&[verb, "configmap", "desk", "mine=once"]);
        let (code, said) = desk.attempt(&[verb, "configmap", "desk", "mine=twice"]);
        assert!(code == Some(1) && said.contains("--overwrite"), "{said}");
        desk.kubectl(&[verb, "configmap", "desk", "mine=twice", "--overwrite"]);
        assert_eq!(mine(), "twice");
        desk.kubectl(&[verb, "configmap", "desk", "mine-"]);
        assert_eq!(mine(), "");
    }
    let (code, said) = desk.attempt(&["label", "configmap", "desk", "mine=not/a/value"]);
    assert!(code == Some(1) && said.contains("not/a/value"), "{said}");
}

fn an_editor_changes_what_it_writes(desk: &Desk) {
    let editor = |script: &str| {
        let path = desk.file("editor", &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path.display().to_string()
    };
    let edit = ["edit", "configmap", "desk"];
    let program = editor("sed -i 's/colour: gold/colour: white/' \"$1\"");
    let (code, said) = desk.attempt_with(&edit, &[("KUBE_EDITOR", &program)]);
    assert!(
        code == Some(0) && said.contains("configmap/desk edited"),
        "{said}"
    );
    assert_eq!(desk.colour(), "white");
    let program = editor("true");
    let (_, said) = desk.attempt_with(&edit, &[("KUBE_EDITOR", &program)]);
    assert!(said.contains("no changes made"), "{said}");
    // kubectl reopens a refused edit with the reason, and gives up when it is saved unchanged.
    let labelled = r"s/^  name: desk/  name: desk\n  labels: {a: not\/a\/value}/";
    let seen = desk.folder.path().join("seen");
    let program = editor(&format!(
        "cat \"$1\" >> {}; grep -q labels: \"$1\" || sed -i '{labelled}' \"$1\"",
        seen.display()
    ));
    let folder = desk.folder.path().display().to_string();
    let (code, said) = desk.attempt_with(&edit, &[("KUBE_EDITOR", &program), ("TMPDIR", &folder)]);
    assert!(
        code == Some(1) && said.contains("configmaps \"desk\" is invalid"),
        "{said}"
    );
    let seen = fs::read_to_string(seen).expect("the editor was opened");
    assert!(
        seen.contains("metadata.labels") && seen.contains("not/a/value"),
        "{seen}"
    );
}

fn server_side_apply_keeps_who_set_what(desk: &Desk) {
    desk.kubectl(&["delete", "configmap", "desk"]);
    let (red, blue) = (desk.manifest("red"), desk.manifest("blue"));
    let apply = |file: &str, manager: &str, more: &[&str]| {
        let own = ["apply", "--server-side", "-f", file, "--field-manager", manager];
        desk.attempt(&own.iter().chain(more).copied().collect::<Vec<_>>())
    };
    assert_eq!(apply(&red, "first", &[]).0, Some(0));
    let (code, said) = apply(&blue, "second", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("conflict with \"first\"") && said.contains(".data.colour"),
        "{said}"
    );
    assert_eq!(desk.colour(), "red");
    // Two managers may agree on a value.
    assert_eq!(apply(&red, "second", &[]).0, Some(0));
    assert_eq!(apply(&blue, "second", &["--force-conflicts"]).0, Some(0));
    assert_eq!(desk.colour(), "blue");
    let managers =
        "jsonpath={range .metadata.managedFields[*]}{.manager} {.operation} {.fieldsV1}{\"\\n\"}{end}";
    let fields = desk.kubectl(&[
        "get",
        "configmap",
        "desk",
        "--show-managed-fields",
        "-o",
        managers,
    ]);
    let owner = fields
        .lines()
        .find(|line| line.contains("f:colour"))
        .unwrap_or_default();
    assert!(owner.starts_with("second Apply"), "{fields}");
}

fn permissions_are_told(desk: &Desk) {
    assert_eq!(
        desk.kubectl(&["auth", "can-i", "delete", "configmaps"]).trim(),
        "yes"
    );
    let contexts = desk.kubectl(&["config", "get-contexts", "-o", "name"]);
    let restricted = contexts.lines().find(|context| context.ends_with("-restricted"));
    let restricted = restricted.expect("a second user was asked for");
    let (code, said) = desk.attempt(&["auth", "can-i", "delete", "configmaps", "--context", restricted]);
    assert!(code == Some(1) && said.trim() == "no", "{said}");
    let (code, said) = desk.attempt(&["delete", "configmap", "desk", "--context", restricted]);
    assert!(code == Some(1) && said.contains("forbidden: User"), "{said}");
    assert_eq!(
        desk.kubectl(&["auth", "can-i", "create", "pods", "--context", restricted])
            .trim(),
        "yes"
    );
}

fn tables_and_explanations_are_the_servers(desk: &Desk) {
    let table = desk.kubectl(&["get", "configmaps,services", "-A", "--show-labels"]);
    for heading in [
        "NAMESPACE",
        "NAME",
        "DATA",
        "AGE",
        "LABELS",
        "TYPE",
        "CLUSTER-IP",
        "EXTERNAL-IP",
        "PORT(S)",
    ] {
        assert!(table.contains(heading), "{heading} is missing from\n{table}");
    }
    let sorted = desk.kubectl(&["get", "namespaces", "--sort-by=.metadata.name", "--no-headers"]);
    assert!(
        sorted.starts_with("default ") && sorted.contains("Active"),
        "{sorted}"
    );
    let explained = desk.kubectl(&[
        "explain",
        "statefulset.spec.updateStrategy.rollingUpdate.partition",
    ]);
    assert!(
        explained.contains("KIND:       StatefulSet") && explained.contains("partition <integer>"),
        "{explained}"
    );
    let resources = desk.kubectl(&["api-resources", "--no-headers"]);
    assert!(
        resources.contains("poddisruptionbudgets") && resources.contains("policy/v1"),
        "{resources}"
    );
}
