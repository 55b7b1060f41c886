//! The list of source files in `docs/architecture.md`, generated from the first sentence of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use super::Violation;
use super::tree::{File, Tree};

/// The page with the list, which is its last part.
const PAGE: &str = "docs/architecture.md";

/// The line before the list.
const MARK: &str = "<!-- files: cargo xtask tidy --record -->";

/// Width of the list's lines.
const WIDTH: usize = 100;

/// Finds files without a purpose, and a list that differs from the files.
pub(super) fn outdated(tree: &Tree) -> Vec<Violation> {
    let Some(page) = tree.files.iter().find(|file| file.path == PAGE) else {
        return Vec::new();
    };
    let silent = sources(tree).filter(|file| purpose(file).is_none());
    let mut found: Vec<Violation> = silent
        .map(|file| Violation::new(&file.path, 1, "does not begin with its purpose"))
        .collect();
    let line = page.text.lines().position(|line| line == MARK);
    match line {
        None => found.push(Violation::new(PAGE, 1, format!("there is no line {MARK}"))),
        Some(line) if with_list(&page.text, &list(tree)) != page.text => {
            found.push(Violation::new(
                PAGE,
                line + 1,
                "the list shows other files or purposes",
            ));
        }
        Some(_) => {}
    }
    found
}

/// Writes the list into the page of the tree at `root`.
pub(super) fn write(tree: &Tree, root: &Path) -> anyhow::Result<()> {
    let Some(page) = tree.files.iter().find(|file| file.path == PAGE) else {
        return Ok(());
    };
    let path = root.join(PAGE);
    std::fs::write(&path, with_list(&page.text, &list(tree)))
        .with_context(|| format!("failed to write {}", path.display()))
}

/// Returns the files of the programs and the scripts that they carry.
fn sources(tree: &Tree) -> impl Iterator<Item = &File> {
    let of_program = |file: &&File| file.is_program() && !file.path.ends_with("tests.rs");
    let script = |file: &&File| file.path.ends_with(".sh");
    tree.files
        .iter()
        .filter(move |file| of_program(file) || script(file))
}

/// Returns the list: one part for each folder of a crate.
fn list(tree: &Tree) -> String {
    let crates: BTreeSet<&str> = tree
        .files
        .iter()
        .filter_map(|file| file.path.strip_suffix("/Cargo.toml"))
        .collect();
    let mut parts: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for file in sources(tree) {
        let inside = |folder: &&&str| {
            file.path
                .strip_prefix(**folder)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let home = crates.iter().filter(inside).max_by_key(|folder| folder.len());
        let (Some(home), Some(purpose)) = (home, purpose(file)) else {
            continue;
        };
        let name = &file.path[home.len() + 1..];
        parts.entry(home).or_default().insert(name, purpose);
    }
    let mut text = String::new();
    for (home, files) in parts {
        text += &format!("\n### `{home}`\n\n");
        for (name, purpose) in files {
            let options = textwrap::Options::new(WIDTH).subsequent_indent("  ");
            text += &textwrap::fill(&format!("- `{name}`: {purpose}"), options);
            text.push('\n');
        }
    }
    text
}

/// Returns the first sentence of the comment at the top of a file.
fn purpose(file: &File) -> Option<String> {
    let mark = if file.is_rust() { "//!" } else { "#" };
    let comment = file
        .text
        .lines()
        .skip_while(|line| line.starts_with("#!"))
        .map_while(|line| line.strip_prefix(mark))
        .map(str::trim)
        .take_while(|line| !line.is_empty() && !line.starts_with(['|', '-', '*', '#']));
    let words = comment.collect::<Vec<_>>().join(" ");
    let sentence = words.split_once(". ").map_or(words.as_str(), |(first, _)| first);
    let plain = sentence.trim_end_matches(['.', ':']).replace(['[', ']'], "");
    (!plain.is_empty()).then_some(plain)
}

/// Returns the page with the list after the mark, instead of everything that was there.
fn with_list(page: &str, list: &str) -> String {
    match page.split_once(&format!("{MARK}\n")) {
        Some((before, _)) => format!("{before}{MARK}\n{list}"),
        None => page.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 5] = [
        ("a/Cargo.toml", "name = \"a\"\n"),
        (
            "a/src/one.rs",
            "//! Finds [`crate::One`] of many\n//! things. It is fast.\n\nfn one() {}\n",
        ),
        ("a/src/one_tests.rs", "use super::*;\n"),
        ("a/b/Cargo.toml", "name = \"b\"\n"),
        (
            "a/b/scripts/two.sh",
            "#!/bin/sh\n# Does two things: one\n#\n# More.\n",
        ),
    ];

    fn tree(page: &str) -> Tree {
        let [a, one, tests, b, two] = FILES;
        Tree::of(&[a, one, tests, b, two, (PAGE, page)])
    }

    #[test]
    fn files_are_listed_by_crate_with_their_first_sentence() {
        let expected = "\n### `a`\n\n- `src/one.rs`: Finds `crate::One` of many things\n\
                        \n### `a/b`\n\n- `scripts/two.sh`: Does two things: one\n";
        assert_eq!(list(&tree("")), expected);
    }

    #[test]
    fn an_old_list_is_found_and_a_written_one_is_not() {
        let old = format!("# Files\n{MARK}\n\n### `z`\n");
        let seen = "the list shows other files or purposes";
        assert_eq!(outdated(&tree(&old)), [Violation::new(PAGE, 2, seen)]);
        let new = with_list(&old, &list(&tree(&old)));
        assert!(new.starts_with("# Files\n") && !new.contains("`z`"), "{new}");
        assert_eq!(outdated(&tree(&new)), []);
    }

    #[test]
    fn a_file_without_a_purpose_and_a_page_without_a_mark_are_found() {
        let tree = Tree::of(&[("a/src/one.rs", "fn one() {}\n"), (PAGE, "# Files\n")]);
        let found: Vec<String> = outdated(&tree)
            .into_iter()
            .map(|violation| violation.file)
            .collect();
        assert_eq!(found, ["a/src/one.rs", PAGE]);
    }
}
