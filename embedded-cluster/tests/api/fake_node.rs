//! A node without containers: `cat` echoes its input, `exit N` ends with N, and no other command
//! exists.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use embedded_cluster::runtime::{ExecRequest, ExecSession, LogOptions, PodKey, PodRuntime, RuntimeError};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::io::AsyncWriteExt;

/// The fake node. `port` is the port to which `connect` connects, whatever port is requested;
/// `None` refuses every connection.
#[derive(Debug, Default)]
pub(crate) struct FakeNode {
    pub(crate) port: Option<u16>,
}

impl FakeNode {
    pub(crate) fn shared(port: Option<u16>) -> Arc<dyn PodRuntime> {
        Arc::new(Self { port })
    }
}

impl PodRuntime for FakeNode {
    fn logs(
        &self,
        _pod: PodKey,
        container: String,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, io::Result<Bytes>>, RuntimeError>> {
        async move {
            let lines = ["one\n", "two\n", "three\n"].map(|line| format!("{container}: {line}"));
            let skip = lines.len()
                - options
                    .tail_lines
                    .map_or(lines.len(), |n| lines.len().min(n as usize));
            Ok(stream::iter(lines.into_iter().skip(skip).map(|line| Ok(Bytes::from(line)))).boxed())
        }
        .boxed()
    }

    fn exec(&self, _pod: PodKey, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        async move {
            let command: Vec<&str> = request.command.iter().map(String::as_str).collect();
            let (stdin, stdout) = tokio::io::duplex(1024);
            let (mut errors, stderr) = tokio::io::duplex(1024);
            let code = match command.as_slice() {
                ["cat"] => 0,
                ["exit", code] => code.parse().expect("a number"),
                other => {
                    let text = format!("exec: {:?}: executable file not found in $PATH", other[0]);
                    return Err(RuntimeError::CannotExec(text));
                }
            };
            if code != 0 {
                errors.write_all(b"leaving").await.expect("there is room");
            }
            let stdin = request.stdin.then_some(stdin);
            Ok(ExecSession {
                stdin: stdin.map(|s| Box::new(s) as Box<_>),
                stdout: request.stdout.then(|| Box::new(stdout) as Box<_>),
                stderr: request.stderr.then(|| Box::new(stderr) as Box<_>),
                resize: None,
                exit: async move { Ok(code) }.boxed(),
            })
        }
        .boxed()
    }

    fn connect(
        &self,
        _pod: PodKey,
        _port: u16,
    ) -> BoxFuture<'_, Result<tokio::net::TcpStream, RuntimeError>> {
        async move {
            let failed = |source| RuntimeError::Io {
                what: "connect".to_owned(),
                source,
            };
            match self.port {
                Some(port) => tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .map_err(failed),
                None => Err(failed(io::Error::from(io::ErrorKind::ConnectionRefused))),
            }
        }
        .boxed()
    }
}
