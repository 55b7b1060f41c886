//! Images and a cluster, for a run of the command line or for a test process.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use embedded_cluster::delays::Delays;
use embedded_cluster::images::ImageStore;
use harness::cluster::{
    ChosenContext, Cluster, ClusterError, EmbeddedOptions, EmbeddedProvider, K3sError, K3sOptions,
    K3sProvider, Kept, KindError, KindOptions, KindProvider, KubeconfigOptions, KubeconfigProvider,
    Provenance, k3s,
};
use harness::images::{self, ImageSource, SeenImages};
use harness::release::{Chart, Generated, Subject};
use harness::report::{Event, EventSink};
use harness::settings::{Placement, Profile, run_selector};
use harness::trial::{ClientPod, Environment, Halt, Turns};
use manifests::password::GENERATED_LENGTH;
use manifests::{Mode, Password, Values, Variant};
use serde_json::Value;
use tokio::time::Instant;

/// The folder, within the cache, of clusters that outlive their run.
const CLUSTERS_FOLDER: &str = "clusters";

/// The cluster of a session.
#[derive(Debug, Clone, Default)]
pub enum ClusterChoice {
    /// A single-process Kubernetes on this machine.
    #[default]
    Embedded,
    /// Any Kubernetes that a kubeconfig reaches.
    Kubeconfig(KubeconfigOptions),
    /// Kubernetes in containers, made for the run.
    Kind(KindOptions),
    /// Kubernetes in one container, made for the run.
    K3s(K3sOptions),
}

/// The settings of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The cluster.
    pub cluster: ClusterChoice,
    /// The namespaces that the trials will make. The run announces them before it makes anything.
    pub namespaces: Vec<String>,
    /// The site's demands on namespaces and values.
    pub placement: Placement,
    /// The run's identifier; also the cluster's name.
    pub run: String,
    /// The source of the images.
    pub image_source: ImageSource,
    /// Values and deadlines.
    pub profile: Profile,
    /// The seed of everything random.
    pub seed: u64,
    /// Number of trials that run at a time.
    pub jobs: usize,
    /// True if the cluster and the namespaces are kept.
    pub keep: bool,
    /// The folder of the evidence.
    pub evidence: PathBuf,
    /// The chart on disk under test; `None` for the project's own manifests.
    pub chart: Option<Chart>,
}

impl SessionOptions {
    /// Returns the command that removes the remains of a killed run. `None` for a cluster that ends
    /// with the run.
    pub fn sweep_command(&self) -> Option<String> {
        let run = &self.run;
        match &self.cluster {
            ClusterChoice::Embedded => None,
            ClusterChoice::Kubeconfig(KubeconfigOptions { context, file }) => {
                let file = file
                    .as_ref()
                    .map(|file| format!(" --kubeconfig {}", file.display()));
                let file = file.unwrap_or_default();
                Some(format!(
                    "cargo xtask sweep --cluster kubeconfig --context {context}{file} --run {run}"
                ))
            }
            ClusterChoice::Kind(KindOptions {
                reuse: Some(name), ..
            }) => Some(format!(
                "kubectl --context kind-{name} delete namespaces -l {}",
                run_selector(run)
            )),
            ClusterChoice::Kind(_) => Some(format!("cargo xtask sweep --cluster kind --run {run}")),
            ClusterChoice::K3s(_) => Some(format!("cargo xtask sweep --cluster k3s --run {run}")),
        }
    }
}

/// A running cluster, with the chart's images in it.
pub struct Session {
    cluster: Box<dyn Cluster>,
    /// The environment of trials.
    pub environment: Environment,
}

