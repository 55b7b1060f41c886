//! The cluster arguments that `e2e`, `sweep` and `doctor` share, as typed and as resolved.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use harness::cluster::kind::Tools;
use harness::cluster::{ChosenContext, K3sOptions, KindOptions, KubeVersion, KubeconfigOptions};
use harness::settings::placement::{NAMESPACE_PREFIX, Placement, PodSecurity, PullSecret};
use scenarios::session::ClusterChoice;

use crate::cli::ProfileArg;
use crate::exit::UsageError;

/// The longest prefix that leaves room for a readable name in the 63 characters of a namespace.
const LONGEST_PREFIX: usize = 20;

/// The cluster, as typed.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The cluster of the trials.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) cluster: ClusterKind,
    /// kubeconfig: the context, always explicit.
    #[arg(long, value_name = "NAME", required_if_eq("cluster", "kubeconfig"))]
    context: Option<String>,
    /// kubeconfig: the file [default: KUBECONFIG, or ~/.kube/config].
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// kind: single-node, multi-node (three workers in three zones), or the path of a configuration
    /// [default: single-node].
    #[arg(long, value_name = "NAME|PATH")]
    kind_config: Option<String>,
    /// kind, k3s: the Kubernetes version, such as v1.36, or a full vX.Y.Z
    /// [default: the one that kind comes with; v1.36].
    #[arg(long, value_name = "vX.Y")]
    kube_version: Option<KubeVersion>,
    /// kind: use this cluster and leave it running.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kind_config", "kube_version"])]
    reuse: Option<String>,
}

/// Requirements of the site for the trials, as typed.
#[derive(Debug, Args)]
pub(crate) struct PlacementArgs {
    /// The prefix of every namespace's name.
    #[arg(long, value_name = "PREFIX", default_value = NAMESPACE_PREFIX, value_parser = namespace_prefix)]
    pub(crate) namespace_prefix: String,
    /// The Pod Security level of every namespace. Restricted adds a seccomp profile to the chart's
    /// values [default: restricted; with --profile default, baseline].
    #[arg(long, value_enum)]
    pod_security: Option<PodSecurityArg>,
    /// The storage class of the claims [default: the cluster's own default].
    #[arg(long, value_name = "NAME")]
    storage_class: Option<String>,
    /// A label of the nodes that the servers may run on; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    node_selector: Vec<(String, String)>,
    /// A Secret of the cluster for pulling images; it is copied into every namespace.
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    image_pull_secret: Option<String>,
}

/// Clusters that can run trials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClusterKind {
    /// A single-process Kubernetes on this machine.
    #[default]
    Embedded,
    /// Kubernetes in containers, made for the run; needs Docker and kind.
    Kind,
    /// Kubernetes in one container, made for the run; needs Docker.
    K3s,
    /// Any Kubernetes that a kubeconfig leads to.
    Kubeconfig,
}

