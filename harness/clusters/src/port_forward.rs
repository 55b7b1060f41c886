//! Access to a pod's Valkey through the Kubernetes API. No provider needs routable pod addresses.
//!
//! The protocol is `v4.channel.k8s.io` over a WebSocket, as `kubelet` speaks it. Each message
//! begins with its channel. Each port has two channels: data and errors. The first message of each
//! channel repeats the port.
//!
//! kube's own `Portforwarder` passes data through three tasks and two pipes, and clears 128 KiB
//! before each read. A run opens thousands of these streams, so `Portforwarder` took a quarter of
//! the harness's CPU time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use valkey::dialer::{BoxedStream, Dialer};

/// The data channel of the only port.
const DATA: u8 = 0;
/// The error channel of the only port.
const ERRORS: u8 = 1;

/// Bytes read at once and cleared before each read: one TLS record.
const READ_BUFFER: usize = 16 * 1024;

/// The longest message to send. The API server may copy each message as a whole.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// Opens streams with `pods/portforward`.
#[derive(Clone)]
pub struct PortForward {
    client: kube::Client,
    pods: String,
    port: u16,
}

impl PortForward {
    /// Creates a connector for `port` of pods in `namespace`.
    pub fn new(client: kube::Client, namespace: &str, port: u16) -> Self {
        Self {
            client,
            pods: Pod::url_path(&(), Some(namespace)),
            port,
        }
    }
}

impl Dialer for PortForward {
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let request = Request::new(&self.pods).portforward(pod, &[self.port]);
            let connection = self.client.connect(request.map_err(io::Error::other)?).await;
            let socket = connection.map_err(io_error)?.into_stream().into_inner();
            Ok(Box::new(ForwardedPort::over(socket).await) as BoxedStream)
        })
    }
}

