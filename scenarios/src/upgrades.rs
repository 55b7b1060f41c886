//! A release is upgraded and rolled back: an upgrade keeps the data, and a rollback restores the
//! configuration.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::trial::TrialError;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use crate::Context;
use crate::persistence::needs_volumes;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "upgrades",
    scenarios: &[scenario!(rollback_restores_the_configuration, everywhere, long)],
};

/// Scenarios of charts on disk, which have versions.
pub const OF_CHARTS: Suite = Suite {
    name: "upgrades",
    scenarios: &[scenario!(from_another_version, everywhere, long)],
};

/// A release is upgraded from the older version to the newer one and rolled back, and keeps every
/// key. With `--from-chart`, that chart is the older version. Otherwise the newer version is a copy
/// of the chart with a higher version number.
async fn from_another_version(context: &mut Context) -> Result<()> {
    needs_volumes(context)?;
    let subject = context.environment().subject.clone();
    let versions = subject.versions().await.map_err(TrialError::from)?;
    let (older, newer) = versions.context("the deployment under test has no versions")?;
    context.set_subject(older.clone());
    let before = context.values();
    context.install(before.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.set_subject(newer);
    context.upgrade(context.values()).await?;
    context.healthy().await?;
    context.verify_data().await?;
    context.verify_objects().await?;
    context.helm_test().await?;
    context.write_data().await?;
    context.set_subject(older);
    context.rollback(1, before).await?;
    context.healthy().await?;
    context.verify_data().await?;
    Ok(())
}

/// A rollback restores the configuration of the first revision, and every promise holds as before.
async fn rollback_restores_the_configuration(context: &mut Context) -> Result<()> {
    // A change of the configuration restarts the pods.
    needs_volumes(context)?;
    let first = context.values();
    context.install(first.clone()).await?;
    context.healthy().await?;
    let before = configuration(context).await?;
    let mut second = first.clone();
    second.config.maxmemory = if first.config.maxmemory == "64mb" {
        "65mb".to_owned()
    } else {
        "64mb".to_owned()
    };
    context.upgrade(second).await?;
    context.healthy().await?;
    ensure!(
        configuration(context).await? != before,
        "the upgrade did not change the configuration"
    );
    context.rollback(1, first).await?;
    context.healthy().await?;
    ensure!(
        configuration(context).await? == before,
        "the rollback did not restore the configuration"
    );
    Ok(())
}

/// The text of `valkey.conf`, and `maxmemory` in bytes of each server. A chart may pass the limit
/// on the command line instead.
type Configuration = (Option<String>, BTreeMap<String, Option<u64>>);

async fn configuration(context: &Context) -> Result<Configuration> {
    let seen = context.observe().await?;
    let limits = seen
        .answered()
        .map(|(pod, view)| (pod.to_owned(), view.memory.as_ref().map(|memory| memory.limit)));
    let limits = limits.collect();
    let release = context.deployment.release();
    let Some(map) = release.and_then(|release| release.deployed().config_map()) else {
        return Ok((None, limits));
    };
    let maps: Api<ConfigMap> = Api::namespaced(context.client(), context.namespace());
    let map = maps.get(map.name()).await?;
    Ok((map.data.and_then(|data| data.get("valkey.conf").cloned()), limits))
}
