//! Rules about files: their length, and suites that are not registered.

use super::Violation;
use super::tree::Tree;

/// The maximum number of lines in a source file.
const LINES: usize = 300;

/// Finds source files longer than [`LINES`].
pub(super) fn long_files(tree: &Tree) -> Vec<Violation> {
    let lines = tree.rust().map(|file| (file, file.text.lines().count()));
    let long = lines.filter(|(_, count)| *count > LINES);
    long.map(|(file, count)| Violation::new(&file.path, count, format!("{count} lines")))
        .collect()
}

/// Finds suites that the registry does not list.
pub(super) fn unregistered_suites(tree: &Tree) -> Vec<Violation> {
    let sources = || {
        tree.rust()
            .filter(|file| file.path.starts_with("scenarios/") && file.is_program())
    };
    let registry = sources().find(|file| file.text.contains("SUITES: ["));
    let listed = registry.map_or("", |file| file.text.as_str());
    let mut found = Vec::new();
    for file in sources() {
        let suite = file
            .lines_of_program()
            .find(|(_, line)| line.contains("const SUITE: Suite"));
        let Some((line, _)) = suite else { continue };
        let stem = file
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".rs");
        if !listed.contains(&format!("{stem}::SUITE")) {
            found.push(Violation::new(
                &file.path,
                line,
                format!("{stem}::SUITE is in no list of suites"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_with_its_length() {
        let long = "\n".repeat(LINES + 1);
        let enough = "\n".repeat(LINES);
        let found = long_files(&Tree::of(&[
            ("a/src/long.rs", &long),
            ("a/src/enough.rs", &enough),
        ]));
        assert_eq!(found, [Violation::new("a/src/long.rs", LINES + 1, "301 lines")]);
    }

    #[test]
    fn a_suite_that_is_not_in_the_registry_is_found() {
        let registry = (
            "scenarios/src/registry.rs",
            "pub const SUITES: [&Suite; 1] = [&formation::SUITE];",
        );
        let suite = "pub const SUITE: Suite = Suite {};";
        let tree = Tree::of(&[
            registry,
            ("scenarios/src/formation.rs", suite),
            ("scenarios/src/forgotten.rs", suite),
        ]);
        let found = unregistered_suites(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].file, "scenarios/src/forgotten.rs");
    }
}
