//! Secrets, and the passwords in them: the release's own, one that the user brings, and what an upgrade finds.

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

/// The user, as whom a scenario writes Secrets of its own.
const FIELD_MANAGER: &str = "scenario";

impl Context {
    /// A password that nobody has yet. It is kept out of everything that is written down.
    pub fn new_password(&mut self) -> Password {
        let password = Password::new(generate().reveal());
        self.keep_out(&password);
        password
    }

    /// Keeps `password` out of everything that is written down.
    pub(super) fn keep_out(&mut self, password: &Password) {
        self.redactor.register(password);
        self.environment().secrets.register(password);
    }

    /// From now on the servers have `password`: others are tried after it.
    pub fn servers_have(&mut self, password: Password) {
        self.passwords.prefer(password);
    }

    /// Writes `password` into the Secret `name`, as a user does who brings a Secret.
    pub async fn put_secret(&mut self, name: &str, password: &Password) -> Result<(), TrialError> {
        let step = self.steps.begin(&format!("write Secret {name}"));
        self.keep_out(password);
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
        let written = self.secrets().patch(name, &params, &Patch::Apply(&secret)).await;
        self.passwords.add(password.clone());
        self.steps.end(step, written.is_ok());
        written
            .map(drop)
            .map_err(|source| TrialError::api(format!("write Secret {name}"), source))
    }

    /// What an upgrade to `values` renders: the chart looks the release's Secret up, and keeps the password in it.
    pub async fn render_upgrade(&self, values: &Values) -> Result<Bundle, TrialError> {
        if self.environment().chart.is_some() {
            return self.bundle_as_given(values).await;
        }
        let naming = self.naming();
        let name = naming.secret_name(values);
        let found = self.secrets().get_opt(&name).await;
        let found = found.map_err(|source| TrialError::api(format!("read Secret {name}"), source))?;
        let password = found.as_ref().and_then(password_in).unwrap_or_else(generate);
        let rendered = manifests::render(&naming.upgraded().with_password(password), values)?;
        Ok(Bundle::from_manifests(&rendered)?)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client(), self.namespace())
    }
}

/// The password that the values themselves give.
pub(super) fn given(values: &Values) -> Option<Password> {
    let given = &values.auth.password;
    (!given.is_empty()).then(|| Password::new(given.as_str()))
}

fn password_in(secret: &Secret) -> Option<manifests::Password> {
    let bytes = secret.data.as_ref()?.get(PASSWORD_KEY)?.0.clone();
    manifests::Password::parse(String::from_utf8(bytes).ok()?).ok()
}

/// A password that no other trial has. It needs no seed: nothing that a trial does depends on its value.
pub(super) fn generate() -> manifests::Password {
    let mut entropy = [0_u8; 2 * manifests::password::GENERATED_LENGTH];
    let (first, second) = entropy.split_at_mut(16);
    first.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    second.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    manifests::Password::from_entropy(&entropy)
}
