//! From nothing to an API that answers. The floor is one start of the same executable: a supervisor is three of them.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use embedded_cluster::supervisor::{EmbeddedCluster, Options};

use super::{Row, median, milliseconds};

/// Measures the start, and the memory of the running supervisor against that of this process.
pub(super) async fn rows(options: &impl Fn() -> Options, repeat: usize) -> anyhow::Result<Vec<Row>> {
    let (mut starts, mut memory) = (Vec::new(), 0.0);
    for _ in 0..repeat {
        let began = Instant::now();
        let cluster = EmbeddedCluster::start(options())
            .await
            .map_err(harness::cluster::embedded::start_error)?;
        cluster
            .client()
            .apiserver_version()
            .await
            .context("the API of a new cluster did not answer")?;
        starts.push(began.elapsed());
        memory = resident_mib(cluster.pid())?;
        cluster.stop().await;
    }
    let mut floors = Vec::new();
    let executable = std::env::current_exe().context("this executable has no path")?;
    for _ in 0..repeat {
        let began = Instant::now();
        let mut command = Command::new(&executable);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .context("this executable does not run")?;
        floors.push(began.elapsed());
    }
    Ok(vec![
        Row {
            what: "cluster ready to serve",
            unit: "ms",
            measured: milliseconds(median(starts)),
            floor: milliseconds(median(floors)),
            floor_is: "one start of this executable",
            goal: "under 250 ms".to_owned(),
        },
        Row {
            what: "supervisor resident, idle",
            unit: "MB",
            measured: memory,
            floor: resident_mib(std::process::id())?,
            floor_is: "this process",
            goal: "under 100 MB".to_owned(),
        },
    ])
}

/// Resident memory of a process and its descendants, in MiB.
fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("process {pid} has no status"))?;
    let own = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let own: f64 = own
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0.0);
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut total = own / 1024.0;
    if pid != std::process::id() {
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            total += resident_mib(child)?;
        }
    }
    Ok(total)
}
