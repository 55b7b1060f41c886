//! Images and a cluster, for a run of the command line or for a test process.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use embedded_cluster::images::ImageStore;
use harness::cluster::{
    ChosenContext, Cluster, ClusterError, EmbeddedOptions, EmbeddedProvider, K3sError, K3sOptions,
    K3sProvider, Kept, KindError, KindOptions, KindProvider, KubeconfigOptions, KubeconfigProvider,
    Provenance, k3s,
};
use harness::images::{self, ImageSource, SeenImages};
use harness::release::Chart;
use harness::report::{Event, EventSink};
use harness::trial::{Environment, Placement, Profile, Turns};
use manifests::password::GENERATED_LENGTH;
use manifests::{Mode, Password, Values, Variant};
use serde_json::Value;
use tokio::time::Instant;

/// The folder, within the cache, of clusters that outlive their run.
const CLUSTERS_FOLDER: &str = "clusters";

/// Which cluster a session is on.
#[derive(Debug, Clone, Default)]
pub enum ClusterChoice {
    /// A single-process Kubernetes on this machine.
    #[default]
    Embedded,
    /// Any Kubernetes that a kubeconfig leads to.
    Kubeconfig(KubeconfigOptions),
    /// Kubernetes in containers, made for the run.
    Kind(KindOptions),
    /// Kubernetes in one container, made for the run.
    K3s(K3sOptions),
}

/// What a session is to be.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The cluster.
    pub cluster: ClusterChoice,
    /// The namespaces that the trials will make, to be told before anything is made.
    pub namespaces: Vec<String>,
    /// What the site asks of namespaces and values.
    pub placement: Placement,
    /// The run's identifier; also the cluster's name.
    pub run: String,
    /// Where the images come from.
    pub image_source: ImageSource,
    /// Values and deadlines.
    pub profile: Profile,
    /// The seed of everything random.
    pub seed: u64,
    /// How many trials work at a time.
    pub jobs: usize,
    /// Leave cluster and namespaces behind.
    pub keep: bool,
    /// Where evidence goes.
    pub evidence: PathBuf,
    /// The chart on disk that is under test; without one it is our own manifests.
    pub chart: Option<Chart>,
}

/// A cluster that answers, with the chart's images in it.
pub struct Session {
    cluster: Box<dyn Cluster>,
    /// What trials need.
    pub environment: Environment,
}

impl Session {
    /// Prepares the images and starts the cluster.
    pub async fn start(options: SessionOptions, events: EventSink) -> Result<Self, ClusterError> {
        let started = Instant::now();
        let cluster = start_cluster(&options, &events).await?;
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
            chart: chart.map(Arc::new),
            client: cluster.facts().client.clone(),
            capabilities: cluster.facts().capabilities.clone(),
            run: options.run,
            placement: options.placement,
            profile: options.profile,
            deadlines: options.profile.deadlines(),
            seed: options.seed,
            images: SeenImages::default(),
            keep: options.keep,
            evidence: options.evidence,
            turns: Turns::new(options.jobs),
            secrets: Default::default(),
            events,
        };
        Ok(Self { cluster, environment })
    }

    /// What the session runs on.
    pub fn cluster(&self) -> &dyn Cluster {
        self.cluster.as_ref()
    }

    /// What the session runs on, with the images that were seen to run where the cluster got them by itself.
    pub fn provenance(&self) -> Provenance {
        let mut provenance = self.cluster.facts().provenance.clone();
        if provenance.images.is_empty() {
            let store = images::open_store().ok();
            provenance.images = self.environment.images.provenance(store.as_ref());
        }
        provenance
    }

    /// Takes everything down.
    pub async fn finish(self) -> Result<(), ClusterError> {
        self.cluster.finish().await
    }

    /// Leaves everything as it is.
    pub async fn keep(self) -> Result<Kept, ClusterError> {
        self.cluster.keep().await
    }
}

async fn start_cluster(
    options: &SessionOptions,
    events: &EventSink,
) -> Result<Box<dyn Cluster>, ClusterError> {
    let note = |text: String| events.send(Event::Note { text });
    match &options.cluster {
        ClusterChoice::Embedded => {
            let (store, images) = images_of_run(options).await?;
            warn_of_stand_ins(&images, note);
            let lasting = options.keep.then(clusters_folder).transpose()?;
            let provider = EmbeddedProvider::start(EmbeddedOptions {
                name: options.run.clone(),
                image_store: store,
                images,
                lasting,
            });
            Ok(Box::new(provider.await?))
        }
        ClusterChoice::Kind(how) => {
            // Before images are fetched: it costs nothing, and fails more often.
            how.tools.check().await.map_err(kind_error)?;
            let (_, images) = images_of_run(options).await?;
            warn_of_stand_ins(&images, note);
            let folder = made_clusters_folder("kind")?;
            let store = images::open_store().map_err(|source| ClusterError::Images(source.into()))?;
            let provider = KindProvider::start(how.clone(), &options.run, &folder, &store, images);
            Ok(Box::new(provider.await?))
        }
        ClusterChoice::K3s(how) => {
            // Before images are fetched, as above.
            let engine = k3s::Engine::find().await.map_err(k3s_error)?;
            engine.check(&how.version()).map_err(k3s_error)?;
            let (_, images) = images_of_run(options).await?;
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

/// Puts the images of the chart that is tested into the store.
async fn images_of_run(options: &SessionOptions) -> Result<(PathBuf, Vec<images::Provenance>), ClusterError> {
    let references = match &options.chart {
        Some(chart) => chart_images(chart).await,
        None => own_images(),
    };
    prepare(&options.image_source, &references).await
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

/// [`clusters_folder`], for `provider` to write to.
fn made_clusters_folder(provider: &'static str) -> Result<PathBuf, ClusterError> {
    let folder = clusters_folder()?;
    std::fs::create_dir_all(&folder).map_err(|source| ClusterError::Start {
        provider,
        source: source.into(),
    })?;
    Ok(folder)
}

/// Tells that what runs is not what will be shipped, where that is so.
fn warn_of_stand_ins(images: &[images::Provenance], note: impl Fn(String)) {
    if let Some(stand_in) = images.iter().find(|image| image.stand_in) {
        let why = stand_in.reason.as_deref().unwrap_or("as asked for");
        note(format!(
            "stand-in images are used ({why}): the run qualifies the deployment, not the images"
        ));
    }
}

/// Where clusters that outlive their command are kept.
pub fn clusters_folder() -> Result<PathBuf, ClusterError> {
    let cache = images::cache_dir().map_err(|source| ClusterError::Images(source.into()))?;
    Ok(cache.join(CLUSTERS_FOLDER))
}

/// Puts the chart's images into the store, and returns the store's folder and what is in it.
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

/// The images of Valkey that a chart on disk renders, in all combinations. One that does not render has none: its trials
/// say why.
async fn chart_images(chart: &Chart) -> Vec<String> {
    let Ok(values) = chart.overrides().apply(&Values::default()) else {
        return Vec::new();
    };
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

/// The image that the chart's servers run in this variant, read from what it renders to.
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

/// An identifier for a run that no other run on this machine has.
pub fn new_run_id() -> String {
    let moment = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    format!("e2e-{moment}-{:05}", std::process::id() % 100_000)
}