fn io_error(error: kube::Error) -> io::Error {
    let kind = match &error {
        kube::Error::Api(status) if status.code == 404 => io::ErrorKind::NotFound,
        kube::Error::Api(status) if status.code == 400 => io::ErrorKind::ConnectionRefused,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// The byte stream of one forwarded port. Dropping it ends the forwarding.
struct ForwardedPort<S> {
    socket: WebSocketStream<S>,
    /// Bytes that were received and not read yet.
    pending: Bytes,
    /// True for each channel that has named its port.
    named: [bool; 2],
    /// True if some bytes may not have been sent yet.
    unsent: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ForwardedPort<S> {
    /// Wraps `socket` right after its upgrade to a WebSocket.
    async fn over(socket: S) -> Self {
        // Written bytes leave at once, as from a TCP stream, because not every caller flushes.
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0);
        Self {
            socket: WebSocketStream::from_raw_socket(socket, Role::Client, Some(config)).await,
            pending: Bytes::new(),
            named: [false; 2],
            unsent: false,
        }
    }

    /// Handles one received message.
    fn take(&mut self, message: Message) -> io::Result<()> {
        let Message::Binary(mut bytes) = message else {
            return Ok(());
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let channel = bytes.get_u8();
        let Some(named) = self.named.get_mut(usize::from(channel)) else {
            return Err(malformed(&format!("a message of channel {channel}")));
        };
        if !std::mem::replace(named, true) {
            return match bytes.len() {
                2 => Ok(()),
                length => Err(malformed(&format!("{length} bytes instead of a port"))),
            };
        }
        match channel {
            DATA => self.pending = bytes,
            ERRORS if !bytes.is_empty() => return Err(refusal(&bytes)),
            _ => {}
        }
        Ok(())
    }
}

/// Converts the node's refusal into an error, when it cannot reach the port.
fn refusal(text: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(text);
    let kind = if text.to_ascii_lowercase().contains("connection refused") {
        io::ErrorKind::ConnectionRefused
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, text.trim().to_owned())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("port-forward: unexpected {what}"),
    )
}

fn transport(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ForwardedPort<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A caller that waits for an answer expects its request to leave, even if there was no room
        // at first.
        if self.unsent
            && let Poll::Ready(Err(error)) = self.as_mut().poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        while self.pending.is_empty() {
            match ready!(self.socket.poll_next_unpin(cx)) {
                // The close was announced; the connection itself may take a while to end.
                Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(message)) => self.take(message)?,
                // The end of the stream, announced or not: a killed pod announces nothing.
                None
                | Some(Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(transport(error))),
            }
        }
        let count = into.remaining().min(self.pending.len());
        into.put_slice(&self.pending.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ForwardedPort<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.socket.poll_ready_unpin(cx)).map_err(transport)?;
        let count = bytes.len().min(LONGEST_MESSAGE);
        let mut message = BytesMut::with_capacity(count + 1);
        message.put_u8(DATA);
        message.put_slice(&bytes[..count]);
        self.unsent = true;
        let sent = self.socket.start_send_unpin(Message::Binary(message.freeze()));
        Poll::Ready(sent.map(|()| count).map_err(transport))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.socket.poll_flush_unpin(cx).map_err(transport);
        self.unsent &= flushed.is_pending();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_close_unpin(cx).map_err(transport)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// Returns a forwarded port and the node's end, which has named the port on both channels.
    async fn forwarded() -> (ForwardedPort<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(512 * 1024);
        let mut node = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        for channel in [DATA, ERRORS] {
            say(&mut node, channel, &6379u16.to_le_bytes()).await;
        }
        (ForwardedPort::over(ours).await, node)
    }

    /// Awaits `what` for a short time, so that a missing event fails the test instead of hanging
    /// it.
    async fn soon<T>(what: impl Future<Output = T>) -> T {
        let came = tokio::time::timeout(Duration::from_secs(10), what).await;
        came.expect("it comes within ten seconds")
    }

    async fn say(node: &mut WebSocketStream<DuplexStream>, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        node.send(Message::Binary(message.into())).await.expect("it fits");
    }

    #[tokio::test]
    async fn what_is_sent_and_what_comes_is_the_ports_data() {
        let (mut port, mut node) = forwarded().await;
        let long = vec![7; LONGEST_MESSAGE + 1];
        port.write_all(&long).await.expect("it fits");
        port.flush().await.expect("it is sent");
        let mut came = Vec::new();
        while came.len() < long.len() {
            let message = soon(node.next())
                .await
                .expect("more")
                .expect("a message")
                .into_data();
            assert_eq!(message[0], DATA);
            assert!(message.len() <= LONGEST_MESSAGE + 1, "{}", message.len());
            came.extend_from_slice(&message[1..]);
        }
        assert_eq!(came, long);

        say(&mut node, DATA, b"+PO").await;
        say(&mut node, DATA, b"").await;
        say(&mut node, DATA, b"NG\r\n").await;
        let mut answer = [0; 7];
        soon(port.read_exact(&mut answer)).await.expect("an answer");
        assert_eq!(&answer, b"+PONG\r\n");
        node.send(Message::Close(None)).await.expect("it fits");
        assert_eq!(soon(port.read(&mut answer)).await.expect("the end"), 0);
    }

    #[tokio::test]
    async fn a_write_larger_than_the_buffer_arrives_without_a_flush() {
        let (ours, theirs) = tokio::io::duplex(16);
        let mut port = ForwardedPort::over(ours).await;
        let mut node = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let question = [7; 100];
        let echo = async {
            for channel in [DATA, ERRORS] {
                say(&mut node, channel, &6379u16.to_le_bytes()).await;
            }
            let asked = soon(node.next())
                .await
                .expect("a question")
                .expect("whole")
                .into_data();
            say(&mut node, DATA, &asked[1..]).await;
        };
        let ask = async {
            port.write_all(&question).await.expect("it is taken");
            let mut answer = [0; 100];
            soon(port.read_exact(&mut answer)).await.expect("an answer");
            assert_eq!(answer, question);
        };
        tokio::join!(echo, ask);
    }

    #[tokio::test]
    async fn what_the_node_cannot_reach_is_an_error_that_says_why() {
        let (mut port, mut node) = forwarded().await;
        say(
            &mut node,
            ERRORS,
            b"error forwarding port 6379 to pod vk-0: Connection refused (os error 111)",
        )
        .await;
        let error = soon(port.read(&mut [0; 8])).await.expect_err("it is refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().contains("forwarding port 6379 to pod vk-0"),
            "{error}"
        );

        let (mut port, mut node) = forwarded().await;
        say(&mut node, ERRORS, b"error forwarding port 6379: no such pod").await;
        let error = soon(port.read(&mut [0; 8])).await.expect_err("there is no pod");
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::Other, "error forwarding port 6379: no such pod")
        );
    }

    #[tokio::test]
    async fn a_port_ends_with_its_node_and_refuses_unknown_messages() {
        let (mut port, node) = forwarded().await;
        drop(node);
        assert_eq!(soon(port.read(&mut [0; 8])).await.expect("the end"), 0);

        let (mut port, mut node) = forwarded().await;
        say(&mut node, 9, b"x").await;
        let error = soon(port.read(&mut [0; 8])).await.expect_err("no such channel");
        assert_eq!(
            error.to_string(),
            "port-forward: unexpected a message of channel 9"
        );

        let (ours, theirs) = tokio::io::duplex(1024);
        let mut node = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        say(&mut node, DATA, b"abc").await;
        let error = soon(ForwardedPort::over(ours).await.read(&mut [0; 8]))
            .await
            .expect_err("no port");
        assert_eq!(
            error.to_string(),
            "port-forward: unexpected 3 bytes instead of a port"
        );
    }
}
