//! Any Kubernetes that a kubeconfig leads to. It is somebody's: nothing is touched before the user has been told where the
//! run will take place and the API server has said that the run may do all that it will do; and only namespaces that
//! the run makes itself are ever changed.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::survey::Survey;
use super::{Cluster, ClusterError, Facts, Kept, client, preflight};
use crate::trial::Placement;

const PROVIDER: &str = "kubeconfig";

/// How long the API server may take to say its version. Only this first question is not repeated.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// Which cluster, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeconfigOptions {
    /// The context; never the current one by accident.
    pub context: String,
    /// The file; `None` means `KUBECONFIG`, or else `~/.kube/config`.
    pub file: Option<PathBuf>,
}

/// A context that was found in a kubeconfig. Nothing has been asked of its cluster yet.
#[derive(Debug, Clone)]
pub struct ChosenContext {
    name: String,
    kubeconfig: Kubeconfig,
    config: Config,
}

impl ChosenContext {
    /// Reads the kubeconfig and finds the context.
    ///
    /// # Errors
    /// When the file cannot be read, has no such context, or the context leads nowhere.
    pub async fn find(options: &KubeconfigOptions) -> Result<Self, ClusterError> {
        let whence = options.file.as_ref().map_or_else(
            || "the kubeconfig that KUBECONFIG or ~/.kube/config names".to_owned(),
            |file| format!("kubeconfig {}", file.display()),
        );
        let read = options
            .file
            .as_ref()
            .map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let kubeconfig = read.map_err(|source| ClusterError::Kubeconfig {
            whence: whence.clone(),
            source,
        })?;
        let known: Vec<String> = kubeconfig
            .contexts
            .iter()
            .map(|context| context.name.clone())
            .collect();
        if !known.contains(&options.context) {
            return Err(ClusterError::NoSuchContext {
                context: options.context.clone(),
                whence,
                known,
            });
        }
        Self::in_kubeconfig(&options.context, kubeconfig)
            .await
            .map_err(|source| ClusterError::Kubeconfig { whence, source })
    }

    /// The context `name` of `kubeconfig`.
    ///
    /// # Errors
    /// When the context leads nowhere.
    pub async fn in_kubeconfig(name: &str, mut kubeconfig: Kubeconfig) -> Result<Self, KubeconfigError> {
        kubeconfig.current_context = Some(name.to_owned());
        let options = KubeConfigOptions {
            context: Some(name.to_owned()),
            ..KubeConfigOptions::default()
        };
        Ok(Self {
            name: name.to_owned(),
            config: Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?,
            kubeconfig,
        })
    }

    /// The namespace that the context itself names, where Secrets of the user's are looked for.
    pub fn namespace(&self) -> &str {
        &self.config.default_namespace
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// The kubeconfig, with this context as the current one.
    pub fn kubeconfig(&self) -> &Kubeconfig {
        &self.kubeconfig
    }

    /// Asks for the version, once and not for long: whether the cluster can be reached at all.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn version(&self) -> Result<String, ClusterError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ClusterError::Unreachable {
            context: self.name.clone(),
            server: self.server(),
            source,
        };
        let once = Client::try_from(self.config.clone()).map_err(|error| unreachable(error.into()))?;
        match tokio::time::timeout(FIRST_ANSWER, once.apiserver_version()).await {
            Ok(Ok(version)) => Ok(version.git_version),
            Ok(Err(error)) => Err(unreachable(error.into())),
            Err(_) => Err(unreachable(
                format!("no answer within {} s", FIRST_ANSWER.as_secs()).into(),
            )),
        }
    }

    /// A client that outlives restarts of the API server.
    ///
    /// # Errors
    /// When the credentials of the context cannot be used.
    pub fn client(&self) -> Result<Client, ClusterError> {
        client::connect(self.config.clone()).map_err(|source| ClusterError::Start {
            provider: PROVIDER,
            source: source.into(),
        })
    }
}

/// A cluster that was there before the run and will be there after it.
pub struct KubeconfigProvider {
    facts: Facts,
    context: String,
    run_label: String,
}

impl KubeconfigProvider {
    /// Tells through `announce` where the run `run` will take place and which `namespaces` it will make, asks for every
    /// permission that it needs, and looks at what the cluster has. Nothing is changed.
    ///
    /// # Errors
    /// When there is no answer, or permissions are missing.
    pub async fn start(
        context: ChosenContext,
        run: &str,
        namespaces: &[String],
        placement: &Placement,
        announce: impl Fn(String),
    ) -> Result<Self, ClusterError> {
        let version = context.version().await?;
        announce(announcement(&context, &version, run, namespaces, placement));
        let client = context.client()?;
        let failed = |source: kube::Error| ClusterError::Start {
            provider: PROVIDER,
            source: source.into(),
        };
        if let Some(namespace) = namespaces.first() {
            let secret = placement.image_pull_secret.as_ref();
            let asked =
                preflight::missing(&client, namespace, secret.map(|secret| secret.namespace.as_str()));
            if let Some(missing) = asked.await.map_err(failed)? {
                return Err(ClusterError::NotAllowed {
                    context: context.name,
                    missing,
                });
            }
        }
        let survey = Survey::take(
            &client,
            placement.storage_class.as_deref(),
            &placement.node_selector,
        )
        .await
        .map_err(failed)?;
        let facts = Facts {
            client,
            kubeconfig: context.kubeconfig,
            capabilities: survey.capabilities(true),
            provenance: survey.provenance(PROVIDER, version),
        };
        Ok(Self {
            facts,
            context: context.name,
            run_label: crate::trial::environment::run_selector(run),
        })
    }
}

/// Where the run takes place and what it will make there.
fn announcement(
    context: &ChosenContext,
    version: &str,
    run: &str,
    namespaces: &[String],
    placement: &Placement,
) -> String {
    let selector = crate::trial::environment::run_selector(run);
    let list: String = namespaces.iter().map(|name| format!("\n  {name}")).collect();
    format!(
        "context {} is {}, Kubernetes {version}; nothing but these {} namespaces will be made and changed, each \
         labelled {selector} and held to Pod Security {:?}:{list}",
        context.name,
        context.server(),
        namespaces.len(),
        placement.pod_security.as_str(),
    )
}

impl Cluster for KubeconfigProvider {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), ClusterError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn keep(self: Box<Self>) -> BoxFuture<'static, Result<Kept, ClusterError>> {
        let Self {
            context, run_label, ..
        } = *self;
        Box::pin(std::future::ready(Ok(Kept {
            reach: format!("kubectl --context {context} get namespaces -l {run_label}"),
            remove: format!("kubectl --context {context} delete namespaces -l {run_label}"),
        })))
    }
}
