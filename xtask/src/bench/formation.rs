//! Time from the install of a release until all six nodes report `cluster_state:ok`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::cluster::{Cluster, EmbeddedOptions, EmbeddedProvider, PortForward};
use harness::images::SeenImages;
use harness::release::Generated;
use harness::report::EventSink;
use harness::secret::Password;
use harness::settings::Profile;
use harness::settings::placement::{NAMESPACE_PREFIX, Placement};
use harness::timeline::Timeline;
use harness::trial::observer::is_server;
use harness::trial::{Context, Environment, TrialId, Turns};
use harness::valkey::cluster_info::ClusterInfo;
use harness::valkey::{Connection, Dialer, dial_and_connect};
use harness::wait::{self, Expectation, Verdict, conditions};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher;
use manifests::release::CLIENT_PORT;
use manifests::{Mode, Variant};
use serde_json::json;

use super::bare::BareCluster;
use super::table::{Figure, Goal, Unit};
use super::{Bench, DEADLINE};

/// The allowed ratio of Kubernetes' time to Valkey's own.
const TARGET_TIMES: f64 = 1.3;

const FLOOR: &str =
    "six bare servers with the same configuration on loopback, and valkey-cli --cluster create";

/// Interval at which a node is polled. It is short compared to a formation, which takes a second.
/// Six nodes are polled concurrently.
const INTERVAL: Duration = Duration::from_millis(50);

/// Takes the measurement.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut deployment = Deployment::start(bench).await?;
    let formed = deployment.install_until_ok().await;
    let rendered = deployment.rendered();
    deployment.finish().await?;
    let (formed, rendered) = (formed?, rendered?);
    let bare = BareCluster::new(&bench.binaries, &rendered)?;
    let floor = bare
        .form()
        .await
        .context("the bare servers did not form a cluster")?;
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let figure = |name, part: fn(&Formed) -> Duration, target| Figure {
        name,
        unit: Unit::Milliseconds,
        measured: milliseconds(part(&formed)),
        floor: milliseconds(part(&floor)),
        floor_is: FLOOR,
        target,
    };
    Ok(vec![
        figure(
            "six-node formation",
            |formed| formed.ok,
            Goal::TimesFloor(TARGET_TIMES),
        ),
        figure("formation, six servers up", |formed| formed.up, Goal::None),
    ])
}

/// The durations of a formation, both from its beginning.
pub(super) struct Formed {
    /// Time until every server is up: pods are running, bare servers answer.
    pub(super) up: Duration,
    /// Time until the last server says ok.
    pub(super) ok: Duration,
}

/// A release in cluster mode with the fast profile, on a separate cluster.
pub(super) struct Deployment {
    provider: EmbeddedProvider,
    namespace: String,
    context: Context,
}

impl Deployment {
    /// Starts the cluster without an installation.
    pub(super) async fn start(bench: &Bench) -> Result<Self> {
        let provider = EmbeddedProvider::start(EmbeddedOptions {
            name: bench.run.clone(),
            image_store: bench.store.clone(),
            images: bench.images.clone(),
            delays: embedded_cluster::delays::Delays::short(),
            lasting: None,
        });
        let provider = provider.await?;
        let environment = Environment {
            subject: Arc::new(Generated),
            client: provider.facts().client.clone(),
            capabilities: provider.facts().capabilities.clone(),
            run: bench.run.clone(),
            placement: Placement::default(),
            profile: Profile::Fast,
            deadlines: Profile::Fast.deadlines(),
            seed: 0,
            images: SeenImages::default(),
            turns: Turns::new(1),
            keep: false,
            borrowed: false,
            halt: Default::default(),
            evidence: std::env::temp_dir(),
            secrets: Default::default(),
            client_pod: None,
            events: EventSink::silent(),
        };
        let id = TrialId {
            suite: "bench",
            scenario: "formation".into(),
            mode: Mode::Cluster,
            variant: Variant::Rpm,
        };
        let namespace = id.namespace(NAMESPACE_PREFIX, &bench.run);
        let object: Namespace =
            serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a literal namespace");
        let namespaces: Api<Namespace> = Api::all(provider.facts().client.clone());
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .context("the namespace was refused")?;
        let context = Context::new(environment, id, namespace.clone(), Timeline::default());
        Ok(Self {
            provider,
            namespace,
            context,
        })
    }

