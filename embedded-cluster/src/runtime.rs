//! The node's interface for the API server: a pod's `log`, `exec`, `attach` and `portforward`
//! subresources.
//!
//! The API server owns HTTP, WebSocket framing and Kubernetes `Status` objects. The node owns
//! processes and network namespaces. This trait is their only direct interface: everything else
//! goes through the API.

use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// One pod instance. The UID distinguishes a pod from its successor of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
}

/// Options of `GET …/pods/NAME/log`, after the API server has parsed and checked them.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// True to keep the stream open and send new lines as they are written.
    pub follow: bool,
    /// True to read the log of the container's previous instance.
    pub previous: bool,
    /// Number of last lines to send; `None` sends all.
    pub tail_lines: Option<u64>,
    /// Maximum number of bytes to send.
    pub limit_bytes: Option<u64>,
    /// Time of the oldest line to send.
    pub since: Option<jiff::Timestamp>,
    /// True to prefix each line with its RFC 3339 timestamp.
    pub timestamps: bool,
}

/// A command to run inside a container, and the streams that the client wants.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Name of the container; the API server has resolved the default.
    pub container: String,
    /// The command and its arguments, never empty.
    pub command: Vec<String>,
    /// True if the client will send standard input.
    pub stdin: bool,
    /// True if the client wants standard output.
    pub stdout: bool,
    /// True if the client wants standard error (merged into stdout when `tty`).
    pub stderr: bool,
    /// True to run the command on a pseudo-terminal.
    pub tty: bool,
}

/// A process running inside a container on a client's behalf. Dropping it kills the process.
pub struct ExecSession {
    /// Writer for standard input; `None` unless the client asked for it.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output; ends when the process and its children have closed it.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Terminal sizes as (columns, rows); `None` without a terminal.
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Exit code of the process (128 + signal number when it was killed).
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// The reasons why the node cannot serve a request. The API server turns each into a Kubernetes
/// `Status`.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The pod or container is not (or no longer) on this node: HTTP 404.
    #[error("container {container:?} of pod {namespace}/{pod} not found")]
    NotFound {
        /// Namespace of the pod asked for.
        namespace: String,
        /// Name of the pod asked for.
        pod: String,
        /// Name of the container asked for.
        container: String,
    },
    /// The state of the container does not allow the request: HTTP 400.
    #[error("{0}")]
    BadRequest(String),
    /// The command could not be started (not found, not executable). The text is the message that
    /// runc would print.
    #[error("{0}")]
    CannotExec(String),
    /// The node itself failed: HTTP 500.
    #[error("node failed to {what}")]
    Io {
        /// The action.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The node, as the API server sees it.
pub trait PodRuntime: Send + Sync + 'static {
    /// Streams the log of one container, from the beginning unless `options` say otherwise.
    fn logs(
        &self,
        pod: PodKey,
        container: String,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, io::Result<Bytes>>, RuntimeError>>;

    /// Starts a command inside a running container.
    fn exec(&self, pod: PodKey, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>>;

    /// Connects to `localhost:port` inside the pod's network namespace, as `kubectl port-forward`
    /// does.
    fn connect(&self, pod: PodKey, port: u16) -> BoxFuture<'_, Result<tokio::net::TcpStream, RuntimeError>>;
}
