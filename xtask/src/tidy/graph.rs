//! The picture of the crates in `docs/architecture.md`, generated from their manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use super::Violation;
use super::layers::{dependencies, package_name};
use super::tree::Tree;

/// The page with the picture.
const PAGE: &str = "docs/architecture.md";

/// The line before the picture.
const MARK: &str = "<!-- crates: cargo xtask tidy --record -->";

/// Finds a picture that differs from the crates.
pub(super) fn outdated(tree: &Tree) -> Vec<Violation> {
    let Some(page) = tree.files.iter().find(|file| file.path == PAGE) else {
        return Vec::new();
    };
    let Some(line) = page.text.lines().position(|line| line == MARK) else {
        return vec![Violation::new(PAGE, 1, format!("there is no line {MARK}"))];
    };
    let right = with_picture(&page.text, &picture(tree)) == page.text;
    (!right)
        .then(|| Violation::new(PAGE, line + 1, "the picture shows other crates or dependencies"))
        .into_iter()
        .collect()
}

/// Writes the picture into the page of the tree at `root`.
pub(super) fn write(tree: &Tree, root: &Path) -> anyhow::Result<()> {
    let Some(page) = tree.files.iter().find(|file| file.path == PAGE) else {
        return Ok(());
    };
    let path = root.join(PAGE);
    let text = with_picture(&page.text, &picture(tree));
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// Returns the picture in Mermaid's language, without arrows that follow from others.
fn picture(tree: &Tree) -> String {
    let manifests = || tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    let names: BTreeSet<&str> = manifests().filter_map(package_name).collect();
    let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in manifests() {
        let Some(name) = package_name(file) else { continue };
        let inside = dependencies(file, "[dependencies]")
            .into_iter()
            .map(|(_, name)| name);
        below.insert(name, inside.filter(|other| names.contains(other)).collect());
    }
    let mut lines = String::new();
    for (name, direct) in &below {
        let implied = |other: &&str| {
            direct
                .iter()
                .any(|between| between != other && reaches(&below, between, other))
        };
        for other in direct.iter().filter(|other| !implied(other)) {
            lines += &format!("  {name} --> {other}\n");
        }
    }
    format!("```mermaid\ngraph TD\n{lines}```\n")
}

/// Returns true if `from` depends on `to`, directly or not. Cargo has no cycles, so the recursion
/// ends.
fn reaches(below: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
    below
        .get(from)
        .is_some_and(|direct| direct.contains(to) || direct.iter().any(|next| reaches(below, next, to)))
}

/// Returns the page with the picture after the mark, replacing the existing one.
fn with_picture(page: &str, picture: &str) -> String {
    let Some((before, after)) = page.split_once(&format!("{MARK}\n")) else {
        return page.to_owned();
    };
    let rest = match after.trim_start_matches('\n').strip_prefix("```mermaid\n") {
        Some(old) => old.split_once("```\n").map_or("", |(_, rest)| rest),
        None => after,
    };
    format!("{before}{MARK}\n\n{picture}\n{}", rest.trim_start_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES: [(&str, &str); 3] = [
        (
            "a/Cargo.toml",
            "name = \"a\"\n[dependencies]\nb.workspace = true\nc.workspace = true\nserde = \"1\"\n",
        ),
        (
            "b/Cargo.toml",
            "name = \"b\"\n[dependencies]\nc.workspace = true\n[dev-dependencies]\na.workspace = true\n",
        ),
        ("c/Cargo.toml", "name = \"c\"\n"),
    ];

    fn tree(page: &str) -> Tree {
        let [a, b, c] = CRATES;
        Tree::of(&[a, b, c, (PAGE, page)])
    }

    #[test]
    fn the_picture_has_the_direct_dependencies_only() {
        let expected = "```mermaid\ngraph TD\n  a --> b\n  b --> c\n```\n";
        assert_eq!(picture(&tree("")), expected);
    }

    #[test]
    fn an_old_picture_is_found_and_a_written_one_is_not() {
        let old = format!("# Crates\n{MARK}\n\n```mermaid\ngraph TD\n  a --> z\n```\n\nText.\n");
        assert_eq!(
            outdated(&tree(&old)),
            [Violation::new(
                PAGE,
                2,
                "the picture shows other crates or dependencies"
            )]
        );
        let new = with_picture(&old, &picture(&tree(&old)));
        assert!(
            new.contains("a --> b") && !new.contains("a --> z") && new.ends_with("\n\nText.\n"),
            "{new}"
        );
        assert_eq!(outdated(&tree(&new)), []);
    }

    #[test]
    fn a_page_without_a_mark_is_found() {
        assert_eq!(outdated(&tree("# Crates\n")).len(), 1);
    }
}
