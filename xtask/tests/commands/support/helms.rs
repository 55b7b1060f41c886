//! The helm programs that tests are run with: one of each major version that is supported, where PATH has it under the
//! name `helm`, `helm3` or `helm4`.

use std::env;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::text;

/// One of them, under the name by which users have it.
pub(crate) struct Helm {
    folder: tempfile::TempDir,
}

impl Helm {
    /// The first one on PATH of this major version; a line says that the test is skipped where there is none.
    pub(crate) fn of(major: u32) -> Option<Self> {
        let names = ["helm".to_owned(), format!("helm{major}")];
        let path = env::var_os("PATH").unwrap_or_default();
        let candidates =
            env::split_paths(&path).flat_map(|folder| names.each_ref().map(|name| folder.join(name)));
        let Some(program) = candidates.into_iter().find(|program| is_of(program, major)) else {
            println!("skipped: helm {major} is not on PATH (.ci/install-helm DIR {major} puts it into DIR)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        symlink(program, folder.path().join("helm")).expect("linked");
        Some(Self { folder })
    }

    /// The folder that has it, and nothing else, as `helm`.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn is_of(program: &Path, major: u32) -> bool {
    let asked = Command::new(program)
        .args(["version", "--template", "{{.Version}}"])
        .output();
    asked.is_ok_and(|answer| text(&answer.stdout).starts_with(&format!("v{major}.")))
}
