//! Passwords change, every key stays.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::checks::password::Credential;
use harness::secret::Password;
use harness::trial::availability::LoadBudget;
use harness::trial::operations::all_replaced;
use manifests::{Mode, Values, Variant};

use crate::Context;
use crate::scaling::hold_beyond_the_ban;
use crate::scenario;
use crate::scenario::{Suite, everywhere};

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "rotation",
    scenarios: &[
        scenario!(by_restart, everywhere, holds),
        scenario!(existing_secret, everywhere, long),
        scenario!(generated_password_survives_an_upgrade, everywhere, long),
        scenario!(without_downtime, everywhere, long),
    ],
};

/// The Secret that a user brings.
const OWN_SECRET: &str = "brought-along";

/// `auth.password` changes: until the restart the servers have the old password and afterwards the new one, each of them
/// alone. Every key and every replica is there, and no shard's last copy in sync was taken down on the way. All stays so.
async fn by_restart(context: &mut Context) -> Result<()> {
    let old = context.new_password();
    let values = with_password(context.values(), &old);
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let new = context.new_password();
    context.upgrade(with_password(values, &new)).await?;
    rotate(context, &old, new).await?;
    // One combination watches for all: what it watches for is in the servers, not in their images.
    if (context.mode(), context.variant()) == (Mode::Cluster, Variant::Rpm) {
        hold_beyond_the_ban(context).await?;
    }
    Ok(())
}

/// The same with a Secret that the user brings and changes: the upgrade itself changes nothing.
async fn existing_secret(context: &mut Context) -> Result<()> {
    let old = context.new_password();
    let mut values = context.values();
    values.auth.existing_secret = OWN_SECRET.to_owned();
    context.put_secret(OWN_SECRET, &old).await?;
    context.servers_have(old.clone());
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let new = context.new_password();
    context.put_secret(OWN_SECRET, &new).await?;
    context.upgrade(values).await?;
    rotate(context, &old, new).await
}

/// The Secret has the new password, the servers have the old one: what a rolling restart makes of it.
async fn rotate(context: &mut Context, old: &Password, new: Password) -> Result<()> {
    context
        .verify_credentials(&[
            only("the old password", old, true),
            only("the new password", &new, false),
        ])
        .await?;
    context.healthy().await?;
    context.verify_data().await?;
    if context.mode() == Mode::Cluster {
        context.start_load().await?;
    }
    context.rolling_restart().await?;
    context.servers_have(new.clone());
    if context.mode() == Mode::Cluster {
        context.stop_load(context.failover_budget()?).await?;
    }
    context
        .verify_credentials(&[
            only("the old password", old, false),
            only("the new password", &new, true),
        ])
        .await?;
    context.verify_data().await?;
    Ok(())
}

/// A password that the chart generated is kept by an upgrade, also when the pods restart.
async fn generated_password_survives_an_upgrade(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    context.install(values.clone()).await?;
    let before = context.healthy().await?;
    context.write_data().await?;
    let password = context.password();
    values
        .pod_annotations
        .insert("example.com/changed".to_owned(), "yes".to_owned());
    context.upgrade(values).await?;
    let after = context.healthy().await?;
    all_replaced(&before, &after)?;
    context
        .verify_credentials(&[only("the generated password", &password, true)])
        .await?;
    context.verify_data().await?;
    Ok(())
}

/// Both passwords are made valid on every server, then the Secret changes, then clients switch: no operation fails. The
/// pods, restarted at leisure, have the new one alone.
async fn without_downtime(context: &mut Context) -> Result<()> {
    let old = context.new_password();
    let values = with_password(context.values(), &old);
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let new = context.new_password();
    context.start_load().await?;
    context.accept_also(&new).await?;
    context.upgrade(with_password(values, &new)).await?;
    context
        .verify_credentials(&[
            only("the old password", &old, true),
            only("the new password", &new, true),
        ])
        .await?;
    let with_the_old = no_operation_failed(context).await?;
    // Clients switch: whoever connects from now on has the new password.
    context.servers_have(new.clone());
    context.start_load().await?;
    context.verify_data().await?;
    let with_the_new = no_operation_failed(context).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a trial does less than 2^53 operations"
    )]
    context.measure("operations_during_rotation", (with_the_old + with_the_new) as f64);
    context.rolling_restart().await?;
    context
        .verify_credentials(&[
            only("the old password", &old, false),
            only("the new password", &new, true),
        ])
        .await?;
    context.verify_data().await?;
    Ok(())
}

/// Stops the writers, none of which may have met anything: no refusal, no broken connection, no silence. Returns how many
/// writes were acknowledged.
async fn no_operation_failed(context: &mut Context) -> Result<u64> {
    let report = context.stop_load(NO_DOWNTIME).await?;
    let shards = report.shards.values();
    let obstacles: Vec<_> = shards.flat_map(|shard| shard.obstacles()).collect();
    ensure!(
        obstacles.is_empty(),
        "operations failed while the password was rotated: {obstacles:?}"
    );
    Ok(report.acknowledged())
}

/// Nothing is lost, and no shard is ever without writes for longer than a busy machine explains.
const NO_DOWNTIME: LoadBudget = LoadBudget {
    unconfirmed_losses: 0,
    longest_gap: Duration::from_secs(2),
};

fn with_password(mut values: Values, password: &Password) -> Values {
    values.auth.password = password.expose().to_owned();
    values
}

fn only(label: &str, password: &Password, accepted: bool) -> Credential {
    Credential {
        label: label.to_owned(),
        password: Some(password.clone()),
        accepted,
    }
}
