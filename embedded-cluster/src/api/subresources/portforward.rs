//! `pods/portforward` over a WebSocket, as kube-rs speaks it: two channels per port, for data and
//! errors.
//!
//! kubectl tunnels SPDY through its WebSocket instead. The server does not support SPDY and refuses
//! it by name.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::SplitStream;
use http::request::Parts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::channels;
use super::pod_target;
use crate::api::object::text;
use crate::api::request::RequestContext;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::runtime::{PodKey, PodRuntime};

/// The protocol of WebSocket port-forwards.
const PROTOCOLS: &[&str] = &["v4.channel.k8s.io"];

/// Bytes read at once.
const BUFFER: usize = 32 * 1024;

/// Pieces that may wait for a slow client. Beyond them reading stops.
const BACKLOG: usize = 16;

/// Handles `GET` or `POST …/pods/NAME/portforward?ports=…`.
pub(super) async fn connect(
    server: &ApiServer,
    ctx: &RequestContext,
    parts: Parts,
) -> Result<Response, ApiError> {
    let (pod, key) = pod_target::pod(server, ctx)?;
    if text(&pod.value, &["spec", "nodeName"]).is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            ctx.name
        )));
    }
    let phase = text(&pod.value, &["status", "phase"]);
    if phase != "Running" {
        let message = format!("unable to forward port because pod is not running. Current status={phase}");
        return Err(ApiError::bad_request(message));
    }
    let upgrade = channels::upgrade(parts, PROTOCOLS).await?;
    let ports = ports(ctx)?;
    let runtime = Arc::clone(server.runtime()?);
    Ok(upgrade.on_upgrade(move |socket| run(socket, runtime, key, ports)))
}

fn ports(ctx: &RequestContext) -> Result<Vec<u16>, ApiError> {
    let given = ctx.options.all("ports");
    let texts: Vec<&str> = given
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .collect();
    let ports: Option<Vec<u16>> = texts
        .iter()
        .map(|text| text.parse().ok().filter(|port| *port != 0))
        .collect();
    match ports {
        Some(ports) if !ports.is_empty() && ports.len() <= 127 => Ok(ports),
        _ => Err(ApiError::bad_request(format!(
            "query parameter \"ports\" must name 1 to 127 ports, got {texts:?}"
        ))),
    }
}

async fn run(socket: WebSocket, runtime: Arc<dyn PodRuntime>, key: PodKey, ports: Vec<u16>) {
    let (mut sink, source) = socket.split();
    let (output, mut pieces) = mpsc::channel::<(u8, Bytes)>(BACKLOG);
    for (index, port) in ports.iter().enumerate() {
        for channel in [data_channel(index), data_channel(index) + 1] {
            if !channels::send(&mut sink, channel, &port.to_le_bytes()).await {
                return;
            }
        }
    }
    let connections = join_all(
        ports
            .iter()
            .enumerate()
            .map(|(index, port)| open(&*runtime, &key, index, *port, &output)),
    )
    .await;
    drop(output);
    let (readers, writers): (Vec<_>, Vec<_>) = connections.into_iter().unzip();
    let forward = async {
        while let Some((channel, bytes)) = pieces.recv().await {
            if !channels::send(&mut sink, channel, &bytes).await {
                return;
            }
        }
    };
    let from_pod = async { tokio::join!(join_all(readers.into_iter().flatten().map(pump)), forward) };
    tokio::select! {
        // The pod has closed every connection, so nothing is left to send.
        _ = from_pod => {}
        () = to_pod(source, writers) => {}
    }
    channels::close(&mut sink).await;
}

/// Returns the channel of the port's data. The next channel carries its errors.
fn data_channel(index: usize) -> u8 {
    u8::try_from(index * 2).expect("at most 127 ports were accepted")
}

struct Reader {
    half: OwnedReadHalf,
    channel: u8,
    out: mpsc::Sender<(u8, Bytes)>,
}

async fn open(
    runtime: &dyn PodRuntime,
    key: &PodKey,
    index: usize,
    port: u16,
    out: &mpsc::Sender<(u8, Bytes)>,
) -> (Option<Reader>, Option<OwnedWriteHalf>) {
    let channel = data_channel(index);
    match runtime
        .connect(key.clone(), port)
        .await
        .map(TcpStream::into_split)
    {
        Ok((half, writer)) => (
            Some(Reader {
                half,
                channel,
                out: out.clone(),
            }),
            Some(writer),
        ),
        Err(error) => {
            let text = format!(
                "error forwarding port {port} to pod {}, uid {}: {}",
                key.name,
                key.uid,
                pod_target::with_cause(&error)
            );
            drop(out.send((channel + 1, Bytes::from(text))).await);
            (None, None)
        }
    }
}

async fn pump(mut reader: Reader) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = reader.half.read(&mut buffer).await {
        if reader
            .out
            .send((reader.channel, Bytes::copy_from_slice(&buffer[..count])))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Forwards the client's data to the pod. Returns when the client is gone.
async fn to_pod(mut source: SplitStream<WebSocket>, mut writers: Vec<Option<OwnedWriteHalf>>) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => continue,
        };
        let Some((channel, data)) = bytes.split_first() else {
            continue;
        };
        let Some(slot) = writers
            .get_mut(usize::from(channel / 2))
            .filter(|_| channel % 2 == 0)
        else {
            continue;
        };
        if let Some(writer) = slot
            && writer.write_all(data).await.is_err()
        {
            *slot = None;
        }
    }
}
