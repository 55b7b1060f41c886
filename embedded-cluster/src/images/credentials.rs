//! What `docker login` left behind, for registries that ask who is pulling.
//!
//! Only credentials that are in `config.json` itself are read. Those in a credential helper (`credsStore`,
//! `credHelpers`) are not, and an error of the registry says so.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use oci_client::secrets::RegistryAuth;

/// The key under which Docker keeps the credentials of its own registry.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Who is pulling, by registry.
#[derive(Clone, Default)]
pub struct Credentials {
    by_registry: BTreeMap<String, (String, String)>,
    helpers: bool,
}

/// The part of Docker's `config.json` that matters here.
#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, AuthEntry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
}

impl Credentials {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Reads `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`. Anonymous when there is none or it makes no
    /// sense: the images of this suite are public.
    #[must_use]
    pub fn from_docker_config() -> Self {
        let folder = env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let Some(file) = folder.map(|folder| folder.join("config.json")) else {
            return Self::anonymous();
        };
        let Ok(text) = std::fs::read(&file) else {
            return Self::anonymous();
        };
        Self::parse(&text).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "registry credentials were not understood");
            Self::anonymous()
        })
    }

    /// Reads the text of a Docker `config.json`.
    ///
    /// # Errors
    /// When it is not the JSON that Docker writes.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let config: DockerConfig = serde_json::from_slice(text)?;
        let helpers = config.creds_store.is_some() || !config.cred_helpers.is_empty();
        let decode = |(key, entry): (String, AuthEntry)| {
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(entry.auth?)
                .ok()?;
            let (user, password) = String::from_utf8(decoded).ok()?.split_once(':').map(own)?;
            Some((registry_of(&key), (user, password)))
        };
        Ok(Self {
            by_registry: config.auths.into_iter().filter_map(decode).collect(),
            helpers,
        })
    }

    /// What to tell a registry (`docker.io`, `localhost:5000`).
    pub(super) fn of(&self, registry: &str) -> RegistryAuth {
        match self.by_registry.get(registry) {
            Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => RegistryAuth::Anonymous,
        }
    }

    /// Whether there may be credentials which were not read.
    pub(super) fn has_helpers(&self) -> bool {
        self.helpers
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_registry.keys()).finish()
    }
}

fn own((user, password): (&str, &str)) -> (String, String) {
    (user.to_owned(), password.to_owned())
}

/// The registry that a key of `auths` means: a host, or a URL for historical reasons.
fn registry_of(key: &str) -> String {
    if key == DOCKER_HUB_KEY {
        return "docker.io".to_owned();
    }
    let host = key.trim_start_matches("https://").trim_start_matches("http://");
    host.split('/').next().unwrap_or(host).to_owned()
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
        "credsStore": "desktop"
    }"#;

    #[test]
    fn a_docker_login_is_understood() {
        let credentials = Credentials::parse(CONFIG.as_bytes()).unwrap();
        let basic = |user: &str, password: &str| RegistryAuth::Basic(user.to_owned(), password.to_owned());
        assert_eq!(credentials.of("docker.io"), basic("me", "secret"));
        assert_eq!(credentials.of("localhost:5000"), basic("you", "a:b"));
        assert_eq!(credentials.of("ghcr.io"), RegistryAuth::Anonymous);
        assert!(credentials.has_helpers());
    }

    #[test]
    fn no_password_is_ever_printed() {
        let printed = format!("{:?}", Credentials::parse(CONFIG.as_bytes()).unwrap());
        assert!(
            printed.contains("docker.io") && !printed.contains("secret"),
            "{printed}"
        );
    }
}