    /// Installs, and waits until every promise holds.
    pub(super) async fn install_and_settle(&mut self) -> Result<()> {
        self.context.install(self.context.values()).await?;
        self.context.healthy().await?;
        Ok(())
    }

    /// Installs and measures until the last node says ok. The init Job ends later and is not
    /// measured.
    async fn install_until_ok(&mut self) -> Result<Formed> {
        let values = self.context.values();
        let nodes = usize::try_from(values.cluster.replicas).context("a count of pods is not negative")?;
        let (client, password) = (self.context.client(), self.context.credentials.current());
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let dialer: Arc<dyn Dialer> = Arc::new(PortForward::new(client, &self.namespace, CLIENT_PORT));
        let begun = Instant::now();
        let ok = async {
            let names = running(&pods, nodes).await?;
            let up = begun.elapsed();
            all_ok(&dialer, &names, &password).await?;
            let ok = begun.elapsed();
            anyhow::Ok(Formed { up, ok })
        };
        let installed = async { anyhow::Ok(self.context.install(values).await?) };
        let (formed, _) = tokio::try_join!(ok, installed)?;
        Ok(formed)
    }

    /// Returns the context that acts on the release.
    pub(super) fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Returns the `valkey.conf` of the servers.
    pub(super) fn rendered(&self) -> Result<String> {
        let password = manifests::Password::from_entropy(&[0; 2 * manifests::password::GENERATED_LENGTH]);
        let release = manifests::Release::install("vk", &self.namespace).with_password(password);
        let rendered = manifests::render(&release, &self.context.values())?;
        let data = rendered.config_map.data.unwrap_or_default();
        data.get("valkey.conf")
            .cloned()
            .context("the ConfigMap has no valkey.conf")
    }

    /// Takes the cluster down.
    pub(super) async fn finish(self) -> Result<()> {
        Ok(Box::new(self.provider).finish().await?)
    }
}

/// Waits until all server pods run, and returns their names.
async fn running(pods: &Api<Pod>, count: usize) -> Result<Vec<String>> {
    let what = Expectation::new("the server pods", "to run", DEADLINE);
    let names = wait::objects(
        pods,
        watcher::Config::default(),
        what,
        |pods: &BTreeMap<String, Pod>| {
            let servers = pods
                .iter()
                .filter(|(_, pod)| is_server(pod) && conditions::is_running(pod));
            let names: Vec<String> = servers.map(|(name, _)| name.clone()).collect();
            if names.len() == count {
                Verdict::Ready(names)
            } else {
                Verdict::NotYet(format!("{} of {count} run", names.len()))
            }
        },
    );
    Ok(names.await?)
}

/// Waits until every server says `cluster_state:ok`.
pub(super) async fn all_ok(dialer: &Arc<dyn Dialer>, names: &[String], password: &Password) -> Result<()> {
    let each = names.iter().map(|name| async move {
        let connection = answers(dialer, name, password).await?;
        says_ok(connection, name).await
    });
    futures::future::try_join_all(each).await.map(drop)
}

/// Waits until a server answers.
pub(super) async fn answers(dialer: &Arc<dyn Dialer>, name: &str, password: &Password) -> Result<Connection> {
    let what = Expectation::new(name, "to answer", DEADLINE);
    let connected = wait::poll(what, INTERVAL, || async {
        match dial_and_connect(dialer.as_ref(), name, Some(password)).await {
            Ok(connection) => Verdict::Ready(connection),
            Err(error) => Verdict::NotYet(error.to_string()),
        }
    });
    Ok(connected.await?)
}

async fn says_ok(connection: Connection, name: &str) -> Result<()> {
    let what = Expectation::new(name, "to say cluster_state:ok", DEADLINE);
    let ok = wait::poll(what, INTERVAL, || async {
        let mut connection = connection.clone();
        let answer = redis::cmd("CLUSTER")
            .arg("INFO")
            .query_async::<String>(&mut connection)
            .await;
        match answer.map(|text| ClusterInfo::parse(&text)) {
            Ok(Ok(info)) if info.is_ok() => Verdict::Ready(()),
            Ok(Ok(info)) => Verdict::NotYet(format!("cluster_state:{}", info.cluster_state)),
            Ok(Err(error)) => Verdict::Never(error.to_string()),
            Err(error) => Verdict::NotYet(error.to_string()),
        }
    });
    Ok(ok.await?)
}
