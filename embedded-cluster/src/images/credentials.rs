//! Registry credentials stored by `docker login`.
//!
//! Docker stores them in its `config.json` or in a credential helper (`credsStore`, `credHelpers`).
//! A helper is a separate program, called for one registry at a time.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

/// Key of the credentials for Docker Hub, in Docker's configuration and in credential helpers.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The deadline for a credential helper. A helper that prompts the user on an unseen screen never
/// answers.
const HELPER_DEADLINE: Duration = Duration::from_secs(20);

/// Credentials by registry, from Docker's configuration if there is one.
#[derive(Clone, Default)]
pub struct Credentials {
    config: Option<Vec<u8>>,
}

impl Credentials {
    /// Returns credentials for anonymous pulls.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Reads `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`. Without that file, pulls are
    /// anonymous, which is enough for the public images of this suite.
    #[must_use]
    pub fn from_docker_config() -> Self {
        let folder = env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let config = folder.and_then(|folder| std::fs::read(folder.join("config.json")).ok());
        Self { config }
    }

    /// Uses the text of a Docker `config.json`.
    #[must_use]
    pub fn of_docker_config(text: &[u8]) -> Self {
        Self {
            config: Some(text.to_vec()),
        }
    }

    /// Returns the credentials for a registry (`docker.io`, `localhost:5000`). Calls the credential
    /// helper if the configuration names one. If the configuration or the helper fails, logs a
    /// warning and returns anonymous credentials.
    pub(super) async fn of(&self, registry: &str) -> RegistryAuth {
        let Some(config) = self.config.clone() else {
            return RegistryAuth::Anonymous;
        };
        let key = if registry == "docker.io" {
            DOCKER_HUB_KEY
        } else {
            registry
        };
        let key = key.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            docker_credential::get_credential_from_reader(config.as_slice(), &key)
        });
        let why = match tokio::time::timeout(HELPER_DEADLINE, asked).await {
            Ok(Ok(Ok(DockerCredential::UsernamePassword(user, password)))) => {
                return RegistryAuth::Basic(user, password);
            }
            Ok(Ok(Ok(DockerCredential::IdentityToken(_)))) => {
                "it is an identity token, which is not supported".to_owned()
            }
            Ok(Ok(Err(CredentialRetrievalError::NoCredentialConfigured))) => return RegistryAuth::Anonymous,
            // The helper's output is not logged: it may contain anything.
            Ok(Ok(Err(CredentialRetrievalError::HelperFailure { helper, .. }))) => {
                format!("{helper} failed")
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(panic)) => panic.to_string(),
            Err(_) => format!(
                "the credential helper did not answer within {} s",
                HELPER_DEADLINE.as_secs()
            ),
        };
        tracing::warn!(
            registry,
            why,
            "cannot use the registry's credentials; pulling without them"
        );
        RegistryAuth::Anonymous
    }

    /// Returns true if there is a Docker configuration, which may contain credentials.
    pub(super) fn are_configured(&self) -> bool {
        self.config.is_some()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("configured", &self.config.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "auths": {
            "https://index.docker.io/v1/": { "auth": "bWU6c2VjcmV0" },
            "localhost:5000": { "auth": "eW91OmE6Yg==" },
            "ghcr.io": {}
        },
        "credHelpers": { "helped.example": "valkey-e2e-that-does-not-exist" }
    }"#;

    #[tokio::test]
    async fn a_docker_login_is_understood() {
        let credentials = Credentials::of_docker_config(CONFIG.as_bytes());
        let basic = |user: &str, password: &str| RegistryAuth::Basic(user.to_owned(), password.to_owned());
        assert_eq!(credentials.of("docker.io").await, basic("me", "secret"));
        assert_eq!(credentials.of("localhost:5000").await, basic("you", "a:b"));
        assert_eq!(credentials.of("ghcr.io").await, RegistryAuth::Anonymous);
        assert_eq!(credentials.of("other.example").await, RegistryAuth::Anonymous);
        let broken = Credentials::of_docker_config(b"no JSON");
        assert_eq!(broken.of("docker.io").await, RegistryAuth::Anonymous);
        assert_eq!(
            credentials.of("helped.example").await,
            RegistryAuth::Anonymous,
            "a helper that is not installed"
        );
    }

    #[test]
    fn no_password_is_ever_printed() {
        let printed = format!("{:?}", Credentials::of_docker_config(CONFIG.as_bytes()));
        assert_eq!(printed, "Credentials { configured: true }");
    }
}
