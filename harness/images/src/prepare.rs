//! Puts the images of a run into the store before the cluster starts. The embedded cluster cannot
//! reach a registry, and a run should know its images in advance.

use std::path::{Path, PathBuf};

use embedded_cluster::images::{Credentials, Image, ImageError, ImageStore, PullError, full_name};

use super::cache_dir::{CacheDirError, cache_dir};
use super::provenance::{Origin, Provenance, is_stand_in};
use super::source::ImageSource;
use super::stand_in::{self, Binaries, StandInError};

/// The registry name of stand-ins. The domain is reserved for names that never exist, so nobody
/// mistakes a stand-in for a pullable image.
pub(super) const STAND_IN_REGISTRY: &str = "stand-in.invalid";
/// The store's folder in the cache.
const STORE_FOLDER: &str = "images";

/// Failures to put images into the store. Each is the environment's fault, never the deployment's.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// There is no cache folder.
    #[error(transparent)]
    Cache(#[from] CacheDirError),
    /// The store, or the archive, could not be used.
    #[error("keep image {reference}")]
    Store {
        /// The image.
        reference: String,
        /// The cause.
        source: ImageError,
    },
    /// The registry did not deliver the image.
    #[error("obtain image {reference}; --image-source stand-in or archive=PATH needs no registry")]
    Pull {
        /// The image.
        reference: String,
        /// The cause.
        source: PullError,
    },
    /// No stand-in could be built.
    #[error("build a stand-in for {reference}{after}")]
    StandIn {
        /// The image.
        reference: String,
        /// The reason for the stand-in, when it was not requested.
        after: String,
        /// The cause.
        source: Box<StandInError>,
    },
    /// The archive could not be read.
    #[error("read image archive {}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// The cause.
        source: ImageError,
    },
    /// The archive lacks an image of the run.
    #[error("find {reference} in image archive {}: it has {}", archive.display(), available.join(", "))]
    NotInArchive {
        /// The image that is missing.
        reference: String,
        /// The archive.
        archive: PathBuf,
        /// The images in the archive.
        available: Vec<String>,
    },
}

/// Opens the store that all runs of this user share.
///
/// # Errors
/// When there is no cache folder, or it cannot be written.
pub fn open_store() -> Result<ImageStore, PrepareError> {
    let dir = cache_dir()?.join(STORE_FOLDER);
    ImageStore::open(&dir).map_err(|source| PrepareError::Store {
        reference: format!("store {}", dir.display()),
        source,
    })
}

/// Returns a server and a client for this machine. Prefers those on PATH to the published ones,
/// which are cached.
///
/// # Errors
/// When PATH has none and the published ones are not available.
pub fn host_binaries() -> Result<Binaries, PrepareError> {
    let cache = cache_dir()?;
    Binaries::obtain(&cache).map_err(|source| PrepareError::StandIn {
        reference: "this machine".to_owned(),
        after: String::new(),
        source: Box::new(source),
    })
}

/// Puts these images into the store, unpacked, and returns the origin of each.
///
/// With [`ImageSource::Auto`], takes the image of an earlier run, or else pulls it. A stand-in is
/// built only if the registry gives no answer, which takes two seconds at most. A tag that does not
/// exist is an answer, and so an error.
/// # Errors
/// See [`PrepareError`].
pub async fn prepare(
    store: &ImageStore,
    source: &ImageSource,
    references: &[&str],
) -> Result<Vec<Provenance>, PrepareError> {
    let mut run = Preparation {
        store,
        credentials: Credentials::from_docker_config(),
        unreachable: None,
    };
    let mut images = Vec::new();
    if let ImageSource::Archive(archive) = source {
        return run.archived(archive, references).await;
    }
    for reference in references {
        images.push(match source {
            ImageSource::Pull => run.pulled(reference).await?,
            ImageSource::StandIn => run.stand_in(reference, String::new()).await?,
            ImageSource::Auto | ImageSource::Archive(_) => run.automatic(reference).await?,
        });
    }
    Ok(images)
}

/// The preparation of one run.
#[derive(Debug)]
struct Preparation<'a> {
    store: &'a ImageStore,
    credentials: Credentials,
    /// The reason why the registry could not be reached. Once it is set, no other image tries
    /// again.
    unreachable: Option<String>,
}

