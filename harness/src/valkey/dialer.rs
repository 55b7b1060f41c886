//! How a byte stream to a pod's Valkey port comes about.
//!
//! The harness dials through the Kubernetes API (`pods/portforward`); the tests of this crate dial TCP. Nothing
//! above this trait knows which. It opens streams; it does not speak Valkey (see [`connection`](super::connection)).

use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A duplex byte stream, whatever carries it.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for S {}

/// An owned duplex byte stream.
pub type BoxedStream = Box<dyn ByteStream>;

/// Opens byte streams to the Valkey port of pods, by pod name.
///
/// It is object-safe on purpose: one `Arc<dyn Dialer>` is shared by every client of a release.
pub trait Dialer: Send + Sync + 'static {
    /// Opens a new stream to the Valkey port of the pod called `pod`.
    ///
    /// # Errors
    /// Whatever the transport reports; `ConnectionRefused` when nothing listens there, `NotFound` when there is no such pod.
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>>;
}
