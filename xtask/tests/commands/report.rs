//! `cargo xtask report`, and runs that cannot finish their report.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use needs::needs;
use serde_json::Value;

use crate::fixtures::{report_in, run, xtask};

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// Returns the report of a real run, which the harness' own tests also use.
fn real() -> Value {
    let text = include_str!("../../../harness/tests/report/broken-run.json");
    serde_json::from_str(text).expect("the report is JSON")
}

fn write(folder: &Path, name: &str, report: &Value) -> String {
    let file = folder.join(name);
    std::fs::write(&file, report.to_string()).expect("written");
    path(&file).to_owned()
}

/// Returns every trial's name and outcome.
fn outcomes(report: &Value) -> Vec<(String, String)> {
    let trials = report["trials"].as_array().expect("trials");
    trials
        .iter()
        .map(|trial| (trial["name"].to_string(), trial["outcome"]["status"].to_string()))
        .collect()
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found_before_the_run() {
    let (code, text) = run(&[
        "e2e",
        "--scenario",
        "formation::forms",
        "--report",
        "/dev/null/report",
    ]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("/dev/null/report") && text.contains("--report"),
        "{text}"
    );
    assert!(
        !text.contains("cluster:"),
        "the cluster was not even started: {text}"
    );
}

#[test]
fn four_shards_of_a_matrix_merge_into_what_the_whole_run_said() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut whole = real();
    whole["catalogue"] = whole["trials"]
        .as_array()
        .expect("trials")
        .iter()
        .map(|trial| trial["name"].clone())
        .collect();
    let combinations = [
        "standalone-rpm",
        "standalone-hardened",
        "cluster-rpm",
        "cluster-hardened",
    ];
    let shards: Vec<String> = combinations
        .iter()
        .map(|combination| {
            let mut shard = whole.clone();
            shard["run"] = (*combination).into();
            let trials = shard["trials"].as_array_mut().expect("trials");
            trials.retain(|trial| {
                trial["name"]
                    .as_str()
                    .is_some_and(|name| name.ends_with(combination))
            });
            assert!(!trials.is_empty(), "{combination} has trials");
            write(folder.path(), &format!("{combination}.json"), &shard)
        })
        .collect();
    let merged = folder.path().join("merged");
    let mut arguments = vec!["report", "merge", "--into", path(&merged)];
    arguments.extend(shards.iter().map(String::as_str));
    let (code, text) = run(&arguments);
    assert_eq!(code, Some(1), "the run was not qualified: {text}");
    let report = report_in(&merged);
    assert_eq!(outcomes(&report), outcomes(&whole));
    assert_eq!(
        (&report["verdict"], &report["because"]),
        (&whole["verdict"], &whole["because"])
    );
    for file in ["report.html", "junit.xml", "summary.md", "release-note.md"] {
        assert!(merged.join(file).is_file(), "{file}");
    }

    let mut other = whole.clone();
    other["deployment"]["commit"] = "0123abc".into();
    let other = write(folder.path(), "other.json", &other);
    let (code, text) = run(&["report", "merge", "--into", path(&merged), &shards[0], &other]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("project commits differ") && text.contains("0123abc"),
        "{text}"
    );
}

#[test]
fn a_difference_names_new_failures_and_only_they_are_an_error() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let after = real();
    let mut before = after.clone();
    before["run"] = "earlier".into();
    let mut healed = String::new();
    for trial in before["trials"].as_array_mut().expect("trials") {
        if trial["outcome"]["status"] == "failed" && healed.is_empty() {
            trial["outcome"] = serde_json::json!({"status": "passed"});
            healed = trial["name"].as_str().expect("a name").to_owned();
        }
    }
    let (before, after) = (
        write(folder.path(), "a.json", &before),
        write(folder.path(), "b.json", &after),
    );
    let (code, text) = run(&["report", "diff", &before, &after]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!("REGRESSION since earlier: {healed}")),
        "{text}"
    );
    let (code, text) = run(&["report", "diff", &after, &before]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("fixed since") && text.contains(&healed), "{text}");
}

#[test]
fn a_report_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let whole = real().to_string();
    let file = folder.path().join("report.json");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("written");
    let (code, text) = run(&["report", "show", path(folder.path())]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("is truncated") && text.contains("report recover"),
        "{text}"
    );
    let mut newer = real();
    newer["schema"] = 99.into();
    std::fs::write(&file, newer.to_string()).expect("written");
    let (code, text) = run(&["report", "show", path(&file)]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("has schema 99"), "{text}");
}

