//! Rules about Markdown: commands parse, scenarios exist, links lead somewhere.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use clap::Parser as _;
use clap::error::ErrorKind;
use regex::Regex;

use super::Violation;
use super::tree::{File, Tree};
use crate::cli::Arguments;

/// The start of a command of this program.
const PROGRAMS: [&str; 2] = ["cargo xtask ", "valkey-e2e "];

/// Placeholders that are not for words in capitals, with an example value.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("I/N", "1/2"),
    ("N", "2"),
    ("vX.Y", "v1.36"),
    ("vX.Y.Z", "v1.36.1"),
];

static INLINE: LazyLock<Regex> = LazyLock::new(|| Regex::new("`([^`]+)`").expect("inline code is a pattern"));

static TRIAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z_]+::[a-z_0-9]+(::(standalone|cluster)-(rpm|hardened))?$")
        .expect("a trial's name is a pattern")
});

static REGISTERED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"scenario!\((\w+)").expect("a registration is a pattern"));

static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\]\(([^)\s]+)\)").expect("a link is a pattern"));

/// Finds commands that this program does not understand.
pub(super) fn commands(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.markdown() {
        for (line, command) in calls(file) {
            let words = command.split_whitespace().map(fill);
            if let Err(error) = Arguments::try_parse_from(std::iter::once("xtask").chain(words))
                && !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
            {
                let text = error.to_string();
                let reason = text
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("error: ");
                found.push(Violation::new(&file.path, line, format!("{command:?}: {reason}")));
            }
        }
    }
    found
}

/// Finds trial names, and patterns of `--scenario`, without a matching trial.
pub(super) fn scenarios(tree: &Tree) -> Vec<Violation> {
    let trials = scenarios::registry::trials();
    let names: Vec<String> = trials.iter().map(|trial| trial.id.to_string()).collect();
    let suites: BTreeSet<&str> = trials.iter().map(|trial| trial.id.suite).collect();
    let exists = |pattern: &str| names.iter().any(|name| name.contains(pattern));
    let mut found = Vec::new();
    for file in tree.markdown() {
        for (line, command) in calls(file) {
            for pattern in patterns(&command).filter(|pattern| !is_placeholder(pattern) && !exists(pattern)) {
                found.push(Violation::new(
                    &file.path,
                    line,
                    format!("no trial contains {pattern:?}"),
                ));
            }
        }
        for (line, text) in file.lines() {
            let registered = REGISTERED.captures_iter(text).map(|code| code[1].to_owned());
            for name in registered.filter(|name| !exists(&format!("::{name}::"))) {
                found.push(Violation::new(
                    &file.path,
                    line,
                    format!("no suite has a scenario {name}"),
                ));
            }
            for name in INLINE.captures_iter(text).map(|code| code[1].to_owned()) {
                let suite = name.split("::").next().unwrap_or_default();
                if TRIAL.is_match(&name) && suites.contains(suite) && !exists(&name) {
                    found.push(Violation::new(
                        &file.path,
                        line,
                        format!("there is no trial {name}"),
                    ));
                }
            }
        }
    }
    found
}

/// Finds links to files that are not in the tree.
pub(super) fn links(tree: &Tree) -> Vec<Violation> {
    let exists = |path: &str| {
        let inside = format!("{path}/");
        tree.paths
            .iter()
            .any(|known| known == path || known.starts_with(&inside))
    };
    let mut found = Vec::new();
    for file in tree.markdown() {
        for (line, text) in file.lines() {
            for link in LINK.captures_iter(text).map(|link| link[1].to_owned()) {
                let target = link.split('#').next().unwrap_or_default();
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let path = resolve(&file.path, target);
                if !exists(&path) {
                    found.push(Violation::new(
                        &file.path,
                        line,
                        format!("{path} is not in the tree"),
                    ));
                }
            }
        }
    }
    found
}

