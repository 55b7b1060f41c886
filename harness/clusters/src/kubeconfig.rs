//! Any Kubernetes that a kubeconfig leads to. The cluster belongs to somebody, so a run:
//! - announces where it takes place before it changes anything,
//! - asks the API server for every permission it needs before it changes anything,
//! - changes only namespaces that it made itself.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::survey::Survey;
use super::{Cluster, ClusterError, Facts, Kept, client, preflight, proxy};
use settings::Placement;

const PROVIDER: &str = "kubeconfig";

/// Time that the API server may take to report its version. Only this first request is not retried.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// The cluster, and the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeconfigOptions {
    /// The context. It is always explicit, so that the current one is never used by accident.
    pub context: String,
    /// The file; `None` means `KUBECONFIG`, or else `~/.kube/config`.
    pub file: Option<PathBuf>,
}

/// A context found in a kubeconfig. Its cluster has not been contacted yet.
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
    /// When the file cannot be read, lacks the context, or the context is incomplete.
    pub async fn find(options: &KubeconfigOptions) -> Result<Self, ClusterError> {
        let origin = options.file.as_ref().map_or_else(
            || "the kubeconfig that KUBECONFIG or ~/.kube/config names".to_owned(),
            |file| format!("kubeconfig {}", file.display()),
        );
        let read = options
            .file
            .as_ref()
            .map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let kubeconfig = read.map_err(|source| ClusterError::Kubeconfig {
            origin: origin.clone(),
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
                origin,
                known,
            });
        }
        Self::in_kubeconfig(&options.context, kubeconfig)
            .await
            .map_err(|source| ClusterError::Kubeconfig { origin, source })
    }

    /// Returns the context `name` of `kubeconfig`.
    ///
    /// # Errors
    /// When the context is incomplete.
    pub async fn in_kubeconfig(name: &str, mut kubeconfig: Kubeconfig) -> Result<Self, KubeconfigError> {
        kubeconfig.current_context = Some(name.to_owned());
        let options = KubeConfigOptions {
            context: Some(name.to_owned()),
            ..KubeConfigOptions::default()
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?;
        let exceptions = ["NO_PROXY", "no_proxy"].map(|name| std::env::var(name).unwrap_or_default());
        let host = config.cluster_url.host().unwrap_or_default();
        if exceptions.iter().any(|list| proxy::is_bypassed(host, list)) {
            config.proxy_url = None;
        }
        Ok(Self {
            name: name.to_owned(),
            config,
            kubeconfig,
        })
    }

    /// Returns the context's namespace, which holds the user's Secrets.
    pub fn namespace(&self) -> &str {
        &self.config.default_namespace
    }

    /// Returns the API server's address.
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// Returns the kubeconfig, with this context as the current one.
    pub fn kubeconfig(&self) -> &Kubeconfig {
        &self.kubeconfig
    }

    /// Asks for the version, once and with a short timeout, to see if the cluster is reachable.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn version(&self) -> Result<String, ClusterError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ClusterError::Unreachable {
            context: self.name.clone(),
            server: self.server(),
            source,
        };
        if let Some(proxy) = &self.config.proxy_url {
            return Err(ClusterError::Proxy {
                context: self.name.clone(),
                server: self.server(),
                proxy: proxy::without_credentials(proxy),
            });
        }
        let once = Client::try_from(self.config.clone()).map_err(|error| unreachable(error.into()))?;
        match tokio::time::timeout(FIRST_ANSWER, once.apiserver_version()).await {
            Ok(Ok(version)) => Ok(version.git_version),
            Ok(Err(kube::Error::Api(status))) if status.code == 401 => Err(ClusterError::Unauthorized {
                context: self.name.clone(),
                server: self.server(),
                said: status.message.clone(),
            }),
            Ok(Err(error)) => Err(unreachable(error.into())),
            Err(_) => Err(unreachable(
                format!("no answer within {} s", FIRST_ANSWER.as_secs()).into(),
            )),
        }
    }

    /// Creates a client that bridges restarts of the API server.
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

/// A cluster that existed before the run and stays after it.
pub struct KubeconfigProvider {
    facts: Facts,
    context: String,
    run_label: String,
}

impl KubeconfigProvider {
    /// Passes to `announce` where `run` takes place and which `namespaces` it will make. Then
    /// checks every permission that the run needs, and surveys the cluster. Changes nothing.
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
            capabilities: survey.capabilities(),
            provenance: survey.provenance(PROVIDER, version),
        };
        Ok(Self {
            facts,
            context: context.name,
            run_label: settings::run_selector(run),
        })
    }
}

/// Renders the announcement: where the run takes place and what it will make there.
fn announcement(
    context: &ChosenContext,
    version: &str,
    run: &str,
    namespaces: &[String],
    placement: &Placement,
) -> String {
    let selector = settings::run_selector(run);
    let list: String = namespaces.iter().map(|name| format!("\n  {name}")).collect();
    format!(
        "context {} is {}, Kubernetes {version}; the run creates and changes only these {} namespaces, each with \
         the label {selector} and Pod Security {:?}:{list}",
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

    fn outlives_run(&self) -> bool {
        true
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