/// Invalid reports, and the expected messages.
const UNREADABLE: [(&str, &str); 3] = [
    ("truncated", "is truncated"),
    ("newer", "has schema 99, and this program reads up to 1"),
    ("other", "is not a report"),
];

/// Writes every kind of [`UNREADABLE`] report into a folder of that name.
fn unreadable(folder: &Path) {
    let whole = real().to_string();
    let mut newer = real();
    newer["schema"] = 99.into();
    newer["verdict"] = "excellent".into();
    let contents = [
        &whole[..whole.len() / 2],
        &newer.to_string(),
        "{\"kind\": \"Pod\"}",
    ]
    .map(str::to_owned);
    for ((name, _), content) in UNREADABLE.iter().zip(contents) {
        std::fs::create_dir(folder.join(name)).expect("made");
        std::fs::write(folder.join(name).join("report.json"), content).expect("written");
    }
}

#[test]
fn every_command_says_what_is_wrong_with_a_report() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    unreadable(folder.path());
    let good = write(folder.path(), "good.json", &real());
    let merged = folder.path().join("merged");
    for (name, said) in UNREADABLE {
        let bad = folder.path().join(name);
        let bad = path(&bad);
        let commands: [&[&str]; 6] = [
            &["report", "show", bad],
            &["report", "open", bad],
            &["report", "diff", bad, &good],
            &["report", "diff", &good, bad],
            &["report", "merge", "--into", path(&merged), &good, bad],
            &["e2e", "--scenario", "formation::forms", "--baseline", bad],
        ];
        for command in commands {
            let (code, text) = run(command);
            assert_eq!(code, Some(2), "{command:?}: {text}");
            assert!(text.contains(said) && text.contains(name), "{command:?}: {text}");
            assert!(!text.contains("panicked"), "{command:?}: {text}");
        }
    }
    assert!(!merged.exists(), "nothing is made of what cannot be read");
    for command in [["show"], ["open"]] {
        let (code, text) = run(&["report", command[0], "/no/such/report.json"]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("/no/such/report.json cannot be accessed"), "{text}");
    }
}

#[test]
fn a_history_leaves_out_what_it_cannot_read_and_says_so() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    unreadable(folder.path());
    let (code, text) = run(&["report", "history", path(folder.path())]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("there is no report in the folders of"), "{text}");
    std::fs::create_dir(folder.path().join("r1")).expect("made");
    write(&folder.path().join("r1"), "report.json", &real());
    let (code, text) = run(&["report", "history", path(folder.path())]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("left out: ").count(), UNREADABLE.len(), "{text}");
    for (name, said) in UNREADABLE {
        assert!(text.contains(said) && text.contains(name), "{text}");
    }
    assert!(text.contains("1 of 1"), "{text}");
}

#[test]
fn what_cannot_be_recovered_is_told_from_what_can() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let recover = |journal: Option<&str>| {
        let file = folder.path().join("journal.jsonl");
        match journal {
            Some(text) => std::fs::write(&file, text).expect("written"),
            None => assert!(!file.exists()),
        }
        run(&["report", "recover", path(folder.path())])
    };
    let mut began = real();
    began["trials"] = Value::Array(Vec::new());
    let trial = real()["trials"][0].clone();
    let name = trial["name"].clone();
    let began =
        serde_json::json!({"entry": "began", "report": began, "selected": [name, "a::b::cluster-rpm"]});
    let trial = serde_json::json!({"entry": "trial", "report": trial});
    for (journal, said) in [
        (None, "journal.jsonl cannot be read"),
        (Some(String::new()), "has no header"),
        (
            Some(format!("{began}\n{{\"entry\": 7}}\n{trial}\n")),
            "line 2 of journal",
        ),
        (
            Some(format!("{began}\n{{\"entry\": \"ended\"}}\n")),
            "has finished",
        ),
    ] {
        let (code, text) = recover(journal.as_deref());
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(said), "{text}");
    }
    let trial = trial.to_string();
    let cut_off = format!("{began}\n{trial}\n{}", &trial[..trial.len() / 2]);
    let (code, text) = recover(Some(&cut_off));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("INCONCLUSIVE: the run was cut off after 1 of 2 trials"),
        "{text}"
    );
    let (code, text) = run(&["report", "show", path(folder.path())]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("INCONCLUSIVE"), "{text}");
}