/// Returns the calls of this program in code blocks and inline code, without the program's name.
fn calls(file: &File) -> Vec<(usize, String)> {
    let mut block = false;
    let mut found = Vec::new();
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            found.extend(call(line).map(|call| (number, call)));
        } else {
            let inline = INLINE.captures_iter(line).filter_map(|code| call(&code[1]));
            found.extend(inline.map(|call| (number, call)));
        }
    }
    found
}

/// Returns the arguments of a command line of this program, up to a comment or the command's end.
fn call(line: &str) -> Option<String> {
    let line = line
        .trim_start()
        .trim_start_matches("$ ")
        .trim_start_matches("sudo ");
    let words = PROGRAMS.iter().find_map(|program| line.strip_prefix(program))?;
    let end = [" #", " |", " &&", " >", ")", ";"]
        .iter()
        .filter_map(|end| words.find(end))
        .min();
    let words = words[..end.unwrap_or(words.len())]
        .trim()
        .trim_end_matches('…')
        .trim();
    (!words.is_empty() && words != "COMMAND --help" && words != "COMMAND").then(|| words.to_owned())
}

/// Returns the values of `--scenario`.
fn patterns(command: &str) -> impl Iterator<Item = &str> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let pairs: Vec<&str> = words
        .windows(2)
        .filter(|pair| pair[0] == "--scenario")
        .map(|pair| pair[1])
        .collect();
    pairs.into_iter()
}

fn is_placeholder(word: &str) -> bool {
    word.chars()
        .all(|character| character.is_uppercase() || "_-…".contains(character))
}

fn fill(word: &str) -> &str {
    let word = word.trim_end_matches('…');
    let example = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == word);
    example.map_or(word, |(_, example)| example)
}

/// Returns the path, relative to the root, of a link on a page.
fn resolve(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(found: &[Violation]) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_command_that_does_not_parse_is_found_in_blocks_and_inline() {
        let text = "Run `cargo xtask e2e --mode clustr` or:\n```console\n$ cargo xtask doktor # comment\n\
                    cargo xtask e2e --shard I/N\n```\n`cargo xtask e2e --help` is fine.\n";
        let found = seen(&commands(&Tree::of(&[("docs/a.md", text)])));
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0].starts_with("docs/a.md:1: \"e2e --mode clustr\": invalid value"),
            "{found:#?}"
        );
        assert!(
            found[1].starts_with("docs/a.md:3: \"doktor\": unrecognized subcommand"),
            "{found:#?}"
        );
    }

    #[test]
    fn output_of_a_program_is_no_command() {
        let text = "```text\nagain: cargo xtask nonsense\nQUALIFIED\n```\n";
        assert_eq!(commands(&Tree::of(&[("README.md", text)])), []);
    }

    #[test]
    fn a_scenario_that_does_not_exist_is_found() {
        let text = "`cargo xtask e2e --scenario formation::forms`, `cargo xtask e2e --scenario no_such_story`,\n\
                    `formation::no_such_story` and `std::mem`; `cargo xtask e2e --scenario PATTERN`\n\
                    ```rust\nscenario!(forms, everywhere), scenario!(pod_restart, everywhere)\n```\n";
        let found = seen(&scenarios(&Tree::of(&[("README.md", text)])));
        assert_eq!(
            found,
            [
                "README.md:1: no trial contains \"no_such_story\"",
                "README.md:2: there is no trial formation::no_such_story",
                "README.md:4: no suite has a scenario pod_restart",
            ]
        );
    }

    #[test]
    fn a_link_to_nothing_is_found_relative_to_its_page() {
        let tree = Tree::of(&[
            (
                "docs/a.md",
                "[b](b.md#part) [up](../README.md) [folder](../docs/) [gone](gone.md) [out](https://x.org/y)\n",
            ),
            ("docs/b.md", ""),
            ("README.md", ""),
        ]);
        assert_eq!(
            seen(&links(&tree)),
            ["docs/a.md:1: docs/gone.md is not in the tree"]
        );
    }
}
