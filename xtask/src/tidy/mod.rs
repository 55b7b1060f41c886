//! `tidy`: rules about the source tree that compilers do not check.
//!
//! | module | rules |
//! |---|---|
//! | [`tree`] | the files that the rules read |
//! | [`prose`] | width of doc lines, banned words, openings of docs, paths of one machine |
//! | [`structure`] | length of files, registered suites |
//! | [`layers`] | dependencies between crates, import cycles inside a crate |
//! | [`graph`] | the picture of the crates |
//! | [`index`] | the list of the source files |
//! | [`guides`] | commands, scenarios and links in Markdown files |
//! | [`limits`] | the allowed violations of each rule |
//!
//! Each rule has a limit in `.config/tidy-limits`, which may only go down. Most limits are zero.

mod graph;
mod guides;
mod index;
mod layers;
mod limits;
mod prose;
mod structure;
mod tree;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use self::limits::Limits;
use self::tree::Tree;
use crate::checkout;
use crate::exit::{NOT_QUALIFIED, QUALIFIED, UsageError};

/// Number of violations to print, unless the rule is selected by name.
const SHOWN: usize = 20;

/// The arguments of `tidy`, as typed.
#[derive(Debug, Args)]
pub(crate) struct TidyArgs {
    /// Check only this rule, and print every violation; may be repeated.
    #[arg(long, value_name = "RULE")]
    rule: Vec<String>,
    /// Lower the limits in .config/tidy-limits to the present violations, and update the picture of
    /// the crates and the list of files; no limit is raised.
    #[arg(long, conflicts_with = "rule")]
    record: bool,
}

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation {
    /// The file, relative to the root of the source tree.
    file: String,
    /// The line, from 1.
    line: usize,
    /// The problem.
    seen: String,
}

impl Violation {
    fn new(file: &str, line: usize, seen: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            seen: seen.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.seen)
    }
}

/// One rule.
struct Rule {
    /// The name in `--rule` and in the file of limits.
    name: &'static str,
    /// The way to mend a violation.
    mend: &'static str,
    /// Finds every violation in the tree.
    check: fn(&Tree) -> Vec<Violation>,
}

/// All rules, in the order of printing.
const RULES: [Rule; 13] = [
    Rule {
        name: "layers",
        mend: "let the upper crate call the lower one, or move the shared code down",
        check: layers::against_the_layers,
    },
    Rule {
        name: "cycles",
        mend: "move what both modules need below them, so that imports point one way",
        check: layers::cycles,
    },
    Rule {
        name: "crate-graph",
        mend: "write the picture: cargo xtask tidy --record",
        check: graph::outdated,
    },
    Rule {
        name: "file-index",
        mend: "begin the file with its purpose, and write the list: cargo xtask tidy --record",
        check: index::outdated,
    },
    Rule {
        name: "suites",
        mend: "add the suite to SUITES, or none of its scenarios runs",
        check: structure::unregistered_suites,
    },
    Rule {
        name: "file-length",
        mend: "split the file by subject; 300 lines are enough for one",
        check: structure::long_files,
    },
    Rule {
        name: "doc-width",
        mend: "wrap the line at 100 columns",
        check: prose::wide_docs,
    },
    Rule {
        name: "doc-opening",
        mend: "start with a verb (functions) or a noun (types), as CONTRIBUTING.md shows",
        check: prose::openings,
    },
    Rule {
        name: "words",
        mend: "use the plain word that CONTRIBUTING.md gives",
        check: prose::banned_words,
    },
    Rule {
        name: "machine-paths",
        mend: "use a path relative to the source tree, or a temporary folder",
        check: prose::machine_paths,
    },
    Rule {
        name: "commands",
        mend: "write the command as `cargo xtask COMMAND --help` has it",
        check: guides::commands,
    },
    Rule {
        name: "scenarios",
        mend: "name a trial that `cargo xtask e2e --list` prints",
        check: guides::scenarios,
    },
    Rule {
        name: "links",
        mend: "link to a file that is in the tree, relative to the page",
        check: guides::links,
    },
];

