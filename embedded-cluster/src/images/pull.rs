//! Pulls images from registries. Each blob is verified and stored; blobs already in the store are
//! not pulled again.
//!
//! Connections use HTTPS except to this machine (`localhost`, `127.0.0.1`, `[::1]`), as in Docker.

use std::error::Error;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE, OciDescriptor,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use oci_spec::image::{Descriptor, Digest, ImageIndex, ImageManifest};

use super::archive::choose_platform;
use super::blobs::{Staged, sha256};
use super::credentials::Credentials;
use super::error::{ImageError, IoContext as _};
use super::index::parse_reference;
use super::scratch::Scratch;
use super::store::{Image, ImageStore};

/// The deadline for a connection to a registry. Two seconds are enough for several round trips to
/// any place in the world. A user without a network accepts that wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum pause in the middle of an answer. A registry that pauses longer is considered stuck.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Media types of supported manifests.
const MANIFESTS: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// An image that could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry cannot be reached: no network, no such host, or no listener.
    #[error("reach registry {registry} for {reference}")]
    NoNetwork {
        /// The registry's host.
        registry: String,
        /// The image to pull.
        reference: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The registry answered that the image does not exist.
    #[error("find {reference} in registry {registry}: there is no such image or tag")]
    NotFound {
        /// The registry's host.
        registry: String,
        /// The image to pull.
        reference: String,
    },
    /// The registry refuses access, or does not reveal if the image exists.
    #[error("pull {reference}: registry {registry} refuses access (or there is no such repository){hint}")]
    Unauthorized {
        /// The registry's host.
        registry: String,
        /// The image to pull.
        reference: String,
        /// Advice for the user.
        hint: &'static str,
    },
    /// The registry gave another answer.
    #[error("pull {reference} from registry {registry}")]
    Registry {
        /// The registry's host.
        registry: String,
        /// The image to pull.
        reference: String,
        /// The registry's answer.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The image arrived but cannot be stored or used.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Advice if access is refused although Docker has a configuration. A failed credential helper
/// appears only as a warning in the log.
const LOGIN_HINT: &str =
    "; `docker login` to that registry first, and see the log for credentials that cannot be used";

impl ImageStore {
    /// Pulls an image and points its reference in this store to the image.
    ///
    /// # Errors
    /// See [`PullError`]. A missing network is reported within about two seconds.
    pub async fn pull(&self, reference: &str, credentials: &Credentials) -> Result<Image, PullError> {
        let name = parse_reference(reference)?;
        let pull = Pull::new(self, &name, credentials).await?;
        tracing::info!(reference = %name.whole(), "pulling");
        pull.authenticate()
            .await
            .map_err(|error| pull.fail(error, credentials))?;
        let manifest = pull
            .image()
            .await
            .map_err(|error| pull.fail(error, credentials))?;
        self.tag(&name, manifest.digest(), manifest.size())?;
        let (store, digest) = (self.clone(), manifest.digest().clone());
        let unpacked = tokio::task::spawn_blocking(move || store.obtained(&name, &digest));
        Ok(unpacked.await.expect("unpacking does not panic")?)
    }
}

/// The pull of one image from a registry.
struct Pull<'a> {
    store: &'a ImageStore,
    name: &'a Reference,
    client: Client,
    auth: RegistryAuth,
    scratch: Scratch,
}

/// The failure of one step of the pull, without the image's name.
enum Failure {
    Registry(OciDistributionError),
    Image(ImageError),
}

impl From<OciDistributionError> for Failure {
    fn from(error: OciDistributionError) -> Self {
        Self::Registry(error)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl<'a> Pull<'a> {
    async fn new(
        store: &'a ImageStore,
        name: &'a Reference,
        credentials: &Credentials,
    ) -> Result<Self, ImageError> {
        let registry = name.resolve_registry();
        let protocol = if is_local(registry) {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        };
        // The HTTP client has no cryptography provider and uses the one of the process. A provider
        // that the host program installed earlier also works.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            ..ClientConfig::default()
        });
        let auth = credentials.of(name.registry()).await;
        Ok(Self {
            store,
            name,
            client,
            auth,
            scratch: store.scratch()?,
        })
    }

    /// Authenticates to the registry. This first connection detects a missing network. Without it,
    /// the client would try to authenticate again with every later request.
    async fn authenticate(&self) -> Result<(), Failure> {
        self.client
            .auth(self.name, &self.auth, RegistryOperation::Pull)
            .await?;
        Ok(())
    }

    /// Pulls the whole image and returns the descriptor of its manifest.
    async fn image(&self) -> Result<Descriptor, Failure> {
        let descriptor = self.platform_manifest().await?;
        let manifest: ImageManifest = self.parse(descriptor.digest())?;
        self.blob(manifest.config()).await?;
        for layer in manifest.layers() {
            self.blob(layer).await?;
        }
        Ok(descriptor)
    }

    /// Pulls and stores the manifest: of a multi-platform image, the manifest for this machine.
    async fn platform_manifest(&self) -> Result<Descriptor, Failure> {
        let mut name = self.name.clone();
        let mut text = self.manifest_text(&name).await?;
        if let Ok(index) = serde_json::from_slice::<ImageIndex>(&text) {
            let chosen = choose_platform(&self.name.whole(), index.manifests())?;
            name = self.name.clone_with_digest(chosen.digest().to_string());
            text = self.manifest_text(&name).await?;
        }
        let digest = sha256(&text);
        self.store.blobs.add(&self.scratch, &digest, &text)?;
        Ok(Descriptor::new(
            oci_spec::image::MediaType::ImageManifest,
            text.len() as u64,
            digest,
        ))
    }

    async fn manifest_text(&self, name: &Reference) -> Result<Vec<u8>, Failure> {
        let (text, _digest) = self
            .client
            .pull_manifest_raw(name, &self.auth, &MANIFESTS)
            .await?;
        Ok(text.to_vec())
    }

    /// Pulls a blob, unless the store has an undamaged copy.
    async fn blob(&self, descriptor: &Descriptor) -> Result<(), Failure> {
        if self.store.blobs.verify(descriptor.digest()).is_ok() {
            return Ok(());
        }
        tracing::info!(digest = %descriptor.digest(), bytes = descriptor.size(), "downloading");
        let path = self.scratch.fresh();
        let file = tokio::fs::File::create(&path).await.doing("create", &path)?;
        // The client compares the content with the digest while it downloads.
        let wanted = OciDescriptor {
            media_type: descriptor.media_type().to_string(),
            digest: descriptor.digest().to_string(),
            size: i64::try_from(descriptor.size()).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        self.client.pull_blob(self.name, &wanted, file).await?;
        let staged = Staged {
            path,
            digest: descriptor.digest().clone(),
            size: descriptor.size(),
        };
        Ok(self.store.blobs.adopt(&staged)?)
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T, ImageError> {
        serde_json::from_slice(&self.store.blobs.read(digest)?).map_err(|source| ImageError::Json {
            subject: format!("manifest of {} as the registry sent it", self.name.whole()),
            source,
        })
    }

    fn fail(&self, failure: Failure, credentials: &Credentials) -> PullError {
        let (registry, reference) = (self.name.registry().to_owned(), self.name.whole());
        let error = match failure {
            Failure::Image(error) => return PullError::Image(error),
            Failure::Registry(error) => error,
        };
        match classify(&error) {
            Class::NoNetwork => PullError::NoNetwork {
                registry,
                reference,
                source: Box::new(error),
            },
            Class::NotFound => PullError::NotFound { registry, reference },
            Class::Unauthorized => {
                let hint = if credentials.are_configured() {
                    LOGIN_HINT
                } else {
                    ""
                };
                PullError::Unauthorized {
                    registry,
                    reference,
                    hint,
                }
            }
            Class::Other => PullError::Registry {
                registry,
                reference,
                source: Box::new(error),
            },
        }
    }
}

/// The meaning of a registry's error, or of a missing answer.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    NoNetwork,
    NotFound,
    Unauthorized,
    Other,
}

fn classify(error: &OciDistributionError) -> Class {
    match error {
        OciDistributionError::RequestError(error) if error.is_connect() => Class::NoNetwork,
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => Class::NotFound,
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_)
        | OciDistributionError::ServerError { code: 401 | 403, .. } => Class::Unauthorized,
        OciDistributionError::RegistryError { envelope, .. } => {
            let has =
                |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
            if has(&[
                OciErrorCode::ManifestUnknown,
                OciErrorCode::NameUnknown,
                OciErrorCode::NotFound,
            ]) {
                Class::NotFound
            } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                Class::Unauthorized
            } else {
                Class::Other
            }
        }
        _ => Class::Other,
    }
}

/// Returns true if a registry is on this machine, so that TLS is not needed.
fn is_local(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_on_this_machine_go_without_tls() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["docker.io", "localhost.example.org", "10.0.0.1:5000"] {
            assert!(!is_local(remote), "{remote}");
        }
    }
}