impl Session {
    /// Prepares the images and starts the cluster.
    pub async fn start(options: SessionOptions, events: EventSink) -> Result<Self, ClusterError> {
        let started = Instant::now();
        let images = images_of_subject(&options).await;
        let cluster = start_cluster(&options, &images, &events).await?;
        let provenance = Box::new(cluster.facts().provenance.clone());
        events.send(Event::ClusterReady {
            provenance,
            took: started.elapsed(),
        });
        let chart = options
            .chart
            .map(|chart| chart.on_cluster(&cluster.facts().kubeconfig))
            .transpose();
        let chart = chart.map_err(|source| ClusterError::Start {
            provider: "helm",
            source: source.into(),
        })?;
        let environment = Environment {
            subject: chart.map_or_else(
                || Arc::new(Generated) as Arc<dyn Subject>,
                |chart| Arc::new(chart),
            ),
            client: cluster.facts().client.clone(),
            capabilities: cluster.facts().capabilities.clone(),
            run: options.run,
            placement: options.placement,
            profile: options.profile,
            deadlines: options.profile.deadlines(),
            seed: options.seed,
            images: SeenImages::default(),
            keep: options.keep,
            borrowed: cluster.outlives_run(),
            halt: Halt::default(),
            evidence: options.evidence,
            turns: Turns::new(options.jobs),
            secrets: Default::default(),
            client_pod: Some(ClientPod::new(&client_image(&images))),
            events,
        };
        Ok(Self { cluster, environment })
    }

    /// Returns the cluster of the session.
    pub fn cluster(&self) -> &dyn Cluster {
        self.cluster.as_ref()
    }

    /// Returns the facts about the cluster. If the cluster pulled the images by itself, the facts
    /// have the images that were seen to run.
    pub fn provenance(&self) -> Provenance {
        let mut provenance = self.cluster.facts().provenance.clone();
        if provenance.images.is_empty() {
            let store = images::open_store().ok();
            provenance.images = self.environment.images.provenance(store.as_ref());
        }
        provenance
    }

    /// Stops the cluster, or removes the client pod from a cluster that outlives the run.
    pub async fn finish(self) -> Result<(), ClusterError> {
        if let Some(client) = &self.environment.client_pod
            && self.environment.borrowed
            && let Err(text) = client.remove(&self.environment).await
        {
            self.environment.events.send(Event::Note { text });
        }
        self.cluster.finish().await
    }

    /// Keeps the cluster running.
    pub async fn keep(self) -> Result<Kept, ClusterError> {
        self.cluster.keep().await
    }
}

async fn start_cluster(
    options: &SessionOptions,
    references: &[String],
    events: &EventSink,
) -> Result<Box<dyn Cluster>, ClusterError> {
    let note = |text: String| events.send(Event::Note { text });
    match &options.cluster {
        ClusterChoice::Embedded => {
            let (store, images) = prepare(&options.image_source, references).await?;
            warn_of_stand_ins(&images, note);
            let lasting = options.keep.then(clusters_folder).transpose()?;
            let provider = EmbeddedProvider::start(EmbeddedOptions {
                name: options.run.clone(),
                image_store: store,
                images,
                delays: delays(options.profile),
                lasting,
            });
            Ok(Box::new(provider.await?))
        }
        ClusterChoice::Kind(how) => {
            // This check comes before images are fetched: it costs nothing, and fails more often.
            how.tools.check().await.map_err(kind_error)?;
            let (_, images) = prepare(&options.image_source, references).await?;
            warn_of_stand_ins(&images, note);
            let folder = made_clusters_folder("kind")?;
            let store = images::open_store().map_err(|source| ClusterError::Images(source.into()))?;
            let provider = KindProvider::start(how.clone(), &options.run, &folder, &store, images);
            Ok(Box::new(provider.await?))
        }
        ClusterChoice::K3s(how) => {
            // This check comes before images are fetched, as for kind.
            let engine = k3s::Engine::find().await.map_err(k3s_error)?;
            engine.check(&how.version()).map_err(k3s_error)?;
            let (_, images) = prepare(&options.image_source, references).await?;
            warn_of_stand_ins(&images, note);
            let folder = made_clusters_folder("k3s")?;
            let store = images::open_store().map_err(|source| ClusterError::Images(source.into()))?;
            let provider = K3sProvider::start(&engine, how, &options.run, &folder, &store, images, note);
            Ok(Box::new(provider.await?))
        }
        ClusterChoice::Kubeconfig(which) => {
            let context = ChosenContext::find(which).await?;
            let (run, namespaces) = (&options.run, &options.namespaces);
            let provider = KubeconfigProvider::start(context, run, namespaces, &options.placement, note);
            Ok(Box::new(provider.await?))
        }
    }
}

/// Returns the delays with which an embedded cluster notices changes. The default profile has the
/// delays of a real cluster, the fast profile short ones.
fn delays(profile: Profile) -> Delays {
    match profile {
        Profile::Default => Delays::default(),
        Profile::Fast => Delays::short(),
    }
}