impl ClusterKind {
    /// Returns the name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no kind is hidden");
        value.get_name().to_owned()
    }

    /// Returns true if a run makes such clusters itself, of the requested version.
    pub(crate) fn has_versions(self) -> bool {
        matches!(self, Self::Kind | Self::K3s)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PodSecurityArg {
    Restricted,
    Baseline,
    Privileged,
}

impl ClusterArgs {
    /// Resolves the words to a cluster. A flag of another provider is an error, never ignored.
    pub(crate) fn resolve(self) -> Result<ClusterChoice, UsageError> {
        let Self {
            cluster,
            context,
            kubeconfig,
            kind_config,
            kube_version,
            reuse,
        } = self;
        let only_for = |flag: &str, given: bool, kind: ClusterKind| {
            if given && cluster != kind {
                return Err(UsageError(format!("{flag} needs --cluster {}", kind.name())));
            }
            Ok(())
        };
        only_for("--context", context.is_some(), ClusterKind::Kubeconfig)?;
        only_for("--kubeconfig", kubeconfig.is_some(), ClusterKind::Kubeconfig)?;
        only_for("--kind-config", kind_config.is_some(), ClusterKind::Kind)?;
        if kube_version.is_some() && !cluster.has_versions() {
            return Err(UsageError(
                "--kube-version needs --cluster kind or k3s".to_owned(),
            ));
        }
        only_for("--reuse", reuse.is_some(), ClusterKind::Kind)?;
        Ok(match cluster {
            ClusterKind::Embedded => ClusterChoice::Embedded,
            ClusterKind::Kind => ClusterChoice::Kind(KindOptions {
                config: kind_configuration(kind_config.as_deref().unwrap_or("single-node"))?,
                kube_version,
                reuse,
                tools: Tools,
            }),
            ClusterKind::K3s => ClusterChoice::K3s(K3sOptions { kube_version }),
            ClusterKind::Kubeconfig => ClusterChoice::Kubeconfig(KubeconfigOptions {
                context: context.expect("clap requires it with --cluster kubeconfig"),
                file: kubeconfig,
            }),
        })
    }
}

impl ClusterArgs {
    /// Returns the typed words that differ from the default.
    pub(crate) fn words(&self) -> Vec<String> {
        let Self {
            cluster,
            context,
            kubeconfig,
            kind_config,
            kube_version,
            reuse,
        } = self;
        let kind = (*cluster != ClusterKind::default()).then(|| word(cluster));
        let kubeconfig = kubeconfig.as_ref().map(|path| path.display().to_string());
        flags([
            ("--cluster", kind),
            ("--context", context.clone()),
            ("--kubeconfig", kubeconfig),
            ("--kind-config", kind_config.clone()),
            ("--kube-version", kube_version.as_ref().map(ToString::to_string)),
            ("--reuse", reuse.clone()),
        ])
    }
}

impl PlacementArgs {
    /// Returns the typed words that differ from the default.
    pub(crate) fn words(&self) -> Vec<String> {
        let Self {
            namespace_prefix,
            pod_security,
            storage_class,
            node_selector,
            image_pull_secret,
        } = self;
        let prefix = (namespace_prefix != NAMESPACE_PREFIX).then(|| namespace_prefix.clone());
        let nodes = node_selector
            .iter()
            .map(|(key, value)| ("--node-selector", Some(format!("{key}={value}"))));
        let one = [
            ("--namespace-prefix", prefix),
            ("--pod-security", pod_security.as_ref().map(word)),
            ("--storage-class", storage_class.clone()),
        ];
        let last = [("--image-pull-secret", image_pull_secret.clone())];
        flags(one.into_iter().chain(nodes).chain(last))
    }

    /// Resolves the words for `cluster`. A Secret without a namespace is in the context's own
    /// namespace.
    pub(crate) async fn resolve(
        self,
        cluster: &ClusterChoice,
        profile: ProfileArg,
    ) -> anyhow::Result<Placement> {
        let image_pull_secret = match self.image_pull_secret {
            None => None,
            Some(given) => Some(pull_secret(&given, cluster).await?),
        };
        let level = self.pod_security.unwrap_or(match profile {
            ProfileArg::Fast => PodSecurityArg::Restricted,
            ProfileArg::Default => PodSecurityArg::Baseline,
        });
        Ok(Placement {
            namespace_prefix: self.namespace_prefix,
            pod_security: match level {
                PodSecurityArg::Restricted => PodSecurity::Restricted,
                PodSecurityArg::Baseline => PodSecurity::Baseline,
                PodSecurityArg::Privileged => PodSecurity::Privileged,
            },
            storage_class: self.storage_class,
            node_selector: self.node_selector.into_iter().collect::<BTreeMap<_, _>>(),
            image_pull_secret,
        })
    }
}

/// Returns each flag that has a value, with the value.
fn flags<'a>(all: impl IntoIterator<Item = (&'a str, Option<String>)>) -> Vec<String> {
    let given = all
        .into_iter()
        .filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
    given.flatten().collect()
}

/// Returns a value as it is typed.
fn word(value: &impl ValueEnum) -> String {
    let name = value.to_possible_value().expect("no value is hidden");
    name.get_name().to_owned()
}

async fn pull_secret(given: &str, cluster: &ClusterChoice) -> anyhow::Result<PullSecret> {
    let (namespace, name) = match (given.split_once('/'), cluster) {
        (Some((namespace, name)), _) => (namespace.to_owned(), name),
        (None, ClusterChoice::Kubeconfig(which)) => {
            (ChosenContext::find(which).await?.namespace().to_owned(), given)
        }
        (None, ClusterChoice::Embedded | ClusterChoice::Kind(_) | ClusterChoice::K3s(_)) => {
            ("default".to_owned(), given)
        }
    };
    Ok(PullSecret {
        namespace,
        name: name.to_owned(),
    })
}

/// This project's configurations for kind, by name.
const KIND_CONFIGURATIONS: [(&str, &str); 2] = [
    ("single-node", include_str!("../../kind-config/single-node.yaml")),
    ("multi-node", include_str!("../../kind-config/multi-node.yaml")),
];

/// Returns the path of a file, or of one of this project's configurations by name.
fn kind_configuration(given: &str) -> Result<PathBuf, UsageError> {
    if let Some((_, text)) = KIND_CONFIGURATIONS.iter().find(|(name, _)| *name == given) {
        let folder = harness::images::cache_dir().map_err(|error| UsageError(error.to_string()))?;
        return written(&folder.join("kind-config"), given, text)
            .map_err(|error| UsageError(format!("failed to write kind's configuration {given}: {error}")));
    }
    let path = PathBuf::from(given);
    if path.is_file() {
        return Ok(path);
    }
    Err(UsageError(format!(
        "{given:?} is neither single-node, multi-node, nor a file"
    )))
}

/// Writes one of this project's configurations to a file, because kind reads only files.
fn written(folder: &Path, name: &str, text: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(name).with_extension("yaml");
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(&path)?;
    Ok(path)
}

fn namespace_prefix(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts || text.len() > LONGEST_PREFIX || !text.chars().all(fits) {
        return Err(format!(
            "a prefix has 1 to {LONGEST_PREFIX} lower-case letters, digits and dashes, and does not begin with a dash"
        ));
    }
    Ok(text.to_owned())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_configurations_are_in_the_program() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in KIND_CONFIGURATIONS {
            let path = written(folder.path(), name, text).expect("the folder can be written to");
            let read = std::fs::read_to_string(&path).expect("it was just written");
            assert!(read.contains("kind: Cluster"), "{read}");
        }
    }
}
