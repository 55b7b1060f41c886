//! Clients connect with the password and only with the password, and every slot stores and returns
//! data.

use anyhow::{Result, ensure};
use harness::checks::password::Credential;
use harness::secret::Password;

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "connection",
    scenarios: &[
        scenario!(helm_test_pod_passes, everywhere),
        scenario!(password_is_required, everywhere),
        scenario!(set_and_get_every_slot, everywhere),
    ],
};

/// `helm test` succeeds, and fails without servers. The output of its pod is not checked.
async fn helm_test_pod_passes(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    let outputs = context.helm_test().await?;
    ensure!(!outputs.is_empty(), "the release has no test");
    context.verify_helm_test_can_fail().await?;
    Ok(())
}

/// Every node refuses a client without the password or with a wrong one, and accepts the right
/// password. No other user reads keys without a password. With authentication off, clients need
/// none.
async fn password_is_required(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    let credential = |label: &str, password: Option<Password>, accepted| Credential {
        label: label.to_owned(),
        password,
        accepted,
    };
    if !context.deployment.values()?.auth.enabled {
        let everyone = [credential("no password", None, true)];
        return Ok(context.verify_credentials(&everyone).await?);
    }
    context
        .verify_credentials(&[
            credential("no password", None, false),
            credential("a wrong password", Some(Password::new("not-the-password")), false),
            credential("the password", Some(context.credentials.current()), true),
        ])
        .await?;
    context.verify_users().await?;
    Ok(())
}

/// A key in every one of the 16384 slots is written and read back.
async fn set_and_get_every_slot(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.verify_data().await?;
    Ok(())
}
