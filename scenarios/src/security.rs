//! Containers run as declared, as seen from inside the container.

use anyhow::Result;
use kube::ResourceExt;

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "security",
    scenarios: &[
        scenario!(container_runs_as_declared, everywhere),
        scenario!(password_is_nowhere_else, everywhere),
    ],
};

/// User, group, capabilities, privileges, root filesystem and shell of every server are as the
/// values declare.
async fn container_runs_as_declared(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    for pod in context.server_pods().await? {
        context.verify_security(&pod.name_any()).await?;
    }
    Ok(())
}

/// A password of the values is rendered in a Secret, as text, and nowhere else. Nothing is
/// deployed: only the rendering is checked.
async fn password_is_nowhere_else(context: &mut Context) -> Result<()> {
    context.verify_secrecy().await?;
    Ok(())
}
