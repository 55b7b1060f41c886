//! The tools that tests need, and where they are looked for.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A tool: its name in `#[needs(…)]`, the test for its presence, and the reason where it is
/// missing.
type Tool = (&'static str, fn() -> bool, &'static str);

/// Every tool that `#[needs(…)]` knows.
pub(crate) const TOOLS: [Tool; 10] = [
    (
        "valkey",
        || on_path(&["valkey-server"]) && on_path(&["valkey-cli"]) || on_path(&["pip", "pip3"]),
        "neither Valkey's programs nor pip, which fetches them, are on PATH",
    ),
    ("kubectl", || on_path(&["kubectl"]), "kubectl is not on PATH"),
    (
        "helm",
        || is_helm(3) || is_helm(4),
        "helm is not on PATH; .ci/install-helm DIR puts it into DIR",
    ),
    (
        "helm3",
        || is_helm(3),
        "helm 3 is not on PATH; .ci/install-helm DIR 3 puts it into DIR",
    ),
    (
        "helm4",
        || is_helm(4),
        "helm 4 is not on PATH; .ci/install-helm DIR 4 puts it into DIR",
    ),
    (
        "chromium",
        || on_path(&["chromium", "google-chrome"]),
        "neither chromium nor google-chrome is on PATH",
    ),
    (
        "docker",
        || runs("docker", &["version", "--format", "{{.Server.Version}}"]),
        "no Docker engine answers",
    ),
    ("root", is_root, "only root may do this"),
    (
        "mounts",
        || runs("unshare", &["--mount", "true"]),
        "this user may not make a mount namespace (unshare --mount)",
    ),
    (
        "user_namespaces",
        || runs("unshare", &["--user", "--map-root-user", "true"]),
        "this user may not make a user namespace (unshare --user)",
    ),
];

/// Returns the reason why the tool of this name is missing, or `None` where it is there.
pub(crate) fn missing(name: &str) -> Result<Option<&'static str>, String> {
    let known = TOOLS.iter().find(|(tool, ..)| *tool == name);
    let Some((_, is_there, reason)) = known else {
        let names = TOOLS.map(|(tool, ..)| tool).join(", ");
        return Err(format!("no tool is called {name}; there are {names}"));
    };
    Ok((!is_there()).then_some(*reason))
}

/// Returns true if one of these programs is on PATH.
fn on_path(programs: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| programs.iter().any(|program| folder.join(program).is_file()))
}

/// Returns true if `helm`, or `helm` with this number in its name, is of this major version.
fn is_helm(major: u32) -> bool {
    let version = format!("v{major}.");
    ["helm".to_owned(), format!("helm{major}")].iter().any(|program| {
        let asked = Command::new(program)
            .args(["version", "--template", "{{.Version}}"])
            .output();
        asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).starts_with(&version))
    })
}

/// Returns true if the command succeeds.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|process| process.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_exist_is_missing() {
        assert!(!on_path(&["no-such-program-anywhere"]));
        assert!(on_path(&["no-such-program-anywhere", "sh"]));
        assert!(!runs("no-such-program-anywhere", &[]));
        assert!(!runs("false", &[]) && runs("true", &[]));
    }

    #[test]
    fn an_unknown_tool_is_an_error_with_the_known_names() {
        let error = missing("hammer").expect_err("there is no hammer");
        assert!(error.contains("hammer") && error.contains("kubectl"), "{error}");
    }
}
