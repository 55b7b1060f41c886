//! Copies of the example chart, changed by patches in `testdata`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::release::chart::UserValues;

/// The folder of the example chart and its patches.
pub(super) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Returns the names of the patches in a folder of `testdata`.
pub(super) fn patches(folder: &str) -> Result<Vec<String>> {
    let folder = testdata().join(folder);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    entries
        .map(|entry| {
            let path = entry?.path();
            let name = path.file_stem().context("a file has a name")?;
            Ok(name.to_string_lossy().into_owned())
        })
        .collect()
}

/// Returns a copy of the example chart with patches, each from the first of `folders` that has it.
pub(super) fn copy(folders: &[&str], patches: &[&str]) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir().context("make a folder")?;
    let copied = Command::new("cp")
        .arg("-rL")
        .arg(testdata().join("chart/."))
        .arg(copy.path())
        .status();
    ensure!(copied.context("run cp")?.success(), "the chart is not copied");
    for patch in patches {
        let files = folders
            .iter()
            .map(|folder| testdata().join(folder).join(format!("{patch}.patch")));
        let file = files.into_iter().find(|path| path.is_file());
        let file = file.with_context(|| format!("{patch} is in none of {folders:?}"))?;
        // Another patch may have moved the lines.
        let applied = Command::new("git")
            .args(["apply", "--whitespace=nowarn", "-C1"])
            .arg(&file)
            .current_dir(copy.path())
            .env_remove("GIT_DIR")
            .output()
            .context("run git")?;
        let said = String::from_utf8_lossy(&applied.stderr);
        ensure!(applied.status.success(), "{}: {said}", file.display());
    }
    Ok(copy)
}

/// Writes a values file of the user next to the chart, for `-f`.
pub(super) fn values_file(folder: &Path, text: &str) -> std::io::Result<UserValues> {
    let file = folder.join("values-of-the-user.yaml");
    std::fs::write(&file, text)?;
    Ok(UserValues {
        files: vec![file],
        ..UserValues::default()
    })
}
