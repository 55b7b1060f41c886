//! The `helm` program: finds it on PATH, checks its version, and runs it with captured output.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use kube::config::Kubeconfig;
use tokio::process::Command;

use super::error::ChartError;
use super::private_file::PrivateFile;

const PROGRAM: &str = "helm";

/// The oldest version that supports every use of it here.
const OLDEST: (u32, u32) = (3, 14);

/// Marks lines of `helm`'s error output that are about `helm` itself, not about the chart.
const CHATTER: &str = "level=INFO";

/// A `helm` of a supported version, and the cluster that it talks to.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    version: String,
    kubeconfig: Option<Arc<PrivateFile>>,
}

impl Helm {
    /// Finds the program on PATH.
    pub async fn find() -> Result<Self, ChartError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(&path).await
    }

    /// Finds the first program in the folders of `path`.
    pub async fn find_in(path: &OsStr) -> Result<Self, ChartError> {
        let candidates = std::env::split_paths(path).map(|folder| folder.join(PROGRAM));
        let program = candidates
            .into_iter()
            .find(|candidate| is_executable(candidate))
            .ok_or(ChartError::Missing)?;
        let mut helm = Self {
            program,
            version: String::new(),
            kubeconfig: None,
        };
        let mut command = helm.command("version");
        command.arg("--template").arg("{{.Version}}");
        helm.run(command).await?.trim().clone_into(&mut helm.version);
        match parse(&helm.version) {
            Some(version) if version >= OLDEST => Ok(helm),
            _ => Err(ChartError::TooOld {
                program: helm.program,
                found: helm.version,
            }),
        }
    }

    /// Returns the version that the program reports.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns this program for a certain cluster. The kubeconfig is in memory as long as this
    /// value or a clone of it.
    pub fn with_cluster(mut self, kubeconfig: &Kubeconfig) -> Result<Self, ChartError> {
        let text = serde_yaml::to_string(kubeconfig).expect("a kubeconfig is plain YAML");
        self.kubeconfig = Some(Arc::new(PrivateFile::write(&text)?));
        Ok(self)
    }

    /// Returns a command of `helm`. It is killed with the awaiting future, and with this process.
    pub(super) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb);
        // The user's shell settings must not select the cluster that is changed.
        for variable in [
            "KUBECONFIG",
            "HELM_NAMESPACE",
            "HELM_KUBECONTEXT",
            "HELM_KUBEAPISERVER",
            "HELM_KUBETOKEN",
        ] {
            command.env_remove(variable);
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig.path());
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, and returns its output.
    pub(super) async fn run(&self, command: Command) -> Result<String, ChartError> {
        let verb = command.as_std().get_args().next().unwrap_or_default();
        let verb = verb.to_string_lossy().into_owned();
        let output = programs::output(command).await;
        let output = output.map_err(|source| ChartError::Run {
            program: self.program.clone(),
            source,
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        if let Some(signal) = output.status.signal() {
            // `helm` has not judged the chart.
            return Err(ChartError::Run {
                program: self.program.clone(),
                source: std::io::Error::other(format!("helm {verb} was killed by signal {signal}")),
            });
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().filter(|line| !line.starts_with(CHATTER)).collect();
        Err(ChartError::Refused {
            verb,
            said: said.join("\n"),
        })
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Parses the first two numbers of `v4.1.4` or `v3.14.0+g123`.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Returns a folder with a `helm` that reports this version.
    fn helm_that_says(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(PROGRAM);
        std::fs::write(&program, format!("#!/bin/sh\necho {version}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_helm_that_is_missing_or_too_old_is_the_environments_fault() {
        let missing = Helm::find_in(OsStr::new("/no/such/folder")).await.unwrap_err();
        assert!(matches!(missing, ChartError::Missing) && missing.is_environment());
        for old in ["v3.13.3", "v2.17.0", "v3", "unknown"] {
            let folder = helm_that_says(old);
            let error = Helm::find_in(folder.path().as_os_str()).await.unwrap_err();
            assert!(error.is_environment(), "{error}");
            assert!(error.to_string().contains(&format!("helm {old} at")), "{error}");
        }
        for new in ["v3.14.0+g1", "v4.1.4"] {
            let folder = helm_that_says(new);
            assert_eq!(
                Helm::find_in(folder.path().as_os_str()).await.unwrap().version(),
                new
            );
        }
    }
}
