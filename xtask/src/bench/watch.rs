//! From a change to its arrival at a hundred watchers. The floor is a byte to and fro over loopback TCP.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Row, milliseconds, percentile_99};

const NAME: &str = "bench-watch";
const WATCHERS: usize = 100;
const CHANGES: usize = 50;

/// Measures every delivery of every change to every watcher.
pub(super) async fn row(client: &Client) -> anyhow::Result<Row> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": NAME}}))?;
    let created = maps.create(&PostParams::default(), &map).await?;
    let version = created
        .resource_version()
        .context("a created object has a version")?;
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        watchers.spawn(watch(maps.clone(), version.clone(), arrivals.clone()));
    }
    // Every watch has begun when each has told of the first change.
    change(&maps, 0).await?;
    collect(&mut arrived, 0).await?;
    let mut measured = Vec::new();
    for index in 1..=CHANGES {
        let began = Instant::now();
        let (changed, moments) = tokio::join!(change(&maps, index), collect(&mut arrived, index));
        changed?;
        measured.extend(moments?.into_iter().map(|moment| moment.duration_since(began)));
    }
    Ok(Row {
        what: "watch delivery, p99, 100 watchers",
        unit: "ms",
        measured: milliseconds(percentile_99(measured)),
        floor: milliseconds(percentile_99(loopback().await?)),
        floor_is: "a byte to and fro over loopback, p99",
        goal: "under 5 ms, the request included".to_owned(),
    })
}

async fn watch(maps: Api<ConfigMap>, version: String, arrivals: mpsc::UnboundedSender<(usize, Instant)>) {
    let params = WatchParams::default().fields(&format!("metadata.name={NAME}"));
    let Ok(events) = maps.watch(&params, &version).await else {
        return;
    };
    let mut events = std::pin::pin!(events);
    while let Ok(Some(event)) = events.try_next().await {
        if let WatchEvent::Modified(map) = event
            && let Some(index) = map.data.and_then(|data| data.get("index")?.parse().ok())
            && arrivals.send((index, Instant::now())).is_err()
        {
            return;
        }
    }
}

async fn change(maps: &Api<ConfigMap>, index: usize) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"data": {"index": index.to_string()}}));
    maps.patch(NAME, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The moments at which the change arrived, one per watcher.
async fn collect(
    arrived: &mut mpsc::UnboundedReceiver<(usize, Instant)>,
    index: usize,
) -> anyhow::Result<Vec<Instant>> {
    let mut moments = Vec::new();
    while moments.len() < WATCHERS {
        let next = tokio::time::timeout(Duration::from_secs(10), arrived.recv()).await;
        let (which, moment) = next
            .context("a watcher missed a change")?
            .context("every watcher ended")?;
        if which == index {
            moments.push(moment);
        }
    }
    Ok(moments)
}

async fn loopback() -> anyhow::Result<Vec<Duration>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        while let Ok(byte) = stream.read_u8().await {
            stream.write_u8(byte).await?;
        }
        std::io::Result::Ok(())
    });
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut measured = Vec::new();
    for _ in 0..WATCHERS * CHANGES {
        let began = Instant::now();
        stream.write_u8(1).await?;
        stream.read_u8().await?;
        measured.push(began.elapsed());
    }
    drop(stream);
    echo.await??;
    Ok(measured)
}
