//! The files that the rules read: sources, manifests of crates and Markdown of the source tree.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, bail};

/// A text file of the source tree.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// The path relative to the root, with `/`.
    pub(super) path: String,
    /// The content.
    pub(super) text: String,
}

impl File {
    /// Returns true for Rust files.
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Returns true for Markdown files.
    pub(super) fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// Returns true for code that is in the program, not in a separate test.
    pub(super) fn is_program(&self) -> bool {
        self.is_rust() && self.path.contains("src/") && !self.path.contains("/tests/")
    }

    /// Returns the lines with their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// Returns the lines before the file's unit tests.
    pub(super) fn lines_of_program(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }
}

/// The files, the latest changes first, so that a new violation is printed before old ones.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    /// Every path in the tree, including files that are not text.
    pub(super) paths: Vec<String>,
}

impl Tree {
    /// Reads what git tracks or would track under `root`.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(root)
            .output()
            .context("failed to start git, which lists the files to check")?;
        if !listed.status.success() {
            bail!(
                "git ls-files in {} failed: {}",
                root.display(),
                String::from_utf8_lossy(&listed.stderr)
            );
        }
        let paths = String::from_utf8(listed.stdout).context("a path in the tree is not UTF-8")?;
        let mut paths: Vec<String> = paths
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect();
        paths.retain(|path| root.join(path).exists());
        let mut files: Vec<(SystemTime, File)> = Vec::new();
        for path in paths.iter().filter(|path| is_read(path)) {
            let full = root.join(path);
            let text = std::fs::read_to_string(&full)
                .with_context(|| format!("failed to read {}", full.display()))?;
            let changed = full.metadata().and_then(|metadata| metadata.modified());
            let file = File {
                path: path.clone(),
                text,
            };
            files.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), file));
        }
        files.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.path.cmp(&other.path)));
        let files = files.into_iter().map(|(_, file)| file).collect();
        Ok(Self { files, paths })
    }

    /// Makes a tree of these files, for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        Self {
            files: files.iter().map(file).collect(),
            paths: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
        }
    }

    /// Returns the Rust files.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// Returns the Markdown files.
    pub(super) fn markdown(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_markdown())
    }
}

/// Returns true for files that a rule reads. Test data may break every rule.
fn is_read(path: &str) -> bool {
    let text = [".rs", ".md", "Cargo.toml", ".yml", ".sh"];
    let is_data = path.contains("testdata/") || path.contains("/rendered/") || path.contains("hooks-chart/");
    !is_data && (text.iter().any(|end| path.ends_with(end)) || path.starts_with(".ci/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_tests_are_not_lines_of_the_program() {
        let tree = Tree::of(&[("a/src/b.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}\n")]);
        let lines: Vec<&str> = tree.files[0].lines_of_program().map(|(_, line)| line).collect();
        assert_eq!(lines, ["fn a() {}"]);
    }
}
