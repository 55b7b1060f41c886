//! `--chart` at the command line, and `compare`. The cases include paths without a chart, charts
//! that do not render, and a missing helm.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use needs::needs;

use crate::fixtures::helms::Helm;
use crate::fixtures::{XTASK, finish, text};

fn example() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scenarios/testdata/chart")
}

fn xtask(arguments: &[&str], chart: &Path) -> Command {
    let mut command = Command::new(XTASK);
    command.args(arguments).arg("--chart").arg(chart);
    command
}

/// Runs the test with helm 3 and helm 4, as far as they are installed. At least one must be.
fn with_each_helm(test: impl Fn(&dyn Fn(&[&str], &Path) -> Command)) {
    let helms: Vec<Helm> = [3, 4].into_iter().filter_map(Helm::of).collect();
    assert!(!helms.is_empty(), "this test needs helm on PATH");
    for helm in helms {
        test(&|arguments, chart| {
            let mut command = xtask(arguments, chart);
            let rest = std::env::var_os("PATH").unwrap_or_default();
            let folders = [helm.folder().to_owned()]
                .into_iter()
                .chain(std::env::split_paths(&rest));
            command.env("PATH", std::env::join_paths(folders).expect("folders of PATH"));
            command
        });
    }
}

#[test]
fn without_helm_the_environment_is_at_fault() {
    let (code, said) = finish(xtask(&["e2e"], &example()).env("PATH", "/no/such/folder"));
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("helm is not on PATH") && said.contains("3.14"),
        "{said}"
    );
}

/// Returns a folder with a `helm` that reports this version.
fn helm_that_says(version: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("helm");
    fs::write(&program, format!("#!/bin/sh\necho {version}\n")).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    folder
}

#[test]
fn a_helm_that_is_too_old_is_the_environments_fault() {
    let folder = helm_that_says("v3.13.3");
    for command in ["e2e", "compare"] {
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let (code, said) = finish(xtask(&[command], &example()).env("PATH", path));
        assert_eq!(code, Some(3), "{said}");
        assert!(
            said.contains("is too old: 3.14 or newer is needed") && said.contains("helm v3.13.3 at"),
            "{said}"
        );
    }
}

#[test]
fn what_is_not_a_chart_is_a_usage_error() {
    let empty = tempfile::tempdir().expect("a folder");
    for command in ["e2e", "compare"] {
        // The path is checked before helm, because it is the first thing to correct.
        let (code, said) = finish(xtask(&[command], empty.path()).env("PATH", "/no/such/folder"));
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("is not a chart directory: it has no Chart.yaml"),
            "{said}"
        );
        let (code, said) = finish(&mut xtask(&[command], &empty.path().join("nowhere")));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("there is no such directory"), "{said}");
    }
}

#[needs(helm)]
#[test]
fn values_that_no_trial_has_or_helm_rejects_are_usage_errors() {
    with_each_helm(|xtask| {
        for (set, hint) in [
            ("mode=clustr", "mode to \"clustr\", for which there is no trial"),
            ("a=1,b", "has no value"),
        ] {
            let (code, said) = finish(&mut xtask(&["e2e", "--set", set], &example()));
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(hint), "{said}");
        }
    });
}

#[needs(helm)]
#[test]
fn the_example_chart_renders_what_we_render() {
    with_each_helm(|xtask| {
        let (code, said) = finish(&mut xtask(&["compare", "--exit-code"], &example()));
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(said.matches("no difference").count(), 4, "{said}");
    });
}

#[needs(helm)]
#[test]
fn compare_shows_differences_by_field_and_helms_own_errors() {
    let copy = tempfile::tempdir().expect("a folder");
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: my-valkey-percona-valkey\nspec:\n  type: {{ .Values.service.type }}\n";
    fs::create_dir(copy.path().join("templates")).expect("created");
    fs::copy(example().join("Chart.yaml"), copy.path().join("Chart.yaml")).expect("copied");
    let template = copy.path().join("templates/service.yaml");
    with_each_helm(|xtask| {
        fs::write(&template, service).expect("written");
        let (code, said) = finish(&mut xtask(
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
        let (code, said) = finish(&mut xtask(&["compare"], copy.path()));
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("nil pointer evaluating interface {}.there"),
            "{said}"
        );
    });
}

/// Returns a changed copy of the example chart.
fn changed_copy(change: impl Fn(&Path)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp")
        .args(["-rL", "."])
        .arg(copy.path())
        .current_dir(example())
        .status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "the chart is not copied"
    );
    change(copy.path());
    copy
}

