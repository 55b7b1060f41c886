//! Secrets and their passwords: the release's, the user's, and those that an upgrade finds.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use manifests::Values;
use manifests::release::PASSWORD_KEY;

use super::context::Context;
use super::error::TrialError;
use crate::release::Bundle;
use crate::secret::Password;

/// The field manager under which a scenario writes Secrets, as a user.
const FIELD_MANAGER: &str = "scenario";

impl Context {
    /// Writes `password` into the Secret `name`, as a user with a separate Secret does.
    pub async fn put_secret(&mut self, name: &str, password: &Password) -> Result<(), TrialError> {
        self.credentials.keep_out(password);
        let content = ByteString(password.expose().as_bytes().to_vec());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(PASSWORD_KEY.to_owned(), content)])),
            ..Secret::default()
        };
        let params = PatchParams::apply(FIELD_MANAGER);
        let (secrets, patch) = (self.secrets(), Patch::Apply(&secret));
        let written = secrets.patch(name, &params, &patch);
        let written = self
            .recorder
            .steps
            .run(format!("write Secret {name}"), written)
            .await;
        self.credentials.passwords.add(password.clone());
        written
            .map(drop)
            .map_err(|source| TrialError::api(format!("write Secret {name}"), source))
    }

    /// Renders an upgrade to `values`. The renderer looks up the release's Secret and keeps its
    /// password.
    pub async fn render_upgrade(&self, values: &Values) -> Result<Bundle, TrialError> {
        let naming = self.naming();
        if self.environment().subject.makes_passwords() {
            return self.rendered(&naming.upgraded(), values).await;
        }
        let name = naming.secret_name(values);
        let found = self.secrets().get_opt(&name).await;
        let found = found.map_err(|source| TrialError::api(format!("read Secret {name}"), source))?;
        let password = found.as_ref().and_then(password_in).unwrap_or_else(generate);
        self.rendered(&naming.upgraded().with_password(password), values)
            .await
    }

    /// Writes the user's Secret that `values` name, unless it exists. A chart expects it before its
    /// installation.
    pub(super) async fn bring_secret(&mut self, values: &Values) -> Result<(), TrialError> {
        let name = &values.auth.existing_secret;
        if name.is_empty() || !values.auth.enabled {
            return Ok(());
        }
        let found = self.secrets().get_opt(name).await;
        let found = found.map_err(|source| TrialError::api(format!("read Secret {name}"), source))?;
        match found {
            Some(_) => Ok(()),
            None => self.put_secret(name, &self.credentials.current()).await,
        }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client(), self.namespace())
    }
}

/// Returns the password in the values themselves.
pub(super) fn given(values: &Values) -> Option<Password> {
    let given = &values.auth.password;
    (!given.is_empty()).then(|| Password::new(given.as_str()))
}

fn password_in(secret: &Secret) -> Option<manifests::Password> {
    let bytes = secret.data.as_ref()?.get(PASSWORD_KEY)?.0.clone();
    manifests::Password::parse(String::from_utf8(bytes).ok()?).ok()
}

/// Returns a password that no other trial has. It needs no seed, because no act depends on its
/// value.
pub(super) fn generate() -> manifests::Password {
    let mut entropy = [0_u8; 2 * manifests::password::GENERATED_LENGTH];
    let (first, second) = entropy.split_at_mut(16);
    first.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    second.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    manifests::Password::from_entropy(&entropy)
}
