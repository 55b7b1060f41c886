//! Commands inside running containers: captured ones for probes and hooks, sessions for `kubectl
//! exec`.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::helper::protocol::ExecInContainer;
use super::launcher::{LaunchError, Launcher, Stdio3};
use super::pod::Running;
use super::reaper::{Exit, Reaper};
use super::terminal::Terminal;
use crate::runtime::{ExecRequest, ExecSession, RuntimeError};

/// The limit of a probe's or hook's output, as in the kubelet.
const MAX_OUTPUT: usize = 10 * 1024;

/// A runner of commands through the helper process.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) reaper: Arc<Reaper>,
}

/// The result of a captured command.
#[derive(Debug)]
pub(crate) enum Captured {
    Ended { exit: Exit, output: String },
    TimedOut,
}

impl Executor {
    /// Runs a command and collects its output. At the deadline, kills the command itself but not
    /// its children. A child that keeps the output open keeps this from returning, as with
    /// containerd (where the kubelet's probe also hangs).
    pub(crate) async fn capture(
        &self,
        target: &Running,
        command: &[String],
        limit: Option<Duration>,
    ) -> Result<Captured, LaunchError> {
        let (reader, writer) = io::pipe().map_err(LaunchError::Helper)?;
        let stdout = OwnedFd::from(writer);
        let stdio = Stdio3 {
            stdin: null().map_err(LaunchError::Helper)?,
            stderr: stdout.try_clone().map_err(LaunchError::Helper)?,
            stdout,
        };
        let pid = self
            .launcher
            .exec(request(target, command.to_vec(), false), stdio)
            .await?;
        let mut process = Guard {
            reaper: Arc::clone(&self.reaper),
            pid,
            ended: false,
        };
        let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(LaunchError::Helper)?;
        let output = drain(reader);
        let all = async {
            let (exit, output) = tokio::join!(process.wait(), output);
            (exit, output)
        };
        let mut all = std::pin::pin!(all);
        let ended = match limit {
            None => all.await,
            Some(limit) => match timeout(limit, &mut all).await {
                Ok(ended) => ended,
                Err(_) => {
                    // The kill is refused only for a process that is gone.
                    let _ = self.reaper.kill(pid, Signal::SIGKILL);
                    all.await;
                    return Ok(Captured::TimedOut);
                }
            },
        };
        Ok(Captured::Ended {
            exit: ended.0,
            output: ended.1,
        })
    }

    /// Starts a command whose streams go to a client.
    pub(crate) async fn session(
        &self,
        target: &Running,
        wanted: ExecRequest,
    ) -> Result<ExecSession, RuntimeError> {
        let node = |source| RuntimeError::Io {
            what: "open the command's streams".to_owned(),
            source,
        };
        if wanted.tty {
            self.on_terminal(target, wanted).await
        } else {
            self.on_pipes(target, wanted, node).await
        }
    }

    async fn on_pipes(
        &self,
        target: &Running,
        wanted: ExecRequest,
        node: impl Fn(io::Error) -> RuntimeError,
    ) -> Result<ExecSession, RuntimeError> {
        let (stdin, our_stdin) = if wanted.stdin {
            let (reader, writer) = io::pipe().map_err(&node)?;
            (
                OwnedFd::from(reader),
                Some(pipe::Sender::from_owned_fd(writer.into()).map_err(&node)?),
            )
        } else {
            (null().map_err(&node)?, None)
        };
        let output = |asked: bool| -> io::Result<(OwnedFd, Option<pipe::Receiver>)> {
            if !asked {
                return Ok((null()?, None));
            }
            let (reader, writer) = io::pipe()?;
            Ok((writer.into(), Some(pipe::Receiver::from_owned_fd(reader.into())?)))
        };
        let (stdout, our_stdout) = output(wanted.stdout).map_err(&node)?;
        let (stderr, our_stderr) = output(wanted.stderr).map_err(&node)?;
        let pid = self
            .start(
                target,
                wanted.command,
                false,
                Stdio3 {
                    stdin,
                    stdout,
                    stderr,
                },
            )
            .await?;
        Ok(ExecSession {
            stdin: our_stdin.map(|pipe| Box::new(pipe) as Box<dyn AsyncWrite + Send + Unpin>),
            stdout: our_stdout.map(|pipe| Box::new(pipe) as Box<dyn AsyncRead + Send + Unpin>),
            stderr: our_stderr.map(|pipe| Box::new(pipe) as Box<dyn AsyncRead + Send + Unpin>),
            resize: None,
            exit: self.exit_of(pid),
        })
    }