/// Replaces a text that must be there in a file of the chart.
fn replace(chart: &Path, file: &str, from: &str, to: &str) {
    let path = chart.join(file);
    let text = fs::read_to_string(&path).expect("the chart has the file");
    assert!(text.contains(from), "{from:?} is not in {file}");
    fs::write(&path, text.replace(from, to)).expect("written");
}

#[needs(helm)]
#[test]
fn a_refused_chart_is_a_finding_in_the_words_of_the_refusal() {
    let wrong: [(&str, &str, &str, &[&str]); 2] = [
        (
            "templates/pdb.yaml",
            "metadata:",
            "metadata: {{ .Values.nothing.there }}",
            &[
                "helm template failed",
                "pdb.yaml",
                "nil pointer evaluating interface {}.there",
            ],
        ),
        (
            "templates/statefulset.yaml",
            "containerPort: 6379",
            "containerPort: 637900",
            &["StatefulSet", "vk-percona-valkey", "containerPort", "637900"],
        ),
    ];
    let reports = tempfile::tempdir().expect("a folder");
    for (file, from, to, says) in wrong {
        let chart = changed_copy(|chart| replace(chart, file, from, to));
        with_each_helm(|xtask| {
            let selection = ["e2e", "--scenario", "formation::forms::cluster-rpm"];
            let mut command = xtask(&selection, chart.path());
            let (code, said) = finish(command.arg("--report").arg(reports.path().join("run")));
            assert_eq!(code, Some(1), "{said}");
            for words in says {
                assert!(said.contains(words), "{words:?} is missing from\n{said}");
            }
            let again = format!("--chart {}", chart.path().display());
            assert!(said.contains("again: ") && said.contains(&again), "{said}");
        });
    }
}

#[needs(helm)]
#[test]
fn what_a_chart_has_beyond_the_readme_is_told_and_not_judged() {
    let chart = changed_copy(|chart| {
        replace(
            chart,
            "values.yaml",
            "mode: standalone",
            "metrics: {enabled: false}\nmode: standalone",
        );
        let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: vk-policy}\nspec: {podSelector: {}}\n";
        fs::write(chart.join("templates/policy.yaml"), policy).expect("written");
    });
    with_each_helm(|xtask| {
        let (code, said) = finish(&mut xtask(&["compare"], chart.path()));
        assert_eq!(code, Some(0), "{said}");
        let told = said
            .lines()
            .find(|line| line.contains("beyond the README"))
            .unwrap_or_default();
        for name in [
            "objects Job cluster-drain, NetworkPolicy/vk-policy",
            "values metrics",
            "cluster.drainBeforeScaleDown",
        ] {
            assert!(told.contains(name), "{name:?} is missing from {told:?}");
        }
        assert!(
            said.contains("NetworkPolicy/vk-policy\n    (the object)\n      only the chart has it"),
            "{said}"
        );
    });
}

#[needs(helm)]
#[test]
fn an_unsupported_field_is_not_judged_and_a_wrong_one_fails() {
    let reports = tempfile::tempdir().expect("a folder");
    for (field, expected, says) in [
        (
            "runtimeClassName: gvisor",
            3,
            "the chart sets spec.template.spec.runtimeClassName, which this cluster does not support",
        ),
        (
            "hostNetwork: true",
            3,
            "the chart sets spec.template.spec.hostNetwork, which this cluster does not support",
        ),
        ("restartPolicy: Never", 1, "restartPolicy: Unsupported value"),
    ] {
        let chart = changed_copy(|chart| {
            let set = "templates/statefulset.yaml";
            replace(
                chart,
                set,
                "      containers:\n",
                &format!("      {field}\n      containers:\n"),
            );
        });
        with_each_helm(|xtask| {
            let selection = ["e2e", "--scenario", "formation::forms::standalone-rpm"];
            let mut command = xtask(&selection, chart.path());
            let (code, said) = finish(command.arg("--report").arg(reports.path().join("run")));
            assert_eq!(code, Some(expected), "{said}");
            assert!(said.contains(says), "{says:?} is missing from\n{said}");
        });
    }
}

