//! `pods/exec` over a WebSocket, as kubectl and kube-rs speak it.

use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::SplitStream;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::channels::{self, CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use super::pod_target;
use crate::api::object::text;
use crate::api::request::{Options, RequestContext};
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::runtime::{ExecRequest, ExecSession, RuntimeError};

/// Protocols, the preferred one first. Version 5 can report the end of standard input.
const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Output is sent in pieces of at most this many bytes.
const BUFFER: usize = 32 * 1024;

/// Pieces of output that may wait for a slow client. Beyond them the process waits too.
const BACKLOG: usize = 16;

/// Handles `GET` or `POST …/pods/NAME/exec`.
pub(super) async fn connect(
    server: &ApiServer,
    ctx: &RequestContext,
    parts: Parts,
) -> Result<Response, ApiError> {
    let (pod, key) = pod_target::pod(server, ctx)?;
    let container = pod_target::container(ctx, &pod.value)?;
    check_state(ctx, &pod.value)?;
    let request = request(&ctx.options, container)?;
    let upgrade = channels::upgrade(parts, PROTOCOLS).await?;
    let session = match server.runtime()?.exec(key, request).await {
        // Kubernetes upgrades the connection before it finds that the command cannot run.
        Err(RuntimeError::CannotExec(text)) => Err(text),
        Err(error) => return Err(pod_target::refusal(&error)),
        Ok(session) => Ok(session),
    };
    Ok(upgrade.on_upgrade(|socket| async {
        match session {
            Ok(session) => run(socket, session).await,
            Err(text) => {
                let text = format!("error executing command in container: {text}");
                finish(socket.split().0, &pod_target::internal(&text).to_status()).await;
            }
        }
    }))
}

fn check_state(ctx: &RequestContext, pod: &Value) -> Result<(), ApiError> {
    if text(pod, &["spec", "nodeName"]).is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            ctx.name
        )));
    }
    let phase = text(pod, &["status", "phase"]);
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(ApiError::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    Ok(())
}

fn request(options: &Options, container: String) -> Result<ExecRequest, ApiError> {
    let request = ExecRequest {
        container,
        command: options.all("command"),
        stdin: options.flag("stdin"),
        stdout: options.flag("stdout"),
        stderr: options.flag("stderr"),
        tty: options.flag("tty"),
    };
    if request.command.is_empty() {
        return Err(ApiError::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    if !request.stdin && !request.stdout && !request.stderr {
        return Err(ApiError::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    Ok(request)
}

/// Carries the streams until the client is gone, or the process has ended and its output is sent.
async fn run(socket: WebSocket, session: ExecSession) {
    let ExecSession {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = session;
    let (mut sink, source) = socket.split();
    let (output, mut pieces) = mpsc::channel::<(u8, Bytes)>(BACKLOG);
    let forward = async {
        while let Some((channel, bytes)) = pieces.recv().await {
            if !channels::send(&mut sink, channel, &bytes).await {
                return;
            }
        }
    };
    let work = async {
        let second = output.clone();
        let ((), (), outcome) =
            tokio::join!(pump(stdout, STDOUT, output), pump(stderr, STDERR, second), exit);
        outcome
    };
    let ended = async { tokio::join!(work, forward).0 };
    let outcome = tokio::select! {
        outcome = ended => outcome,
        // The client is gone: this future drops the session, which kills the process.
        () = input(source, stdin, resize) => return,
    };
    finish(sink, &status(&outcome)).await;
}

async fn finish(mut sink: futures::stream::SplitSink<WebSocket, Message>, status: &Value) {
    if channels::send(&mut sink, ERROR, status.to_string().as_bytes()).await {
        channels::close(&mut sink).await;
    }
}

async fn pump(
    reader: Option<Box<dyn AsyncRead + Send + Unpin>>,
    channel: u8,
    out: mpsc::Sender<(u8, Bytes)>,
) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; BUFFER];
    // A terminal reports an error instead of the end when its process has ended.
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        if out
            .send((channel, Bytes::copy_from_slice(&buffer[..count])))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Forwards the client's input. Returns when the client is gone.
async fn input(
    mut source: SplitStream<WebSocket>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    resize: Option<mpsc::Sender<(u16, u16)>>,
) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => continue,
        };
        match bytes.split_first() {
            Some((&STDIN, data)) => {
                let gone = match &mut stdin {
                    Some(writer) => writer.write_all(data).await.is_err() || writer.flush().await.is_err(),
                    None => false,
                };
                if gone {
                    stdin = None;
                }
            }
            Some((&CLOSE, [STDIN])) => stdin = None,
            Some((&RESIZE, data)) => {
                if let (Some(resize), Some(size)) = (&resize, terminal_size(data)) {
                    // A process that has ended ignores its terminal's size.
                    let _ = resize.send(size).await;
                }
            }
            _ => {}
        }
    }
}

fn terminal_size(data: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(data).ok()?;
    let side = |name: &str| value[name].as_u64().and_then(|number| u16::try_from(number).ok());
    Some((side("Width")?, side("Height")?))
}

fn status(outcome: &Result<i32, RuntimeError>) -> Value {
    match outcome {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => pod_target::internal(&pod_target::with_cause(error)).to_status(),
    }
}
