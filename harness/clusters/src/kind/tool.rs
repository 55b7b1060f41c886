//! The programs `kind` and `docker`: how they are run, and what their failures mean.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::versions::{KubeVersion, NEEDS_CGROUP_V2};

/// The oldest supported `kind`: it loads OCI archives and supports containerd 2.
const OLDEST: (u32, u32) = (0, 24);

/// Reasons why there is no kind cluster. Each is the machine's fault, and its message names the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// A program is missing.
    #[error("{program} is not on PATH; {remedy}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// Docker is installed, but its daemon does not answer.
    #[error("the Docker daemon does not answer (is it running, and may this user use it?): {said}")]
    NoDaemon {
        /// Docker's message.
        said: String,
    },
    /// An old kind.
    #[error("{found} is too old: kind v{}.{} or newer is needed (https://kind.sigs.k8s.io)", OLDEST.0, OLDEST.1)]
    TooOld {
        /// The version that the program reports.
        found: String,
    },
    /// The machine is too old for the version.
    #[error(
        "this machine has cgroup v1, and the kubelet of Kubernetes {version} refuses to run on it: use --kube-version \
         v1.{}, or boot with systemd.unified_cgroup_hierarchy=1", NEEDS_CGROUP_V2 - 1
    )]
    CgroupV1 {
        /// The version that was asked for.
        version: KubeVersion,
    },
    /// The disk of the engine is full.
    #[error("the disk is full: `docker system df` shows its use, `docker system prune` frees space: {said}")]
    DiskFull {
        /// The program's message.
        said: String,
    },
    /// A cluster of that name is there.
    #[error(
        "a kind cluster named {name} exists already, perhaps from a run that was killed: use it with `--reuse {name}`, or \
         remove it with `kind delete cluster --name {name}`"
    )]
    Exists {
        /// The name.
        name: String,
    },
    /// The cluster that is to be used again is not there.
    #[error("there is no kind cluster named {name}; there are: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    Absent {
        /// The name.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// The node image is not available.
    #[error("the node image is not available{}: {said}", image.as_ref().map(|image| format!(" ({image})")).unwrap_or_default())]
    NodeImage {
        /// The image, if it was chosen.
        image: Option<String>,
        /// The program's message.
        said: String,
    },
    /// Something else.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// The command.
        command: String,
        /// The way in which it ended.
        status: String,
        /// The end of what it wrote.
        said: String,
    },
    /// A file could not be read or written.
    #[error("{} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl KindError {
    /// Returns the command that mends the failure, where there is one.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Missing {
                program: "docker", ..
            } => "sudo apt-get install docker.io",
            Self::NoDaemon { .. } => {
                "sudo systemctl start docker && sudo usermod --append --groups docker \"$USER\""
            }
            Self::DiskFull { .. } => "docker system prune",
            Self::Exists { .. } => "cargo xtask sweep --cluster kind",
            _ => "go install sigs.k8s.io/kind@latest",
        }
    }
}

/// Runs the programs `kind` and `docker`.
#[derive(Debug, Clone, Default)]
pub struct Tools;

impl Tools {
    /// Checks that both programs exist, are new enough and work. Returns the version of kind.
    ///
    /// # Errors
    /// When a program is missing or unusable. Docker is checked first.
    pub async fn check(&self) -> Result<String, KindError> {
        let docker = self
            .output("docker", &["version", "--format", "{{.Server.Version}}"])
            .await?;
        if !docker.status.success() {
            return Err(KindError::NoDaemon { said: said(&docker) });
        }
        let version = self.run("kind", &["version"]).await?.trim().to_owned();
        if parse_version(&version).is_none_or(|version| version < OLDEST) {
            return Err(KindError::TooOld { found: version });
        }
        Ok(version)
    }

    /// Checks that the engine's machine can run `version`.
    ///
    /// # Errors
    /// When it cannot; the error says why.
    pub async fn check_version(&self, version: &KubeVersion) -> Result<(), KindError> {
        let cgroup = self.run("docker", &["info", "--format", "{{.CgroupVersion}}"]);
        if version.needs_cgroup_v2() && cgroup.await?.trim() == "1" {
            return Err(KindError::CgroupV1 {
                version: version.clone(),
            });
        }
        Ok(())
    }

