//! Tests of the workflows of `.github/`. GitHub checks a workflow only when it runs. These tests
//! check its form, and that this program understands every call of it.

use std::collections::BTreeMap;
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

/// Returns every job of a workflow, with its name.
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

/// Returns the calls of this program in a script, without `cargo xtask` or `bin/valkey-e2e`, up to
/// the command's end.
fn calls(script: &str) -> Vec<String> {
    let script = script.replace("\\\n", " ");
    let starts = ["cargo xtask ", "bin/valkey-e2e "];
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
    // `chmod +x bin/valkey-e2e` has nothing after it.
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

/// Checks keys, pins by commit, least permissions and deadlines. Forbids expressions in scripts,
/// which would be injections.
#[test]
fn workflows_are_of_the_syntax_that_github_reads() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/workflow.schema.json");
    let schema = std::fs::read_to_string(schema).expect("the schema is next to this file's crate");
    let schema = serde_json::from_str(&schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    for (path, text) in workflows() {
        let workflow: serde_json::Value = serde_yaml::from_str(&text).expect("a workflow is YAML");
        let wrong: Vec<String> = validator
            .iter_errors(&workflow)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", path.display());
    }
}

/// The version of an action is next to its commit, and each commit always has the same version.
#[test]
fn a_pin_says_which_version_it_is() {
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in workflows() {
        for line in text
            .lines()
            .filter(|line| line.trim_start().trim_start_matches("- ").starts_with("uses:"))
        {
            let (action, version) = line.split_once(" # v").unwrap_or_else(|| {
                panic!("{}: {line} does not say which version it is", path.display());
            });
            let action = action.trim().trim_start_matches("- ").to_owned();
            let known = versions.entry(action).or_insert_with(|| version.to_owned());
            assert_eq!(known, version, "{}: {line}", path.display());
        }
    }
    assert!(versions.len() >= 4, "{versions:?}");
}

/// Jobs and outputs that a job refers to must exist. GitHub finds a missing one only when the
/// workflow runs.
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
        for (name, job) in &all {
            let text = serde_yaml::to_string(job).expect("what was read can be written");
            let at = format!("{} {name}", path.display());
            for output in referred(&text, "needs.build.outputs.") {
                let build = all.iter().find(|(name, _)| name == "build");
                let (_, build) = build.expect("outputs are of the job build");
                assert!(
                    build["outputs"][output.as_str()].is_string(),
                    "{at}: build has no output {output}"
                );
            }
            for step in referred(&text, "steps.") {
                let there = steps(job).iter().any(|known| known["id"].as_str() == Some(&step));
                assert!(there, "{at}: there is no step {step}");
            }
            let keys = crate::matrix::keys();
            for key in referred(&text, "matrix.") {
                // `steps.matrix.outputs` also contains the word.
                assert!(
                    key == "outputs" || keys.contains(&key),
                    "{at}: no job of a matrix has {key}: {keys:?}"
                );
            }
        }
    }
}

/// Returns the names after `prefix` in expressions.
fn referred(text: &str, prefix: &str) -> Vec<String> {
    let name = |rest: &str| -> String {
        rest.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            .collect()
    };
    text.split(prefix).skip(1).map(name).collect()
}

#[test]
fn calls_are_found_in_scripts() {
    let script = "chmod +x bin/valkey-e2e\nx=$(cargo xtask matrix --format github \\\n  --shards 4)\nsudo bin/valkey-e2e e2e $ARGUMENTS";
    assert_eq!(
        calls(script),
        ["matrix --format github    --shards 4", "e2e $ARGUMENTS"]
    );
}