/// Returns the images of the subject under test.
async fn images_of_subject(options: &SessionOptions) -> Vec<String> {
    match &options.chart {
        Some(chart) => chart_images(chart).await,
        None => own_images(),
    }
}

/// Returns the image for clients: an image of the run that has a shell.
fn client_image(references: &[String]) -> String {
    let own = server_image(Variant::Rpm).expect("the chart's own values render");
    if references.contains(&own) {
        return own;
    }
    let with_shell = references.iter().find(|image| !image.contains("hardened"));
    with_shell.cloned().unwrap_or(own)
}

fn kind_error(source: KindError) -> ClusterError {
    ClusterError::Start {
        provider: "kind",
        source: source.into(),
    }
}

fn k3s_error(source: K3sError) -> ClusterError {
    ClusterError::Start {
        provider: "k3s",
        source: source.into(),
    }
}

/// Returns [`clusters_folder`], and creates it for `provider`.
fn made_clusters_folder(provider: &'static str) -> Result<PathBuf, ClusterError> {
    let folder = clusters_folder()?;
    std::fs::create_dir_all(&folder).map_err(|source| ClusterError::Start {
        provider,
        source: source.into(),
    })?;
    Ok(folder)
}

/// Sends a note if the run uses stand-in images.
fn warn_of_stand_ins(images: &[images::Provenance], note: impl Fn(String)) {
    if let Some(stand_in) = images.iter().find(|image| image.stand_in) {
        let why = stand_in.reason.as_deref().unwrap_or("as asked for");
        note(format!(
            "stand-in images are used ({why}): the run qualifies the deployment, not the images"
        ));
    }
}

/// Returns the folder of clusters that outlive their command.
pub fn clusters_folder() -> Result<PathBuf, ClusterError> {
    let cache = images::cache_dir().map_err(|source| ClusterError::Images(source.into()))?;
    Ok(cache.join(CLUSTERS_FOLDER))
}

/// Puts the chart's images into the store. Returns the store's folder and the prepared images.
pub async fn prepare_images(
    source: &ImageSource,
) -> Result<(PathBuf, Vec<images::Provenance>), ClusterError> {
    prepare(source, &own_images()).await
}

async fn prepare(
    source: &ImageSource,
    references: &[String],
) -> Result<(PathBuf, Vec<images::Provenance>), ClusterError> {
    let failed = |source: images::PrepareError| ClusterError::Images(source.into());
    let store: ImageStore = images::open_store().map_err(failed)?;
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    let prepared = images::prepare(&store, source, &references)
        .await
        .map_err(failed)?;
    Ok((store.dir().to_owned(), prepared))
}

fn own_images() -> Vec<String> {
    Variant::ALL.into_iter().filter_map(server_image).collect()
}

/// Returns the Valkey images that a chart on disk renders, in all combinations. A combination that
/// does not render is left out; its trials report the error.
async fn chart_images(chart: &Chart) -> Vec<String> {
    let values = chart.settled(chart.own_values());
    let repository = format!("{}:", values.image.repository);
    let mut references = BTreeSet::new();
    for object in chart.survey().await.iter().flatten() {
        images_in(object, &mut |image| {
            if image.starts_with(&repository) {
                references.insert(image.to_owned());
            }
        });
    }
    references.into_iter().collect()
}

fn images_in(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(image) if key == "image" => found(image),
                    _ => images_in(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| images_in(item, found)),
        _ => {}
    }
}

/// Returns the image of the chart's servers in this variant, read from the rendered StatefulSet.
fn server_image(variant: Variant) -> Option<String> {
    let password = Password::from_entropy(&[0; 2 * GENERATED_LENGTH]);
    let release = manifests::Release::install("images", "images").with_password(password);
    let rendered = manifests::render(&release, &Values::combination(Mode::Standalone, variant)).ok()?;
    rendered
        .stateful_set
        .spec
        .template
        .spec?
        .containers
        .into_iter()
        .find_map(|container| container.image)
}

/// Returns an identifier that no other run on this machine has.
pub fn new_run_id() -> String {
    let moment = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    format!("e2e-{moment}-{:05}", std::process::id() % 100_000)
}