#[test]
fn a_merged_report_that_cannot_be_written_is_the_machines_fault() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let good = write(folder.path(), "good.json", &real());
    let (code, text) = run(&["report", "merge", "--into", "/dev/null/merged", &good]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("/dev/null/merged/report.json cannot be accessed"),
        "{text}"
    );
}

#[needs(root)]
#[test]
fn a_disk_full_at_the_end_costs_the_report_not_the_verdict() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    // The disk has room for the journal, which is written first, but not for the report.
    let on_a_small_disk = "mount -t tmpfs -o size=32k tmpfs \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", on_a_small_disk, "sh", path(folder.path())])
        .arg(env!("CARGO_BIN_EXE_valkey-e2e"))
        .args(["e2e", "--scenario", "formation::forms::standalone-rpm"])
        .args(["--report", path(folder.path())])
        .output()
        .expect("unshare is part of every Linux");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.concat();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("QUALIFIED: 1 trial passed"), "{text}");
    assert!(
        text.contains("report.json cannot be accessed") && text.contains("No space left"),
        "{text}"
    );
}

#[test]
fn a_report_replaces_the_one_that_its_folder_had() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let scenario = "persistence::data_survives_pod_deletion::standalone-rpm";
    let report = || -> serde_json::Value {
        let (code, text) = run(&["e2e", "--scenario", scenario, "--report", path(folder.path())]);
        assert_eq!(code, Some(0), "{text}");
        let file = std::fs::read(folder.path().join("report.json")).expect("written");
        serde_json::from_slice(&file).expect("JSON")
    };
    let (first, second) = (report(), report());
    assert_ne!(second["run"], first["run"]);
    assert_eq!(second["baseline"]["run"], first["run"], "it is compared with");
}

#[test]
fn a_shown_report_fits_the_terminal_and_pipes_plain_text() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let good = write(folder.path(), "good.json", &real());
    let show = |columns: Option<&str>| {
        let mut command = xtask(&["report", "show", &good]);
        command.env_remove("COLUMNS");
        if let Some(columns) = columns {
            command.env("COLUMNS", columns);
        }
        let output = command.output().expect("the command was just built");
        String::from_utf8(output.stdout).expect("text")
    };
    let whole = show(None);
    assert!(!whole.contains('\u{1b}'), "a pipe has no colours");
    assert!(
        whole.lines().any(|line| line.chars().count() > 120),
        "and no width"
    );
    for columns in [40, 60, 80] {
        let text = show(Some(&columns.to_string()));
        for line in text.lines().filter(|line| line.chars().count() > columns) {
            let words = line.trim_end_matches(" \\").split_whitespace().count();
            assert_eq!(words, 1, "{columns}: {line}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let good = write(folder.path(), "good.json", &real());
    let mut show = xtask(&["report", "show", &good]);
    let mut show = show
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command was just built");
    drop(show.stdout.take());
    let output = show.wait_with_output().expect("a child can be waited for");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "");
}

#[test]
fn many_runs_make_a_history() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for run in ["r1", "r2"] {
        std::fs::create_dir(folder.path().join(run)).expect("made");
        write(&folder.path().join(run), "report.json", &real());
    }
    let (code, text) = run(&["report", "history", path(folder.path())]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 of 2") && text.contains("0 of 2"), "{text}");
    assert!(folder.path().join("history.html").is_file());
}

#[test]
fn a_run_that_was_killed_is_recovered_and_inconclusive() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut command = xtask(&["e2e", "--scenario", "formation::forms", "--jobs", "1", "--report"]);
    let mut run_of_trials = command
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command was just built");
    let stdout = BufReader::new(run_of_trials.stdout.take().expect("standard output is piped"));
    let passed = stdout
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("pass "));
    run_of_trials.kill().expect("it runs");
    run_of_trials.wait().expect("a child can be waited for");
    let passed = passed.expect("a trial finished before the run was killed");
    assert!(!folder.path().join("report.json").exists());

    let (code, text) = run(&["report", "recover", path(folder.path())]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("INCONCLUSIVE: the run was cut off after 1 of 4 trials"),
        "{text}"
    );
    let report = report_in(folder.path());
    assert_eq!(report["verdict"], "inconclusive");
    let recovered = outcomes(&report);
    assert_eq!(recovered.len(), 4);
    let finished: Vec<_> = recovered
        .iter()
        .filter(|(_, status)| status.contains("passed"))
        .collect();
    assert_eq!(finished.len(), 1);
    assert!(
        passed.contains(finished[0].0.trim_matches('"')),
        "{passed}: {finished:?}"
    );
}
