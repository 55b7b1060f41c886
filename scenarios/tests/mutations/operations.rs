//! Operations that go wrong: data that somebody else changes, and Jobs that leave a part of their work out.

use anyhow::{Context as _, Result};
use harness::release::Bundle;
use harness::trial::Context;
use kube::ResourceExt;

/// How much longer than any trial a key must live to count as one that does not expire meanwhile.
const LONG_LIVED_MS: i64 = 600_000;

/// The key of slot 5 is deleted behind the suite's back.
pub(super) async fn key_deleted(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let key = context.ledger()?.spec().key(5);
    command(context, &["DEL", &key]).await?;
    Ok(context.verify_data().await?)
}

/// A key that should expire is made to live for ever.
pub(super) async fn lifetime_removed(context: &mut Context) -> Result<()> {
    with_data(context).await?;
    let spec = context.ledger()?.spec();
    let after = spec.base_ms + LONG_LIVED_MS;
    let mortal = (0..spec.keys).find(|index| spec.shape(*index).expires_ms.is_some_and(|at| at > after));
    let key = spec.key(mortal.context("the ledger has no mortal key")?);
    command(context, &["PERSIST", &key]).await?;
    Ok(context.verify_data().await?)
}

/// The scale Job takes new pods in, and leaves the slots where they are.
pub(super) async fn rebalance_skipped(context: &mut Context) -> Result<()> {
    let mut values = context.values();
    context.install(values.clone()).await?;
    context.healthy().await?;
    values.cluster.replicas = 8;
    let mut bundle = context.render_upgrade(&values).await?;
    change_job(
        &mut bundle,
        "cluster-scale",
        "  rebalance \"$REPLICAS\" \"$seed\" \"$targets\"\n",
    );
    context.upgrade_bundle(values, bundle).await?;
    context.healthy().await?;
    Ok(())
}

async fn with_data(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    Ok(context.write_data().await?)
}

async fn command(context: &Context, words: &[&str]) -> Result<()> {
    let pods = context.server_pods().await?;
    let pod = pods.first().context("no server runs")?.name_any();
    let mut connection = context.connect(&pod).await?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    connection.send_packed_command(&command).await?;
    Ok(())
}

/// Takes `line` out of the script of the Job whose name ends in `suffix`.
fn change_job(bundle: &mut Bundle, suffix: &str, line: &str) {
    let job = bundle
        .objects_mut()
        .find(|object| {
            object.types.as_ref().is_some_and(|types| types.kind == "Job")
                && object
                    .metadata
                    .name
                    .as_deref()
                    .is_some_and(|name| name.ends_with(suffix))
        })
        .expect("the chart renders the Job");
    let script = &mut job.data["spec"]["template"]["spec"]["containers"][0]["command"][2];
    let text = script.as_str().expect("a script").to_owned();
    assert!(
        text.contains(line),
        "the script is not what this mutation changes"
    );
    *script = serde_json::Value::from(text.replace(line, ""));
}