    async fn on_terminal(&self, target: &Running, wanted: ExecRequest) -> Result<ExecSession, RuntimeError> {
        let node = |source| RuntimeError::Io {
            what: "open a terminal".to_owned(),
            source,
        };
        let (terminal, slave) = Terminal::open().map_err(node)?;
        let copy = || slave.try_clone().map_err(node);
        let stdio = Stdio3 {
            stdin: copy()?,
            stdout: copy()?,
            stderr: copy()?,
        };
        drop(slave);
        let pid = self.start(target, wanted.command, true, stdio).await?;
        let (resize, mut sizes) = mpsc::channel::<(u16, u16)>(4);
        let resized = terminal.clone();
        tokio::spawn(async move {
            while let Some((columns, rows)) = sizes.recv().await {
                if let Err(error) = resized.resize(columns, rows) {
                    tracing::debug!(%error, "terminal size refused");
                }
            }
        });
        let stdin = wanted
            .stdin
            .then(|| Box::new(terminal.clone()) as Box<dyn AsyncWrite + Send + Unpin>);
        Ok(ExecSession {
            stdin,
            stdout: Some(Box::new(terminal)),
            stderr: None,
            resize: Some(resize),
            exit: self.exit_of(pid),
        })
    }

    async fn start(
        &self,
        target: &Running,
        command: Vec<String>,
        tty: bool,
        stdio: Stdio3,
    ) -> Result<i32, RuntimeError> {
        self.launcher
            .exec(request(target, command, tty), stdio)
            .await
            .map_err(|error| match error {
                LaunchError::Program(_) => RuntimeError::CannotExec(describe(&error)),
                other => RuntimeError::Io {
                    what: "start the command".to_owned(),
                    source: io::Error::other(other),
                },
            })
    }

    fn exit_of(&self, pid: i32) -> futures::future::BoxFuture<'static, Result<i32, RuntimeError>> {
        // The guard is created now, not at the first poll: dropping the session must always kill
        // the process.
        let mut process = Guard {
            reaper: Arc::clone(&self.reaper),
            pid,
            ended: false,
        };
        Box::pin(async move { Ok(process.wait().await.code()) })
    }
}

/// Formats a failed exec in the text that kubectl users know.
pub(crate) fn describe(error: &LaunchError) -> String {
    match error {
        LaunchError::Program(text) => {
            format!("OCI runtime exec failed: exec failed: unable to start container process: {text}")
        }
        other => other.to_string(),
    }
}

fn request(target: &Running, command: Vec<String>, tty: bool) -> ExecInContainer {
    ExecInContainer {
        bundle: target.bundle.clone(),
        init: target.pid,
        command,
        tty,
    }
}

/// A guard that kills its process when dropped early.
struct Guard {
    reaper: Arc<Reaper>,
    pid: i32,
    ended: bool,
}

impl Guard {
    async fn wait(&mut self) -> Exit {
        let exit = self.reaper.wait(self.pid).await;
        self.ended = true;
        exit
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.ended {
            // The kill is refused only for a process that is gone.
            let _ = self.reaper.kill(self.pid, Signal::SIGKILL);
        }
    }
}

async fn drain(mut reader: pipe::Receiver) -> String {
    let mut output = Vec::new();
    let mut buffer = vec![0; 4096];
    while let Ok(length) = reader.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        let room = MAX_OUTPUT.saturating_sub(output.len());
        output.extend_from_slice(&buffer[..length.min(room)]);
    }
    String::from_utf8_lossy(&output).into_owned()
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into())
}
