//! Time of scaling and of a password rotation, from the upgrade until every promise holds again.
//!
//! The floors are the same acts on bare servers: [`bare_operations`](super::bare_operations). There
//! every step is known in advance, and only the servers are awaited. The ratio is the cost of
//! Kubernetes, the hook Jobs and their safety checks.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Bench;
use super::bare::BareCluster;
use super::bare_operations::Operated;
use super::formation::Deployment;
use super::table::{Figure, Goal, Unit};

const FLOOR: &str = "the same on bare servers on loopback, each step as soon as the servers allow it";

/// Takes the measurement.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut deployment = Deployment::start(bench).await?;
    let operated = Box::pin(operate(&mut deployment)).await;
    let rendered = deployment.rendered();
    deployment.finish().await?;
    let (operated, rendered) = (operated?, rendered?);
    let floor = BareCluster::new(&bench.binaries, &rendered)?
        .operate()
        .await
        .context("the bare servers cannot be scaled and restarted")?;
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let figure = |name, part: fn(&Operated) -> Duration| Figure {
        name,
        unit: Unit::Milliseconds,
        measured: milliseconds(part(&operated)),
        floor: milliseconds(part(&floor)),
        floor_is: FLOOR,
        target: Goal::None,
    };
    Ok(vec![
        figure("scale up, 6 to 8 pods", |operated| operated.up),
        figure("scale down, 8 to 6 pods", |operated| operated.down),
        figure("rotation, 6 pods restarted", |operated| operated.rotated),
    ])
}

async fn operate(deployment: &mut Deployment) -> Result<Operated> {
    deployment.install_and_settle().await?;
    let context = deployment.context();
    let six = context.values();
    let mut eight = six.clone();
    eight.cluster.replicas = 8;
    let begun = Instant::now();
    context.scale(eight).await.context("scale up")?;
    let up = begun.elapsed();
    let begun = Instant::now();
    context.scale(six.clone()).await.context("scale down")?;
    let down = begun.elapsed();
    let mut changed = six;
    let password = context.credentials.make();
    password.expose().clone_into(&mut changed.auth.password);
    let begun = Instant::now();
    context.upgrade(changed).await.context("change the password")?;
    context.rolling_restart().await.context("restart the pods")?;
    let rotated = begun.elapsed();
    Ok(Operated { up, down, rotated })
}
