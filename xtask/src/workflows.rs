//! The workflows of `.github/` call this program: every call in them must be one that it understands.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde_yaml::Value;

use crate::cli::Arguments;

fn workflows() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows");
    let entries = std::fs::read_dir(folder).expect("the project has workflows");
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a workflow is a readable file");
            (path, text)
        })
        .collect()
}

/// Every job of a workflow, with its name.
fn jobs(text: &str) -> Vec<(String, Value)> {
    let workflow: Value = serde_yaml::from_str(text).expect("a workflow is YAML");
    let jobs = workflow["jobs"]
        .as_mapping()
        .expect("a workflow has jobs")
        .clone();
    jobs.into_iter()
        .map(|(name, job)| (name.as_str().expect("jobs have names").to_owned(), job))
        .collect()
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_sequence().expect("a job has steps")
}

/// The calls of this program in a script: what follows `cargo xtask` or `bin/xtask`, up to the end of the command.
fn calls(script: &str) -> Vec<String> {
    let script = script.replace("\\\n", " ");
    let starts = ["cargo xtask ", "bin/xtask "];
    let lines = script.lines().flat_map(|line| {
        let start = starts
            .iter()
            .filter_map(|start| Some(line.find(start)? + start.len()))
            .min()?;
        let end = line[start..]
            .find([')', '|', ';', '&', '>'])
            .map_or(line.len(), |end| start + end);
        Some(line[start..end].trim().to_owned())
    });
    // `chmod +x bin/xtask` has nothing after it.
    lines.filter(|call| !call.is_empty()).collect()
}

#[test]
fn every_call_of_this_program_is_understood() {
    let arguments = crate::matrix::every_argument();
    let mut count = 0;
    for (path, text) in workflows() {
        for (name, job) in jobs(&text) {
            for script in steps(&job).iter().filter_map(|step| step["run"].as_str()) {
                for call in calls(script) {
                    let filled: Vec<String> = if call.contains("$ARGUMENTS") {
                        arguments
                            .iter()
                            .map(|given| call.replace("$ARGUMENTS", given))
                            .collect()
                    } else {
                        vec![call]
                    };
                    for call in filled {
                        let words = ["xtask"].into_iter().chain(call.split_whitespace());
                        let parsed = Arguments::try_parse_from(words);
                        assert!(
                            parsed.is_ok(),
                            "{} {name}: {call}: {}",
                            path.display(),
                            parsed.unwrap_err()
                        );
                        count += 1;
                    }
                }
            }
        }
    }
    assert!(count > 6, "only {count} calls were found");
}

#[test]
fn actions_are_pinned_by_commit_and_permissions_are_least() {
    for (path, text) in workflows() {
        let workflow: Value = serde_yaml::from_str(&text).expect("a workflow is YAML");
        let at = path.display();
        assert_eq!(workflow["permissions"]["contents"].as_str(), Some("read"), "{at}");
        assert!(workflow["concurrency"]["group"].is_string(), "{at}");
        for (name, job) in jobs(&text) {
            assert!(job["timeout-minutes"].is_number(), "{at} {name} may hang");
            for action in steps(&job).iter().filter_map(|step| step["uses"].as_str()) {
                let commit = action.split_once('@').map_or("", |(_, commit)| commit);
                let pinned = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(pinned, "{at} {name}: {action} is not pinned by commit");
            }
            for step in steps(&job) {
                let run = step["run"].as_str().unwrap_or_default();
                assert!(
                    !run.contains("${{"),
                    "{at} {name}: an expression in a script is an injection: {run}"
                );
                assert!(
                    step["run"].is_string() != step["uses"].is_string(),
                    "{at} {name}: {step:?}"
                );
            }
        }
    }
}

/// Jobs and outputs that a job refers to must be there: GitHub finds that out only when the workflow runs.
#[test]
fn what_a_job_needs_is_there() {
    for (path, text) in workflows() {
        let all = jobs(&text);
        for (name, job) in &all {
            let needs: Vec<&str> = match &job["needs"] {
                Value::String(one) => vec![one],
                Value::Sequence(several) => several.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            for needed in needs {
                assert!(
                    all.iter().any(|(name, _)| name == needed),
                    "{} {name} needs {needed}",
                    path.display()
                );
            }
        }
        for reference in text.split("needs.build.outputs.").skip(1) {
            let output: String = reference
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect();
            let build = all
                .iter()
                .find(|(name, _)| name == "build")
                .expect("outputs are of the job build");
            assert!(
                build.1["outputs"][output.as_str()].is_string(),
                "build has no output {output}"
            );
        }
    }
}

#[test]
fn calls_are_found_in_scripts() {
    let script = "chmod +x bin/xtask\nx=$(cargo xtask matrix --format github \\\n  --shards 4)\nsudo bin/xtask e2e $ARGUMENTS";
    assert_eq!(
        calls(script),
        ["matrix --format github    --shards 4", "e2e $ARGUMENTS"]
    );
}
