//! Clients get in, with the password and only with it, and every slot takes and gives data.

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

/// `helm test` succeeds, and says PONG.
async fn helm_test_pod_passes(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    let outputs = context.helm_test().await?;
    ensure!(!outputs.is_empty(), "the release has no test");
    for output in outputs {
        let answered = output.lines.iter().any(|line| line.contains("PONG"));
        ensure!(
            answered,
            "test {} succeeded without a PONG; it printed {:?}",
            output.hook,
            output.lines
        );
    }
    Ok(())
}

/// On every node: nobody gets in without the password or with a wrong one, and the right one works.
async fn password_is_required(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    let credential = |label: &str, password: Option<Password>, accepted| Credential {
        label: label.to_owned(),
        password,
        accepted,
    };
    context
        .verify_credentials(&[
            credential("no password", None, false),
            credential("a wrong password", Some(Password::new("not-the-password")), false),
            credential("the password", Some(context.password()), true),
        ])
        .await?;
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
