//! `--chart` at the command line: what is not a chart, what does not render, a helm that is missing; and `compare`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

mod support;

use support::{XTASK, is_there, text};

fn example() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios/testdata/chart")
}

/// The exit code, and everything that was printed.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("xtask runs");
    (
        output.status.code(),
        format!("{}{}", text(&output.stdout), text(&output.stderr)),
    )
}

fn xtask(arguments: &[&str], chart: &std::path::Path) -> Command {
    let mut command = Command::new(XTASK);
    command.args(arguments).arg("--chart").arg(chart);
    command
}

#[test]
fn without_helm_the_environment_is_at_fault() {
    let (code, said) = run(xtask(&["e2e"], &example()).env("PATH", "/no/such/folder"));
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("helm is not on PATH") && said.contains("3.14"),
        "{said}"
    );
}

#[test]
fn what_is_not_a_chart_is_a_usage_error() {
    if !is_there("helm", &["version"]) {
        return;
    }
    let empty = tempfile::tempdir().expect("a folder");
    for command in ["e2e", "compare"] {
        let (code, said) = run(&mut xtask(&[command], empty.path()));
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("is not a chart directory: it has no Chart.yaml"),
            "{said}"
        );
        let (code, said) = run(&mut xtask(&[command], &empty.path().join("nowhere")));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("there is no such directory"), "{said}");
    }
    for (set, hint) in [
        ("mode=clustr", "did you mean cluster?"),
        ("a=1,b", "has no value"),
    ] {
        let (code, said) = run(&mut xtask(&["e2e", "--set", set], &example()));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(hint), "{said}");
    }
}

#[test]
fn the_example_chart_renders_what_we_render() {
    if !is_there("helm", &["version"]) {
        return;
    }
    let (code, said) = run(&mut xtask(&["compare", "--exit-code"], &example()));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("no difference").count(), 4, "{said}");
}

#[test]
fn a_chart_that_differs_is_shown_by_object_and_field_and_one_that_does_not_render_in_helms_words() {
    if !is_there("helm", &["version"]) {
        return;
    }
    let copy = tempfile::tempdir().expect("a folder");
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: my-valkey-percona-valkey\nspec:\n  type: {{ .Values.service.type }}\n";
    fs::create_dir(copy.path().join("templates")).expect("created");
    fs::copy(example().join("Chart.yaml"), copy.path().join("Chart.yaml")).expect("copied");
    let template = copy.path().join("templates/service.yaml");
    fs::write(&template, service).expect("written");
    let (code, said) = run(&mut xtask(
        &["compare", "--exit-code", "--set", "service.type=NodePort"],
        copy.path(),
    ));
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "  StatefulSet\n    (the object)\n      only we have it",
        "  Service\n    metadata.labels",
        "    spec.selector\n      + ",
    ] {
        assert!(said.contains(line), "{line:?} is missing from\n{said}");
    }
    assert!(
        !said.contains("spec.type"),
        "both are of the type that was set: {said}"
    );

    fs::write(&template, "{{ .Values.nothing.there }}").expect("written");
    let (code, said) = run(&mut xtask(&["compare"], copy.path()));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("nil pointer evaluating interface {}.there"),
        "{said}"
    );
}