/// Checks the source tree around the current folder.
pub(crate) fn run(args: &TidyArgs) -> anyhow::Result<ExitCode> {
    let rules = selected(&args.rule)?;
    let root = checkout::root()?;
    let mut tree = Tree::read(&root)?;
    if args.record {
        graph::write(&tree, &root)?;
        tree = Tree::read(&root)?;
        index::write(&tree, &root)?;
        tree = Tree::read(&root)?;
    }
    let mut limits = Limits::read(&root)?;
    let found: Vec<(&Rule, Vec<Violation>)> = rules
        .into_iter()
        .map(|rule| (rule, (rule.check)(&tree)))
        .collect();
    if args.record {
        let counts = found
            .iter()
            .map(|(rule, violations)| (rule.name, violations.len()));
        limits.lower(counts);
        limits.write(&root)?;
    }
    let everything = !args.rule.is_empty();
    let mut broken = 0;
    for (rule, violations) in &found {
        let limit = limits.of(rule.name);
        say(&verdict(rule, violations, limit, everything));
        broken += usize::from(violations.len() > limit);
    }
    if broken == 0 {
        return Ok(ExitCode::from(QUALIFIED));
    }
    say(&format!("tidy: {broken} of {} rules are broken\n", found.len()));
    Ok(ExitCode::from(NOT_QUALIFIED))
}

/// Prints a text. A closed pipe is not an error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Returns the rules with these names, or all.
fn selected(names: &[String]) -> Result<Vec<&'static Rule>, UsageError> {
    if names.is_empty() {
        return Ok(RULES.iter().collect());
    }
    let named = |name: &String| {
        RULES.iter().find(|rule| rule.name == name).ok_or_else(|| {
            let known = RULES.map(|rule| rule.name).join(", ");
            UsageError(format!("no rule is called {name:?}; there are {known}"))
        })
    };
    names.iter().map(named).collect()
}

/// Returns the lines that a rule prints. `everything` also lists violations within the limit.
fn verdict(rule: &Rule, violations: &[Violation], limit: usize, everything: bool) -> String {
    let Rule { name, mend, .. } = rule;
    let count = violations.len();
    let mut text = String::new();
    if count > limit || everything {
        let shown = if everything { count } else { SHOWN };
        for violation in violations.iter().take(shown) {
            text += &format!("{violation}\n    {name}: {mend}\n");
        }
        if count > shown {
            text += &format!("… and {} more: cargo xtask tidy --rule {name}\n", count - shown);
        }
    }
    text + &match count {
        0 if limit == 0 => format!("ok      {name}\n"),
        _ if count > limit => format!("broken  {name}: {count} violations, {limit} allowed\n"),
        _ if count < limit => {
            format!(
                "ok      {name}: {count} of {limit} allowed; lower the limit: cargo xtask tidy --record\n"
            )
        }
        _ => format!("ok      {name}: {count} of {limit} allowed\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_has_file_line_and_remedy() {
        let rule = &RULES[0];
        let violations = [Violation::new("a/src/b.rs", 7, "imports c")];
        let text = verdict(rule, &violations, 0, false);
        assert_eq!(
            text,
            format!(
                "a/src/b.rs:7: imports c\n    layers: {}\nbroken  layers: 1 violations, 0 allowed\n",
                rule.mend
            )
        );
    }

    #[test]
    fn violations_within_the_limit_are_counted_only() {
        let violations = [Violation::new("a/src/b.rs", 7, "imports c")];
        let text = verdict(&RULES[1], &violations, 1, false);
        assert_eq!(text, "ok      cycles: 1 of 1 allowed\n");
        let lower = verdict(&RULES[1], &violations, 2, false);
        assert!(lower.contains("--record"), "{lower}");
    }

    #[test]
    fn an_unknown_rule_is_a_usage_error_with_the_known_names() {
        let error = selected(&["nonsense".to_owned()])
            .err()
            .map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("nonsense") && text.contains("doc-width")));
    }
}