#[needs(helm)]
#[test]
fn an_unserved_kind_is_not_judged_and_an_unknown_one_fails() {
    let selection = ["e2e", "--scenario", "formation::forms::standalone-rpm"];
    let reports = tempfile::tempdir().expect("a folder");
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: own}\nspec: {podSelector: {}}\n";
    for (content, expected, says) in [
        (
            policy.to_owned(),
            3,
            "the chart has NetworkPolicy of networking.k8s.io/v1, which this cluster does not serve",
        ),
        (
            policy
                .replace("networking.k8s.io/v1", "v1")
                .replace("NetworkPolicy", "Servce"),
            1,
            "no matches for kind \"Servce\" in version \"v1\"",
        ),
    ] {
        let chart =
            changed_copy(|chart| fs::write(chart.join("templates/own.yaml"), &content).expect("written"));
        with_each_helm(|xtask| {
            let mut command = xtask(&selection, chart.path());
            let (code, said) = finish(command.arg("--report").arg(reports.path().join("run")));
            assert_eq!(code, Some(expected), "{said}");
            assert!(said.contains(says), "{says:?} is missing from\n{said}");
        });
    }
}

/// The chart fails, has additional parts, and gets two secrets. One is under a key of the README,
/// the other under the chart's own key.
#[needs(helm)]
#[test]
fn the_report_lists_additions_and_repeats_no_secret() {
    let (password, token) = ("first-long-secret", "second-long-secret");
    let chart = changed_copy(|chart| {
        replace(
            chart,
            "values.yaml",
            "mode: standalone",
            "metrics: {enabled: false, token: \"\"}\nmode: standalone",
        );
        let set = "templates/statefulset.yaml";
        let own = "          env:\n            - {name: OWN, value: {{ .Values.metrics.token | quote }}}\n";
        replace(chart, set, "          env:\n", own);
        replace(chart, set, "containerPort: 6379", "containerPort: 637900");
        let own = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\ndata: {token: {{ .Values.metrics.token | quote }}}\n";
        fs::write(chart.join("templates/own.yaml"), own).expect("written");
    });
    with_each_helm(|xtask| {
        let reports = tempfile::tempdir().expect("a folder");
        let set = format!("auth.password={password},metrics.token={token},metrics.enabled=true");
        let selection = ["e2e", "--scenario", "formation::forms::standalone-rpm"];
        let mut command = xtask(&selection, chart.path());
        let (code, said) = finish(
            command
                .args(["--set", &set, "--report"])
                .arg(reports.path().join("run")),
        );
        assert_eq!(code, Some(1), "{said}");
        let shown = "--set 'auth.password=[redacted],metrics.token=[redacted],metrics.enabled=true'";
        assert!(said.contains(shown), "{said}");
        for told in ["objects ConfigMap/own, Job cluster-drain", "values metrics"] {
            assert!(said.contains(told), "{told:?} is missing from\n{said}");
        }
        let mut files = 0;
        for (path, text) in files_below(reports.path()) {
            files += 1;
            for secret in [password, token] {
                assert!(
                    !text.contains(secret) && !said.contains(secret),
                    "{secret} is in {path:?}"
                );
            }
        }
        assert!(files > 8, "there was evidence to search: {files} files");
        let read = |name: &str| {
            fs::read_to_string(reports.path().join("run").join(name)).expect("the run writes it")
        };
        let report: serde_json::Value = serde_json::from_str(&read("report.json")).expect("it is JSON");
        let source = &report["deployment"]["chart"];
        assert_eq!(source["objects_beyond_readme"][0], "ConfigMap/own", "{source}");
        assert!(
            source["helm"].as_str().is_some_and(|helm| helm.starts_with('v')),
            "{source}"
        );
        for page in ["report.html", "summary.md"] {
            let text = read(page);
            assert!(
                text.contains("beyond the README") && text.contains("ConfigMap/own"),
                "{page}"
            );
        }
    });
}

fn files_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).expect("the folder is there").flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files_below(&path),
            path => {
                let content = fs::read(&path).expect("the file is there");
                vec![(path, text(&content))]
            }
        })
        .collect()
}
