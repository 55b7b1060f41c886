//! Clients get in, with the password and only with it, and every slot takes and gives data.

use anyhow::{Result, bail, ensure};
use harness::secret::Password;
use harness::valkey::ConnectError;
use harness::valkey::connection::dial_and_connect;
use kube::ResourceExt;

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
        ensure!(answered, "test {} succeeded without a PONG; it printed {:?}", output.hook, output.lines);
    }
    Ok(())
}

/// On every node: nobody gets in without the password or with a wrong one, and the right one works.
async fn password_is_required(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    let dialer = context.dialer();
    let wrong = Password::new("not-the-password");
    for pod in context.server_pods().await? {
        let pod = pod.name_any();
        match dial_and_connect(dialer.as_ref(), &pod, None).await {
            Err(ConnectError::NoAuth) => {}
            Ok(_) => bail!("{pod} lets clients in without a password"),
            Err(other) => return Err(other.into()),
        }
        match dial_and_connect(dialer.as_ref(), &pod, Some(&wrong)).await {
            Err(ConnectError::WrongPass) => {}
            Ok(_) => bail!("{pod} lets clients in with a wrong password"),
            Err(other) => return Err(other.into()),
        }
        context.connect(&pod).await?;
    }
    Ok(())
}

/// A key in every one of the 16384 slots is written and read back.
async fn set_and_get_every_slot(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    context.write_canaries().await?;
    context.verify_canaries().await?;
    Ok(())
}
