//! Passwords change, every key stays.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::checks::password::Credential;
use harness::release::Release;
use harness::secret::Password;
use harness::trial::TrialError;
use harness::trial::availability::LoadBudget;
use harness::trial::operations::all_replaced;
use manifests::{Mode, Values, Variant};

use crate::Context;
use crate::persistence::needs_volumes;
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

/// `auth.password` changes. The servers accept only the old password until the restart, and only
/// the new one afterwards. Every key and every replica is there, and no shard's last copy in sync
/// was taken down. The release stays healthy.
async fn by_restart(context: &mut Context) -> Result<()> {
    needs_password(context)?;
    let old = context.credentials.make();
    let values = with_password(context.values(), &old);
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let new = context.credentials.make();
    context.upgrade(with_password(values, &new)).await?;
    rotate(context, &old, new).await?;
    // One combination watches for all of them, because the result does not depend on the image.
    if (context.mode(), context.variant()) == (Mode::Cluster, Variant::Rpm) {
        hold_beyond_the_ban(context).await?;
    }
    Ok(())
}

/// Rotates through the user's own Secret. The upgrade itself changes nothing.
async fn existing_secret(context: &mut Context) -> Result<()> {
    needs_password(context)?;
    let old = context.credentials.make();
    let mut values = context.values();
    values.auth.existing_secret = OWN_SECRET.to_owned();
    values.auth.password = String::new();
    context.put_secret(OWN_SECRET, &old).await?;
    context.credentials.servers_have(old.clone());
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let new = context.credentials.make();
    context.put_secret(OWN_SECRET, &new).await?;
    context.upgrade(values).await?;
    rotate(context, &old, new).await
}

/// Checks both passwords before and after a rolling restart. At the start, the Secret has the new
/// password and the servers have the old one.
async fn rotate(context: &mut Context, old: &Password, new: Password) -> Result<()> {
    if context.deployment.release().is_some_and(Release::replaces_pods) {
        return follow_by_themselves(context, old, new).await;
    }
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
    context.credentials.servers_have(new.clone());
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

/// Checks a chart with pods that restart by themselves after a change of the password. An example
/// is a pod template with a checksum of the password.
async fn follow_by_themselves(context: &mut Context, old: &Password, new: Password) -> Result<()> {
    context.credentials.servers_have(new.clone());
    context.healthy().await?;
    context
        .verify_credentials(&[
            only("the old password", old, false),
            only("the new password", &new, true),
        ])
        .await?;
    context.verify_data().await?;
    Ok(())
}

/// An upgrade without a password keeps the password that the chart generated, also when the pods
/// restart.
async fn generated_password_survives_an_upgrade(context: &mut Context) -> Result<()> {
    needs_password(context)?;
    let mut values = context.values();
    if !values.needs_password() {
        let reason = "the given values have a password, so none is generated";
        return Err(TrialError::NotJudged(reason.to_owned()).into());
    }
    context.install_as_given(values.clone()).await?;
    let password = context.learn_password().await?;
    let before = context.healthy().await?;
    context.write_data().await?;
    values
        .pod_annotations
        .insert("example.com/changed".to_owned(), "yes".to_owned());
    context.upgrade_as_given(values).await?;
    context.verify_password_is_kept(&password).await?;
    let after = context.healthy().await?;
    all_replaced(&before, &after)?;
    context
        .verify_credentials(&[only("the generated password", &password, true)])
        .await?;
    context.verify_data().await?;
    Ok(())
}

/// Every server accepts both passwords, then the Secret changes, then clients switch. No operation
/// fails. The pods, restarted later, accept only the new password.
async fn without_downtime(context: &mut Context) -> Result<()> {
    needs_password(context)?;
    let old = context.credentials.make();
    let values = with_password(context.values(), &old);
    context.install(values.clone()).await?;
    context.healthy().await?;
    context.write_data().await?;
    let new = context.credentials.make();
    context.start_load().await?;
    context.accept_also(&new).await?;
    context.upgrade(with_password(values, &new)).await?;
    if context.deployment.release().is_some_and(Release::replaces_pods) {
        let reason =
            "the chart replaces its pods with each new password: there is no moment at which both are valid";
        return Err(TrialError::NotJudged(reason.to_owned()).into());
    }
    context
        .verify_credentials(&[
            only("the old password", &old, true),
            only("the new password", &new, true),
        ])
        .await?;
    let with_the_old = no_operation_failed(context).await?;
    // From now on, clients connect with the new password.
    context.credentials.servers_have(new.clone());
    context.start_load().await?;
    context.verify_data().await?;
    let with_the_new = no_operation_failed(context).await?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a trial does less than 2^53 operations"
    )]
    context
        .recorder
        .measure("operations_during_rotation", (with_the_old + with_the_new) as f64);
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

/// Stops the writers, and returns the number of acknowledged writes. Fails if a writer met a
/// refusal, a broken connection or no answer.
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

/// No write is lost, and no shard is without writes for longer than a busy machine explains.
const NO_DOWNTIME: LoadBudget = LoadBudget {
    unconfirmed_losses: 0,
    longest_gap: Duration::from_secs(2),
};

/// Skips the trial without authentication or volumes. Without authentication there is no password
/// to change, and without volumes nothing outlives the restart.
fn needs_password(context: &Context) -> Result<()> {
    needs_volumes(context)?;
    if context.values().auth.enabled {
        return Ok(());
    }
    let reason = "auth.enabled is false: there is no password to change";
    Err(TrialError::NotJudged(reason.to_owned()).into())
}

fn with_password(mut values: Values, password: &Password) -> Values {
    values.auth.existing_secret = String::new();
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
