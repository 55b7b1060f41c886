//! Time from a write until every watcher has it.
//!
//! Each watcher has its own TLS connection, as with kube's client. It records the arrival of the
//! event's last byte; nothing is parsed. The clock starts before the write is sent, so each figure
//! includes the write request. Watchers, writer and server share this machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{AsyncBufRead, AsyncBufReadExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams, WatchParams};
use kube::core::Request;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::stats::percentile_ms;
use super::table::{Figure, Goal, Unit};
use super::{Bench, DEADLINE};

/// Number of watchers.
const WATCHERS: usize = 100;

/// Number of measured writes. Each gives a value per watcher.
const WRITES: usize = 100;

/// Unmeasured writes at the start, which warm up both sides.
const WARM_UP: usize = 10;

/// Size of each event: about that of a pod with its status.
const PAYLOAD: usize = 4 * 1024;

/// A delay at the 99th percentile that nobody notices.
const TARGET_MS: f64 = 5.0;

const NAMESPACE: &str = "default";
const NAME: &str = "bench";
const FLOOR: &str =
    "the same bytes over 100 plain TCP connections on loopback, written by a task that is asked over another";

/// Takes the measurement.
pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let cluster = bench.cluster().await?;
    let measured = watched(&cluster.client()).await;
    cluster.stop().await;
    let (measured, floors) = (measured?, fanned_out().await?);
    let figure = |name, percent, target| Figure {
        name,
        unit: Unit::Milliseconds,
        measured: percentile_ms(&measured, percent),
        floor: percentile_ms(&floors, percent),
        floor_is: FLOOR,
        target,
    };
    Ok(vec![
        figure("watch delivery, p50", 50.0, Goal::None),
        figure("watch delivery, p99", 99.0, Goal::AtMost(TARGET_MS)),
    ])
}

/// Measures writes through the API, read by watches.
async fn watched(client: &Client) -> Result<Vec<Duration>> {
    let objects: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let first = serde_json::from_value(json!({"metadata": {"name": NAME}})).expect("a literal object");
    let first = objects
        .create(&PostParams::default(), &first)
        .await
        .context("the object was refused")?;
    let revision = first.resource_version().context("the object has no revision")?;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let request = Request::new(ConfigMap::url_path(&(), Some(NAMESPACE)))
            .watch(&WatchParams::default(), &revision)
            .context("a watch is a request")?;
        let lines = client
            .request_stream(request)
            .await
            .context("the watch was refused")?;
        watchers.spawn(note_lines(Box::pin(lines), arrived.clone()));
    }
    drop(arrived);
    rounds(&mut arrivals, async |round| {
        let patch = Patch::Merge(event(round));
        objects
            .patch(NAME, &PatchParams::default(), &patch)
            .await
            .context("the write was refused")?;
        Ok(())
    })
    .await
}

/// Returns a change of about the size of a pod's status.
fn event(round: usize) -> Value {
    json!({"data": {"payload": format!("{round:0PAYLOAD$}")}})
}

/// Sends the time of each complete line, until the stream ends or the receiver is gone.
async fn note_lines(mut lines: impl AsyncBufRead + Unpin, arrived: mpsc::UnboundedSender<Instant>) {
    let mut line = Vec::new();
    while lines
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|length| length > 0)
    {
        if arrived.send(Instant::now()).is_err() {
            return;
        }
        line.clear();
    }
}

/// Measures the floor: a task that writes the same bytes to all connections on request.
async fn fanned_out() -> Result<Vec<Duration>> {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("no port can be listened on")?;
    let address = listener.local_addr().context("the listener has no address")?;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut sinks = Vec::new();
    for _ in 0..WATCHERS {
        let (reader, sink) = pair(&listener, address).await?;
        tasks.spawn(note_messages(reader, arrived.clone()));
        sinks.push(sink);
    }
    drop(arrived);
    let (mut writer, asked) = pair(&listener, address).await?;
    tasks.spawn(fan_out(asked, sinks));
    let message = [0; PAYLOAD];
    rounds(&mut arrivals, async |_| {
        writer.write_all(&message).await.context("the connection broke")
    })
    .await
}

async fn pair(listener: &TcpListener, address: std::net::SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let near = TcpStream::connect(address)
        .await
        .context("loopback does not connect")?;
    let (far, _) = listener.accept().await.context("loopback does not connect")?;
    for stream in [&near, &far] {
        stream
            .set_nodelay(true)
            .context("small writes cannot be sent at once")?;
    }
    Ok((near, far))
}

async fn note_messages(mut reader: TcpStream, arrived: mpsc::UnboundedSender<Instant>) {
    let mut message = [0; PAYLOAD];
    while reader.read_exact(&mut message).await.is_ok() && arrived.send(Instant::now()).is_ok() {}
}

async fn fan_out(mut asked: TcpStream, mut sinks: Vec<TcpStream>) {
    let mut message = [0; PAYLOAD];
    while asked.read_exact(&mut message).await.is_ok() {
        for sink in &mut sinks {
            // A reader that is gone shows as a missing arrival.
            let _ = sink.write_all(&message).await;
        }
    }
}

/// Writes repeatedly, each time waiting for all receivers. Returns the delays of all receivers.
async fn rounds(
    arrivals: &mut mpsc::UnboundedReceiver<Instant>,
    mut write: impl AsyncFnMut(usize) -> Result<()>,
) -> Result<Vec<Duration>> {
    let mut waited = Vec::with_capacity(WRITES * WATCHERS);
    for round in 0..WARM_UP + WRITES {
        let sent = Instant::now();
        write(round).await?;
        let mut seen = Vec::with_capacity(WATCHERS);
        tokio::time::timeout(DEADLINE, arrivals.recv_many(&mut seen, WATCHERS))
            .await
            .context("no event arrived")?;
        while seen.len() < WATCHERS {
            let missing = WATCHERS - seen.len();
            let more = tokio::time::timeout(DEADLINE, arrivals.recv_many(&mut seen, missing));
            let more = more
                .await
                .with_context(|| format!("{missing} watchers saw nothing"))?;
            ensure!(more > 0, "the watchers ended");
        }
        if round >= WARM_UP {
            waited.extend(seen.iter().map(|at| at.duration_since(sent)));
        }
    }
    Ok(waited)
}