    /// Lists the names of all kind clusters.
    ///
    /// # Errors
    /// When kind cannot list them.
    pub async fn clusters(&self) -> Result<Vec<String>, KindError> {
        // "No kind clusters found." goes to standard error.
        let listed = self.run("kind", &["get", "clusters"]).await?;
        Ok(listed
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect())
    }

    /// Runs a program to its end, and returns what it printed.
    ///
    /// # Errors
    /// When the program fails; the error is the meaning of its output.
    pub async fn run(&self, program: &'static str, arguments: &[&str]) -> Result<String, KindError> {
        let output = self.output(program, arguments).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(meaning(program, arguments, &output))
    }

    /// Returns a guard that removes the cluster `name` and its kubeconfig unless discarded.
    pub(super) fn net(&self, name: &str, kubeconfig: &Path) -> Net {
        Net {
            kind: "kind".into(),
            name: name.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            armed: true,
        }
    }

    async fn output(&self, program: &'static str, arguments: &[&str]) -> Result<Output, KindError> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        programs::output(command)
            .await
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => missing(program),
                _ => KindError::File {
                    path: program.into(),
                    source,
                },
            })
    }
}

/// Removes a cluster when dropped, at any stage of its creation. A failed `kind create` removes its
/// remains; a killed one does not.
#[derive(Debug)]
pub(super) struct Net {
    kind: PathBuf,
    name: String,
    kubeconfig: PathBuf,
    armed: bool,
}

impl Net {
    /// Disarms the guard: something else now removes the cluster.
    pub(super) fn discard(mut self) {
        self.armed = false;
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // The original error matters more than a failed removal, and `sweep` finds the rest.
        let mut delete = std::process::Command::new(&self.kind);
        delete.args(["delete", "cluster", "--name", &self.name, "--kubeconfig"]);
        let _ = delete.arg(&self.kubeconfig).stdin(Stdio::null()).output();
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

fn missing(program: &'static str) -> KindError {
    let remedy = match program {
        "docker" => {
            "install Docker Engine (https://docs.docker.com/engine/install), or use --cluster embedded"
        }
        _ => {
            "install it from https://kind.sigs.k8s.io (`go install sigs.k8s.io/kind@latest`), or use --cluster embedded"
        }
    };
    KindError::Missing { program, remedy }
}

/// Derives the meaning of a failed command from its output.
fn meaning(program: &str, arguments: &[&str], output: &Output) -> KindError {
    let said = said(output);
    let lower = said.to_lowercase();
    let value_of = |flag: &str| {
        let mut rest = arguments.iter().skip_while(|argument| **argument != flag);
        rest.nth(1).map(|value| (*value).to_owned())
    };
    if lower.contains("no space left on device") || lower.contains("disk quota exceeded") {
        return KindError::DiskFull { said };
    }
    if lower.contains("cannot connect to the docker daemon") {
        return KindError::NoDaemon { said };
    }
    if lower.contains("node(s) already exist for a cluster with the name") {
        return KindError::Exists {
            name: value_of("--name").unwrap_or_default(),
        };
    }
    if lower.contains("failed to pull image") || lower.contains("manifest unknown") {
        return KindError::NodeImage {
            image: value_of("--image"),
            said,
        };
    }
    KindError::Failed {
        command: format!("{program} {}", arguments.join(" ")),
        status: output.status.to_string(),
        said,
    }
}

/// Returns the end of a program's output, with standard error before standard output.
fn said(output: &Output) -> String {
    const LINES: usize = 12;
    let text = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let lines: Vec<&str> = text
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Returns major and minor of `kind v0.29.0 go1.24.2 linux/amd64`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_whitespace().find_map(|word| {
        word.strip_prefix('v')
            .or(Some(word))
            .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
    })?;
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_kind_says() {
        assert_eq!(parse_version("kind v0.29.0 go1.24.2 linux/amd64"), Some((0, 29)));
        assert_eq!(parse_version("kind version 0.26.0"), Some((0, 26)));
        assert_eq!(parse_version("nothing"), None);
    }
}
