//! A generated password: the user gives none, and the release keeps the one that it makes.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use manifests::release::PASSWORD_KEY;

use super::context::Context;
use super::error::TrialError;
use crate::checks::{Violation, password};
use crate::secret::Password;

impl Context {
    /// Reads the password from the release's Secret, and uses it from now on.
    pub async fn learn_password(&mut self) -> Result<Password, TrialError> {
        let (_, password) = self.password_in_secret().await?;
        // The chart generated the password, so the redaction does not know it yet.
        self.credentials.keep_out(&password);
        self.credentials.servers_have(password.clone());
        Ok(password)
    }

    /// Fails unless the release's Secret still has the password `before`. Running servers keep
    /// their password, and would refuse clients that read a new one.
    pub async fn verify_password_is_kept(&mut self, before: &Password) -> Result<(), TrialError> {
        let (name, after) = self.password_in_secret().await?;
        self.credentials.keep_out(&after);
        if *before == after {
            return Ok(());
        }
        let (subject, expected) = (
            format!("Secret {name}"),
            "to keep its generated password across an upgrade",
        );
        let seen = "it has a new one, which the running servers do not accept";
        Err(TrialError::unhealthy(vec![Violation::new(
            password::NAME,
            subject,
            expected,
            seen,
        )]))
    }

    async fn password_in_secret(&self) -> Result<(String, Password), TrialError> {
        let values = self.deployment.values()?;
        let own = self.naming().secret_name(values);
        let rendered = self
            .deployment
            .release()
            .and_then(|release| release.deployed().secret_name());
        let name = rendered.map_or(own, str::to_owned);
        let secrets: Api<Secret> = Api::namespaced(self.client(), self.namespace());
        let secret = secrets.get(&name).await;
        let secret = secret.map_err(|source| TrialError::api(format!("read Secret {name}"), source))?;
        let Some(ByteString(bytes)) = secret.data.unwrap_or_default().remove(PASSWORD_KEY) else {
            let expected = format!("to have the key {PASSWORD_KEY}");
            let missing = Violation::new(
                password::NAME,
                format!("Secret {name}"),
                expected,
                "the key is missing",
            );
            return Err(TrialError::unhealthy(vec![missing]));
        };
        Ok((name, Password::new(String::from_utf8_lossy(&bytes))))
    }
}
