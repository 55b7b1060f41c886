//! The checkout of this project, for developers' commands. Commands for users need none.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit::UsageError;

/// Returns the root of the checkout around the current folder.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let here = std::env::current_dir().context("failed to find the current folder")?;
    Ok(around(&here)?)
}

/// Returns the root of the checkout around a folder.
fn around(folder: &Path) -> Result<PathBuf, UsageError> {
    let is_root =
        |folder: &&Path| folder.join("xtask/Cargo.toml").is_file() && folder.join("Cargo.lock").is_file();
    let found = folder.ancestors().find(is_root).map(Path::to_path_buf);
    found.ok_or_else(|| {
        UsageError(format!(
            "{} is not in a checkout of this project, which this command works on; change to one",
            folder.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_from_inside_and_outside_is_a_usage_error() {
        let root = root().expect("tests run in the checkout");
        assert_eq!(around(&root.join("xtask/src")).expect("inside"), root);
        let outside = tempfile::tempdir().expect("a temporary folder");
        let error = around(outside.path()).expect_err("an empty folder is no checkout");
        assert!(error.to_string().contains("is not in a checkout"), "{error}");
    }
}
