//! Containers run as declared, seen from inside.

use anyhow::Result;
use kube::ResourceExt;

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "security",
    scenarios: &[scenario!(container_runs_as_declared, everywhere)],
};

/// User, group, capabilities, privileges, root filesystem and shell of every server are what the values say.
async fn container_runs_as_declared(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    for pod in context.server_pods().await? {
        context.verify_security(&pod.name_any()).await?;
    }
    Ok(())
}
