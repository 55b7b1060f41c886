//! The file of limits: the allowed violations of each rule. A limit only goes down.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

/// The file, relative to the root of the source tree.
const FILE: &str = ".config/tidy-limits";

/// The first lines of the file.
const HEADER: &str = "\
# Violations of each rule that the tree still has: `cargo xtask tidy` fails above them.
# Limits only go down: `cargo xtask tidy --record` lowers them. A rule without a line allows none.
";

/// Limits by rule. A rule outside of the file allows no violation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Limits(BTreeMap<String, usize>);

impl Limits {
    /// Reads the limits of the tree at `root`; a missing file allows nothing.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    /// Writes the limits to the tree at `root`.
    pub(super) fn write(&self, root: &Path) -> anyhow::Result<()> {
        let path = root.join(FILE);
        std::fs::write(&path, self.to_text()).with_context(|| format!("failed to write {}", path.display()))
    }

    /// Returns the number of violations that a rule allows.
    pub(super) fn of(&self, rule: &str) -> usize {
        self.0.get(rule).copied().unwrap_or(0)
    }

    /// Lowers the limits to these counts of violations. A higher count does not raise its limit.
    pub(super) fn lower<'a>(&mut self, counts: impl IntoIterator<Item = (&'a str, usize)>) {
        for (rule, count) in counts {
            let lower = self.of(rule).min(count);
            self.0.insert(rule.to_owned(), lower);
        }
        self.0.retain(|_, limit| *limit > 0);
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let limit = |line: &str| {
            let (rule, count) = line
                .split_once(' ')
                .with_context(|| format!("{FILE}: {line:?} has no limit"))?;
            let count = count
                .trim()
                .parse()
                .with_context(|| format!("{FILE}: {line:?} has no number"))?;
            Ok((rule.to_owned(), count))
        };
        Ok(Self(lines.map(limit).collect::<anyhow::Result<_>>()?))
    }

    fn to_text(&self) -> String {
        let lines = self.0.iter().map(|(rule, limit)| format!("{rule} {limit}\n"));
        HEADER.to_owned() + &lines.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_go_down_and_never_up() {
        let mut limits = Limits::parse("# comment\nwords 5\ncycles 3\n").expect("two limits");
        limits.lower([("words", 7), ("cycles", 1), ("layers", 2)]);
        assert_eq!(
            (limits.of("words"), limits.of("cycles"), limits.of("layers")),
            (5, 1, 0)
        );
        assert_eq!(Limits::parse(&limits.to_text()).expect("its own text"), limits);
    }

    #[test]
    fn a_line_without_a_number_is_an_error_that_shows_the_line() {
        let error = Limits::parse("words many\n").expect_err("many is no number");
        assert!(error.to_string().contains("words many"), "{error}");
    }
}
