//! A password that nobody gave: the release makes one, and keeps it.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use manifests::Values;
use manifests::release::PASSWORD_KEY;

use super::context::Context;
use super::error::TrialError;
use crate::checks::{Violation, password};
use crate::secret::Password;

impl Context {
    /// Installs `values` without a password, upgrades with the same, and fails unless the release's Secret still has the
    /// password that it was installed with: running servers keep theirs, and would refuse every client that reads it.
    pub async fn verify_generated_password_is_kept(&mut self, values: Values) -> Result<(), TrialError> {
        let name = self.naming().secret_name(&values);
        let bundle = self.bundle_as_given(&values).await?;
        self.install_bundle(values.clone(), bundle).await?;
        let before = self.secret_password(&name).await?;
        self.upgrade(values).await?;
        let after = self.secret_password(&name).await?;
        for bytes in [&before, &after] {
            // A chart has made it; nobody else knows yet that it is to be kept out of what is written down.
            self.redactor
                .register(&Password::new(String::from_utf8_lossy(bytes)));
        }
        if before == after {
            return Ok(());
        }
        let (subject, expected) = (
            format!("Secret {name}"),
            "to keep its generated password over an upgrade",
        );
        let seen = "it has another one, and the running servers do not";
        Err(TrialError::Unhealthy {
            waited: "now".to_owned(),
            violations: vec![Violation::new(password::NAME, subject, expected, seen)],
        })
    }

    async fn secret_password(&self, name: &str) -> Result<Vec<u8>, TrialError> {
        let secrets: Api<Secret> = Api::namespaced(self.client(), self.namespace());
        let secret = secrets.get(name).await;
        let secret = secret.map_err(|source| TrialError::api(format!("read Secret {name}"), source))?;
        let password = secret.data.unwrap_or_default().remove(PASSWORD_KEY);
        let missing = || {
            Violation::new(
                password::NAME,
                format!("Secret {name}"),
                format!("to have the key {PASSWORD_KEY}"),
                "it has not",
            )
        };
        password
            .map(|ByteString(bytes)| bytes)
            .ok_or_else(|| TrialError::Unhealthy {
                waited: "now".to_owned(),
                violations: vec![missing()],
            })
    }
}
