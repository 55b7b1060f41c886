//! `cargo xtask bench`: how fast the embedded cluster is, each figure beside a floor that is measured in the same run.
//!
//! A figure alone says as much about the machine as about the code; the ratio to what the machine does without us says
//! something about us. Nothing fails here: a benchmark is read, not asserted.
//!
//! | module | measurement |
//! |---|---|
//! | [`start`] | from nothing to an API that answers, and the supervisor's memory |
//! | [`pod`] | from a pod's creation to its running container |
//! | [`watch`] | from a change to its arrival at a hundred watchers |
//! | [`formation`] | from `helm install` to a cluster of six that every node calls ok |
//! | [`bare`] | the same servers without Kubernetes: the floor of a formation |

mod bare;
mod formation;
mod pod;
mod start;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use embedded_cluster::supervisor::{EmbeddedCluster, Options};
use scenarios::session::{new_run_id, prepare_images};

use crate::cli::BenchArgs;

/// One line of the table.
struct Row {
    what: &'static str,
    unit: &'static str,
    measured: f64,
    floor: f64,
    floor_is: &'static str,
    goal: String,
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("no async runtime could be made")?;
    let rows = runtime.block_on(measure(args))?;
    println!(
        "{:<34} {:>10} {:>10} {:>7}  {:<34} floor",
        "", "measured", "floor", "ratio", "goal"
    );
    for Row {
        what,
        unit,
        measured,
        floor,
        floor_is,
        goal,
    } in rows
    {
        let ratio = measured / floor;
        println!(
            "{what:<34} {measured:>7.1} {unit:<2} {floor:>7.1} {unit:<2} {ratio:>6.2}×  {goal:<34} {floor_is}"
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &BenchArgs) -> anyhow::Result<Vec<Row>> {
    let (store, _) = prepare_images(&args.image_source).await?;
    let repeat = usize::from(args.repeat);
    let options = || Options::new(new_run_id(), &store);
    let mut rows = start::rows(&options, repeat).await?;
    let cluster = EmbeddedCluster::start(options())
        .await
        .map_err(harness::cluster::embedded::start_error)?;
    rows.push(pod::row(&cluster.client(), repeat).await?);
    rows.push(watch::row(&cluster.client()).await?);
    cluster.stop().await;
    rows.push(formation::row(&args.image_source, repeat).await?);
    Ok(rows)
}

/// The middle one of several measurements: a single slow one says nothing.
fn median(mut measured: Vec<Duration>) -> Duration {
    measured.sort();
    measured.get(measured.len() / 2).copied().unwrap_or_default()
}

/// The measurement that 99 of 100 do not exceed.
fn percentile_99(mut measured: Vec<Duration>) -> Duration {
    measured.sort();
    let index = (measured.len() * 99).div_ceil(100).saturating_sub(1);
    measured.get(index).copied().unwrap_or_default()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_99th_are_of_the_sorted_measurements() {
        let measured: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(median(measured.clone()), Duration::from_millis(51));
        assert_eq!(percentile_99(measured), Duration::from_millis(99));
        assert_eq!(
            percentile_99(vec![Duration::from_millis(7)]),
            Duration::from_millis(7)
        );
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }
}