impl Preparation<'_> {
    async fn automatic(&mut self, reference: &str) -> Result<Provenance, PrepareError> {
        if let Some(image) = self.stored(reference).await? {
            return Ok(Provenance::new(reference, &image, Origin::Store));
        }
        if self.unreachable.is_none() {
            match self.pulled(reference).await {
                Err(PrepareError::Pull {
                    source: error @ PullError::NoNetwork { .. },
                    ..
                }) => {
                    tracing::info!(reference, error = error_text::chain(&error), "no network");
                    self.unreachable = Some(error.to_string());
                }
                result => return result,
            }
        }
        let reason = format!(
            "no network: failed to {}",
            self.unreachable.as_deref().unwrap_or_default()
        );
        tracing::warn!(reference, reason, "using a stand-in");
        let mut image = self
            .stand_in(reference, format!(" (its registry cannot be reached: {reason})"))
            .await?;
        image.reason = Some(reason);
        Ok(image)
    }

    async fn pulled(&self, reference: &str) -> Result<Provenance, PrepareError> {
        let pulled = self.store.pull(reference, &self.credentials).await;
        let image = pulled.map_err(|source| PrepareError::Pull {
            reference: reference.to_owned(),
            source,
        })?;
        Ok(Provenance::new(reference, &image, Origin::Registry))
    }

    /// Returns the image of an earlier run. Ignores a stand-in, because the image itself may be
    /// available by now.
    async fn stored(&self, reference: &str) -> Result<Option<Image>, PrepareError> {
        match self
            .blocking(reference, |store, reference| store.get(&reference))
            .await?
        {
            Ok(image) => Ok(image.filter(|image| !is_stand_in(image))),
            Err(error) if error.is_damage() => {
                tracing::warn!(reference, %error, "the stored image is damaged: obtaining it again");
                Ok(None)
            }
            Err(source) => Err(PrepareError::Store {
                reference: reference.to_owned(),
                source,
            }),
        }
    }

    async fn stand_in(&self, reference: &str, after: String) -> Result<Provenance, PrepareError> {
        let failed = |error| PrepareError::StandIn {
            reference: reference.to_owned(),
            after,
            source: Box::new(error),
        };
        let cache = cache_dir()?;
        let name = reference.to_owned();
        let build = move || stand_in::build(&name, &Binaries::obtain(&cache)?);
        let new = blocking(build).await.map_err(failed)?;
        let image = self
            .blocking(reference, move |store, reference| {
                store_stand_in(&store, &reference, &new)
            })
            .await?;
        let image = image.map_err(|source| PrepareError::Store {
            reference: reference.to_owned(),
            source,
        })?;
        Ok(Provenance::new(reference, &image, Origin::StandIn))
    }

    async fn archived(&self, archive: &Path, references: &[&str]) -> Result<Vec<Provenance>, PrepareError> {
        let failed = |source| PrepareError::Archive {
            archive: archive.to_owned(),
            source,
        };
        let (store, path) = (self.store.clone(), archive.to_owned());
        let stored = blocking(move || store.add_archive(path)).await.map_err(failed)?;
        let mut images = Vec::new();
        for reference in references {
            let name = full_name(reference).map_err(|source| PrepareError::Store {
                reference: (*reference).to_owned(),
                source,
            })?;
            if !stored.iter().any(|image| image.reference == name) {
                return Err(PrepareError::NotInArchive {
                    reference: (*reference).to_owned(),
                    archive: archive.to_owned(),
                    available: stored.into_iter().map(|image| image.reference).collect(),
                });
            }
            let image = self
                .blocking(reference, |store, reference| store.get(&reference))
                .await?;
            let image = image
                .map_err(failed)?
                .expect("an archive's images are in the store once added");
            images.push(Provenance::new(reference, &image, Origin::Archive));
        }
        Ok(images)
    }

    /// Runs blocking work on the store, outside the async runtime's threads.
    async fn blocking<T: Send + 'static>(
        &self,
        reference: &str,
        work: impl FnOnce(ImageStore, String) -> T + Send + 'static,
    ) -> Result<T, PrepareError> {
        let (store, reference) = (self.store.clone(), reference.to_owned());
        Ok(blocking(move || work(store, reference)).await)
    }
}

/// Stores a stand-in under a separate name. Also gives it the image's name, unless the image itself
/// is stored.
fn store_stand_in(
    store: &ImageStore,
    reference: &str,
    new: &embedded_cluster::images::NewImage,
) -> Result<Image, ImageError> {
    let full = full_name(reference)?;
    let (_, path) = full.split_once('/').unwrap_or(("", &full));
    let image = store.add(&format!("{STAND_IN_REGISTRY}/{path}"), new)?;
    let taken = match store.get(reference) {
        Ok(present) => present.is_some_and(|present| !is_stand_in(&present)),
        Err(error) if error.is_damage() => false,
        Err(error) => return Err(error),
    };
    if taken {
        Ok(image)
    } else {
        store.alias(&image, reference)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
