//! Speed of the ledger and the load on one bare server, next to a plain benchmark tool.
//!
//! The ledger writes, reads back and checks a million keys. The tool sets and gets as many of the
//! same size, with the same pipelining. The load is compared with as many clients that write at
//! full speed and keep no account.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::secret::Password;
use harness::valkey::ledger::{
    Ledger, LedgerServers as Servers, LedgerSpec, Mix, VerifyOptions, WriteOptions,
};
use harness::valkey::load::{Load, LoadOptions};
use harness::valkey::{Connection, dial_and_connect};
use manifests::release::CLIENT_PORT;
use tokio::process::Command;

use super::Bench;
use super::bare::{BareCluster, address};
use super::table::{Figure, Goal, Unit};

/// Number of keys that are written and verified.
const KEYS: u64 = 1_000_000;

/// The allowed ratio of the ledger's time to that of the benchmark tool.
const TIMES_BENCHMARK: f64 = 1.5;

/// The ledger's own settings: requests per batch, and connections.
const PIPELINE: &str = "1024";
const CONNECTIONS: &str = "2";

/// Number of concurrent writers. Each pauses for a millisecond, a timer's least, so few writers
/// would measure only the pause.
const WRITERS: u16 = 64;

/// Duration of the load.
const LOADED: Duration = Duration::from_secs(3);

/// Known benchmark tools, by preference. The second comes with Debian's redis-tools.
const TOOLS: [&str; 2] = ["valkey-benchmark", "redis-benchmark"];

/// The password of the server during the measurement: none.
const NO_PASSWORD: Option<Password> = None;

/// A server without cluster support, which suits every benchmark tool.
const CONFIGURATION: &str = "port 6379\nsave \"\"\nappendonly no\n";

/// Takes the measurements. Without a benchmark tool, the ledger is skipped with a note.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let bare = BareCluster::new(&bench.binaries, CONFIGURATION)?;
    let name = address(1).to_string();
    let mut server = bare.start(&name)?;
    // The tools accept a password only as an argument, which everybody on the machine could read.
    redis::cmd("ACL")
        .arg(&["SETUSER", "default", "nopass"])
        .query_async::<()>(&mut bare.answers(&name).await?)
        .await
        .context("the server does not drop its password")?;
    let figures = measure_on(&bare, &name).await;
    server.kill().await.context("the server does not end")?;
    figures
}

async fn measure_on(bare: &BareCluster, name: &str) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    match tool() {
        None => eprintln!(
            "note: without {} on PATH, the ledger is not measured",
            TOOLS.join(" or ")
        ),
        Some(tool) => {
            let floor = benchmark(&tool, name).await?;
            // Both begin with an empty server. A half-full hash table grows during the measurement
            // and misses caches.
            redis::cmd("FLUSHALL")
                .query_async::<()>(&mut connect(bare, name).await?)
                .await
                .context("the server does not drop its keys")?;
            let measured = ledger(bare, name).await?;
            figures.push(Figure {
                name: "ledger, a million keys",
                unit: Unit::Milliseconds,
                measured: milliseconds(measured),
                floor: milliseconds(floor),
                floor_is: "a benchmark tool that sets and gets as many, with the same pipelining on the same server, as empty",
                target: Goal::TimesFloor(TIMES_BENCHMARK),
            });
        }
    }
    figures.push(Figure {
        name: "load, per acknowledged write",
        unit: Unit::Milliseconds,
        measured: load(bare, name).await?,
        floor: alone(bare, name).await?,
        floor_is: "as many clients that append to a list each, as fast as they are answered",
        target: Goal::None,
    });
    Ok(figures)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn tool() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path)
        .flat_map(|folder| TOOLS.map(|tool| folder.join(tool)))
        .filter(|tool| tool.is_file());
    found.next()
}

/// Sets and gets a million keys.
async fn benchmark(tool: &Path, name: &str) -> Result<Duration> {
    let (keys, port) = (KEYS.to_string(), CLIENT_PORT.to_string());
    let mut command = Command::new(tool);
    command
        .args(["-h", name, "-p", &port, "-n", &keys, "-r", &keys])
        .args(["-P", PIPELINE, "-c", CONNECTIONS, "-t", "set,get", "-q"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let begun = Instant::now();
    let output = command
        .output()
        .await
        .context("the benchmark tool cannot be run")?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    ensure!(
        output.status.success() && said[0].contains("GET"),
        "the benchmark tool failed:\n{}",
        said.concat()
    );
    Ok(begun.elapsed())
}

async fn ledger(bare: &BareCluster, name: &str) -> Result<Duration> {
    let folder = tempfile::tempdir().context("failed to create a temporary folder")?;
    let spec = LedgerSpec {
        label: "bench".to_owned(),
        seed: 0,
        keys: KEYS,
        mix: Mix::Plain,
        base_ms: jiff::Timestamp::now().as_millisecond(),
    };
    let servers = Servers::new(bare.dialer(), NO_PASSWORD, vec![name.to_owned()]);
    let begun = Instant::now();
    let ledger = Ledger::create(folder.path(), spec)?;
    let written = ledger.write(&servers, &WriteOptions::default()).await?;
    let found = ledger.verify(&servers, &VerifyOptions::default()).await;
    let took = begun.elapsed();
    ensure!(
        written.acknowledged == KEYS,
        "not all was acknowledged: {written:?}"
    );
    let broken = found.violations(0);
    ensure!(broken.is_empty(), "not all was found: {broken:?}");
    Ok(took)
}

/// Returns the milliseconds of the load per acknowledged write.
async fn load(bare: &BareCluster, name: &str) -> Result<f64> {
    let options = LoadOptions {
        writers_per_shard: WRITERS,
        confirming_per_shard: 0,
        pace: Duration::ZERO,
        ..LoadOptions::default()
    };
    let load = Load::start(bare.dialer(), NO_PASSWORD, vec![name.to_owned()], options).await?;
    // Time itself is measured.
    tokio::time::sleep_until(tokio::time::Instant::now() + LOADED).await;
    let report = load.stop().await;
    let acknowledged: u64 = report.acknowledged();
    ensure!(acknowledged > 0, "nothing was acknowledged: {report:?}");
    Ok(per_write(LOADED, acknowledged))
}

/// Measures as many clients without any accounting.
async fn alone(bare: &BareCluster, name: &str) -> Result<f64> {
    let begun = Instant::now();
    let clients = (0..WRITERS).map(|client| append(bare, name, client));
    let written = futures::future::try_join_all(clients).await?;
    Ok(per_write(begun.elapsed(), written.into_iter().sum()))
}

async fn append(bare: &BareCluster, name: &str, client: u16) -> Result<u64> {
    let mut connection = connect(bare, name).await?;
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < LOADED {
        redis::cmd("RPUSH")
            .arg(format!("alone-{client}"))
            .arg(number)
            .query_async::<u64>(&mut connection)
            .await
            .context("a write was refused")?;
        number += 1;
    }
    Ok(number)
}

async fn connect(bare: &BareCluster, name: &str) -> Result<Connection> {
    dial_and_connect(bare.dialer().as_ref(), name, NO_PASSWORD.as_ref())
        .await
        .context("the server does not answer")
}

fn per_write(duration: Duration, writes: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a run makes far fewer than 2^52 writes"
    )]
    let writes = writes as f64;
    milliseconds(duration) / writes
}
