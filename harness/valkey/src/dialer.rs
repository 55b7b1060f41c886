//! The interface that opens a byte stream to a pod's Valkey port.
//!
//! The harness dials through the Kubernetes API (`pods/portforward`); the tests of this crate dial
//! TCP. Users of the trait do not know the transport. The Valkey protocol is in
//! [`connection`](super::connection).

use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A duplex byte stream over any transport.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for S {}

/// An owned duplex byte stream.
pub type BoxedStream = Box<dyn ByteStream>;

/// Opens byte streams to the Valkey port of pods, by pod name.
///
/// The trait is object-safe: one `Arc<dyn Dialer>` is shared by every client of a release.
pub trait Dialer: Send + Sync + 'static {
    /// Opens a new stream to the Valkey port of the pod called `pod`.
    ///
    /// # Errors
    /// Whatever the transport reports; `ConnectionRefused` if nothing listens there, `NotFound` if
    /// the pod does not exist.
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>>;
}
