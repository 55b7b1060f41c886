//! A release goes forward and back: what an upgrade must keep, and what a rollback restores.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use crate::Context;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "upgrades",
    scenarios: &[
        scenario!(generated_password_is_kept, everywhere),
        scenario!(rollback_restores_the_configuration, everywhere, long),
    ],
};

/// Upgraded without a password, the release keeps the one that it made at its installation.
async fn generated_password_is_kept(context: &mut Context) -> Result<()> {
    context
        .verify_generated_password_is_kept(context.values())
        .await?;
    Ok(())
}

/// A rollback brings back the configuration of the first revision, and every promise holds as before.
async fn rollback_restores_the_configuration(context: &mut Context) -> Result<()> {
    let first = context.values();
    context.install(first.clone()).await?;
    context.healthy().await?;
    let before = configuration(context).await?;
    let mut second = first.clone();
    second.config.maxmemory = "64mb".to_owned();
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

async fn configuration(context: &Context) -> Result<Option<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client(), context.namespace());
    let release = manifests::Release::install(context.release_name(), context.namespace());
    let map = maps.get(&release.fullname(context.installed_values()?)).await?;
    Ok(map.data.and_then(|data| data.get("valkey.conf").cloned()))
}
