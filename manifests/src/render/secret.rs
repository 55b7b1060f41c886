//! The Secret with the password.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{RenderContext, RenderError};
use crate::password::Password;
use crate::release::PASSWORD_KEY;

/// Renders the Secret, unless the user has one or wants no password.
///
/// `auth.password` always wins, otherwise the release's password is used. An upgrade therefore
/// keeps the existing password. The chart's README and later revision agree; the earlier one made a
/// new password at each upgrade.
pub(super) fn secret(context: &RenderContext<'_>) -> Result<Option<Secret>, RenderError> {
    let auth = &context.values.auth;
    if !auth.enabled || !auth.existing_secret.is_empty() {
        return Ok(None);
    }
    let password = password(context)?;
    let data = BTreeMap::from([(
        PASSWORD_KEY.to_owned(),
        ByteString(password.reveal().as_bytes().to_vec()),
    )]);
    Ok(Some(Secret {
        metadata: context.metadata(&context.fullname),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }))
}

fn password(context: &RenderContext<'_>) -> Result<Password, RenderError> {
    let release = || context.release.name.clone();
    let given = &context.values.auth.password;
    if !given.is_empty() {
        return Password::parse(given).map_err(|source| RenderError::Password {
            release: release(),
            source,
        });
    }
    context
        .release
        .password
        .clone()
        .ok_or_else(|| RenderError::PasswordMissing { release: release() })
}
