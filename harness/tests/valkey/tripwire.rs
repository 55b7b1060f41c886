//! A dialer that triggers an act once a server has sent a number of bytes. It is always the same
//! place in the middle of a pipeline.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use futures::future::BoxFuture;
use harness::valkey::{BoxedStream, Dialer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::servers::TcpDialer;

/// The act that the tripwire triggers.
pub(crate) enum Act {
    /// Cuts the connection that brought the last byte.
    Cut,
    /// Runs this while all connections to the server are held up.
    Run(Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>),
}

/// Dials like [`TcpDialer`], and triggers the act.
#[derive(Clone)]
pub(crate) struct Tripwire {
    inner: TcpDialer,
    wire: Arc<Wire>,
}

struct Wire {
    pod: String,
    after: usize,
    seen: AtomicUsize,
    tripped: AtomicBool,
    /// True while the act runs; `waiting` has the connections that wait for its end.
    acting: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    act: Act,
}

impl Tripwire {
    /// Triggers `act` when `after` bytes have come from `pod`, over all connections.
    pub(crate) fn new(inner: TcpDialer, pod: &str, after: usize, act: Act) -> Self {
        let wire = Wire {
            pod: pod.to_owned(),
            after,
            seen: AtomicUsize::new(0),
            tripped: AtomicBool::new(false),
            acting: AtomicBool::new(false),
            waiting: Mutex::default(),
            act,
        };
        let wire = Arc::new(wire);
        Self { inner, wire }
    }

    /// Returns true if the act was triggered.
    pub(crate) fn tripped(&self) -> bool {
        self.wire.tripped.load(Ordering::SeqCst)
    }
}

impl Wire {
    /// Counts bytes, and returns true if these trigger the act.
    fn trips(&self, bytes: usize) -> bool {
        let seen = self.seen.fetch_add(bytes, Ordering::SeqCst) + bytes;
        seen >= self.after && !self.tripped.swap(true, Ordering::SeqCst)
    }

    /// Returns true if a connection must wait. It is woken when the act ends.
    fn holds_up(&self, context: &Context<'_>) -> bool {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        let acting = self.acting.load(Ordering::SeqCst);
        if acting {
            waiting.push(context.waker().clone());
        }
        acting
    }

    fn go_on(&self) {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        self.acting.store(false, Ordering::SeqCst);
        waiting.drain(..).for_each(Waker::wake);
    }
}

impl Dialer for Tripwire {
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let stream = self.inner.dial(pod).await?;
            if pod != self.wire.pod {
                return Ok(stream);
            }
            let watched = Watched {
                stream,
                wire: self.wire.clone(),
                acting: None,
                cut: false,
            };
            Ok(Box::new(watched) as BoxedStream)
        })
    }
}

struct Watched {
    stream: BoxedStream,
    wire: Arc<Wire>,
    acting: Option<BoxFuture<'static, ()>>,
    cut: bool,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut {
            return Poll::Ready(Ok(()));
        }
        if let Some(acting) = &mut self.acting {
            ready!(acting.as_mut().poll(context));
            self.acting = None;
            self.wire.go_on();
        }
        if self.wire.holds_up(context) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.wire.trips(buffer.filled().len() - before) {
            match &self.wire.act {
                Act::Cut => self.cut = true,
                Act::Run(act) => {
                    self.wire.acting.store(true, Ordering::SeqCst);
                    self.acting = Some(act());
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
