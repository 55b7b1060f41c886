//! `channel.k8s.io`: several byte streams over one WebSocket. Each message starts with its channel.

use axum::RequestPartsExt;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use bytes::{BufMut, BytesMut};
use futures::SinkExt;
use futures::stream::SplitSink;
use http::header;
use http::request::Parts;

use crate::api::status::ApiError;

/// Standard input.
pub(super) const STDIN: u8 = 0;
/// Standard output.
pub(super) const STDOUT: u8 = 1;
/// Standard error.
pub(super) const STDERR: u8 = 2;
/// The final `Status`.
pub(super) const ERROR: u8 = 3;
/// Terminal sizes.
pub(super) const RESIZE: u8 = 4;
/// In version 5: the end of the channel named by the second byte.
pub(super) const CLOSE: u8 = 255;

/// Bytes per read: one TLS record. tungstenite clears as much before every read, by default 128
/// KiB.
const READ_BUFFER: usize = 16 * 1024;

/// Accepts the upgrade when the client speaks one of these protocols.
pub(super) async fn upgrade(
    mut parts: Parts,
    protocols: &'static [&'static str],
) -> Result<WebSocketUpgrade, ApiError> {
    if let Some(other) = unsupported_upgrade(&parts) {
        return Err(ApiError::bad_request(format!(
            "not supported by the embedded cluster: upgrade to {other}; only WebSockets with {} are",
            protocols.join(", ")
        )));
    }
    let offered: Vec<String> = parts
        .headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|protocol| protocol.trim().to_owned()))
        .collect();
    if !offered
        .iter()
        .any(|protocol| protocols.contains(&protocol.as_str()))
    {
        return Err(ApiError::bad_request(format!(
            "not supported by the embedded cluster: WebSocket protocols [{}]; only [{}] are",
            offered.join(", "),
            protocols.join(", ")
        )));
    }
    let upgrade = parts
        .extract::<WebSocketUpgrade>()
        .await
        .map_err(|rejection| ApiError::bad_request(format!("Upgrade request required: {rejection}")))?;
    Ok(upgrade
        .read_buffer_size(READ_BUFFER)
        .protocols(protocols.iter().copied()))
}

fn unsupported_upgrade(parts: &Parts) -> Option<String> {
    let upgrade = parts.headers.get(header::UPGRADE)?.to_str().ok()?;
    (!upgrade.eq_ignore_ascii_case("websocket")).then(|| upgrade.to_owned())
}

/// Sends bytes on a channel. Returns false when the client is gone.
pub(super) async fn send(sink: &mut SplitSink<WebSocket, Message>, channel: u8, bytes: &[u8]) -> bool {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    sink.send(Message::Binary(message.freeze())).await.is_ok()
}

/// Closes the WebSocket. A client that is already gone is no error.
pub(super) async fn close(sink: &mut SplitSink<WebSocket, Message>) {
    let frame = axum::extract::ws::CloseFrame {
        code: axum::extract::ws::close_code::NORMAL,
        reason: "".into(),
    };
    drop(sink.send(Message::Close(Some(frame))).await);
}
