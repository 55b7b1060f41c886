//! Starting an embedded cluster from a host program, and holding on to it.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::SUPERVISOR_ARGUMENT;
use super::protocol::{Access, Reply, Request};

/// How long a supervisor may take to serve. It takes about a tenth of a second; a machine on which it takes
/// a hundred times that is at fault, and the error says how far the start came.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// How many lines of the supervisor's log the handle keeps for an error message.
const LOG_LINES_KEPT: usize = 200;

/// How to start an embedded cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the cluster, its user and its context in the kubeconfig.
    pub name: String,
    /// TCP port of the API on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// Directory of the OCI image store, which must exist.
    pub image_store: PathBuf,
    /// A program that calls [`reexec`](super::reexec) first; the current executable unless given.
    pub executable: Option<PathBuf>,
    /// Who may come in besides the administrator.
    pub restricted: Vec<crate::api::Token>,
}

impl Options {
    /// A cluster on a port of the kernel's choice, made of copies of the current executable.
    pub fn new(name: impl Into<String>, image_store: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            port: 0,
            image_store: image_store.into(),
            executable: None,
            restricted: Vec::new(),
        }
    }
}

/// Why an embedded cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine does not let this user make namespaces or map IDs into them.
    #[error("embedded cluster may not {what}: {cause}")]
    Permission {
        /// What was refused.
        what: String,
        /// In the system's words.
        cause: String,
    },
    /// The executable could not be run again as a supervisor.
    #[error("could not run {program} as the supervisor")]
    Spawn {
        /// The program that was tried.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The supervisor reported that a step of its start failed.
    #[error("embedded cluster failed to {what}: {cause}")]
    Step {
        /// The step.
        what: String,
        /// In the system's words.
        cause: String,
    },
    /// The supervisor ended or fell silent before it was ready.
    #[error("supervisor {ended} before it was ready; its log ends with:\n{log}")]
    Silent {
        /// What it did instead of reporting.
        ended: String,
        /// The last lines of its log.
        log: String,
    },
    /// The cluster is up, but no client for it could be made.
    #[error("could not make a client for the embedded cluster")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A running embedded cluster. Dropping it ends the cluster, with everything that runs in it.
pub struct EmbeddedCluster {
    access: Access,
    client: kube::Client,
    log: LogTail,
    process: Supervisor,
}

impl std::fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedCluster")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl EmbeddedCluster {
    /// Starts a cluster and returns when its API answers. Must be called within a tokio runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let started = tokio::task::spawn_blocking(move || Supervisor::start(&options, Life::Tied))
            .await
            .map_err(|e| StartError::Silent {
                ended: "start panicked".into(),
                log: e.to_string(),
            })??;
        let client = client_for(&started.access).await?;
        Ok(Self {
            access: started.access,
            client,
            log: started.log,
            process: started.process,
        })
    }

    /// A client that may do everything.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Where the API is and how to be let in.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The last lines that the supervisor logged.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Process ID of the supervisor, as the host sees it.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Ends the cluster and waits until all its processes are gone.
    pub async fn stop(mut self) {
        let stopped = tokio::task::spawn_blocking(move || self.process.stop()).await;
        debug_assert!(stopped.is_ok(), "stopping a supervisor does not panic");
    }
}

/// A client for `access`.
pub(super) async fn client_for(access: &Access) -> Result<kube::Client, StartError> {
    // kube asks for the process's choice, and cannot make it where several providers are compiled in. Another choice,
    // made earlier by the host program, is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(access.kubeconfig(), &options)
        .await
        .map_err(|e| StartError::Client(e.into()))?;
    kube::Client::try_from(config).map_err(|e| StartError::Client(e.into()))
}

/// A started supervisor, before a client for it exists.
pub(super) struct Started {
    pub(super) access: Access,
    pub(super) log: LogTail,
    pub(super) process: Supervisor,
}

/// How long a supervisor lives.
pub(super) enum Life {
    /// As long as the handle; what it logs is kept in memory.
    Tied,
    /// Until it is killed; what it logs goes to the file.
    Lasting(std::fs::File),
}

/// The supervisor's process and its lifeline.
#[derive(Debug)]
pub(super) struct Supervisor {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Supervisor {
    /// Runs a supervisor and waits until it is ready.
    pub(super) fn start(options: &Options, life: Life) -> Result<Started, StartError> {
        let lifeline = matches!(life, Life::Tied);
        let stderr = match life {
            Life::Tied => Stdio::piped(),
            Life::Lasting(log) => Stdio::from(log),
        };
        let program = options
            .executable
            .clone()
            .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let mut child = Command::new(&program)
            .arg0("embedded-cluster")
            .arg(SUPERVISOR_ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|source| StartError::Spawn {
                program: program.display().to_string(),
                source,
            })?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let log = child.stderr.take().map(LogTail::follow).unwrap_or_default();
        let mut process = Self {
            child,
            lifeline: Some(stdin),
        };
        let request = Request {
            name: options.name.clone(),
            port: options.port,
            image_store: options.image_store.clone(),
            user_namespace: !nix::unistd::geteuid().is_root(),
            lifeline,
            restricted: options.restricted.clone(),
        };
        process.tell(&serde_json::to_string(&request).expect("a request is plain data"));
        let access = process.await_ready(stdout, &log)?;
        Ok(Started { access, log, process })
    }

    /// Writes one line. A supervisor that is gone is noticed by the reader of its replies.
    fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.lifeline {
            let _ = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        }
    }

    fn await_ready(
        &mut self,
        stdout: std::process::ChildStdout,
        log: &LogTail,
    ) -> Result<Access, StartError> {
        let (replies, received) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if replies.send(line).is_err() {
                    break;
                }
            }
        });
        let silent = |ended: &str| StartError::Silent {
            ended: ended.into(),
            log: log.text(),
        };
        loop {
            use std::sync::mpsc::RecvTimeoutError;
            let line = received.recv_timeout(START_DEADLINE).map_err(|e| match e {
                RecvTimeoutError::Timeout => silent("did not answer"),
                RecvTimeoutError::Disconnected => silent("ended"),
            })?;
            match serde_json::from_str(&line) {
                Ok(Reply::MapIds) => {
                    super::id_map::map(self.child.id())?;
                    self.tell("mapped");
                }
                Ok(Reply::Ready(access)) => return Ok(access),
                Ok(Reply::Failed {
                    what,
                    cause,
                    permission: true,
                }) => {
                    return Err(StartError::Permission { what, cause });
                }
                Ok(Reply::Failed {
                    what,
                    cause,
                    permission: false,
                }) => {
                    return Err(StartError::Step { what, cause });
                }
                Err(_) => return Err(silent(&format!("answered {line:?}"))),
            }
        }
    }

    /// Lets go of a supervisor that is to outlive this process.
    pub(super) fn release(mut self) {
        drop(self.lifeline.take());
        std::mem::forget(self);
    }

    /// Process ID, as the host sees it.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    fn stop(&mut self) {
        // Killing the outer process kills PID 1 by its parent-death signal, and PID 1 takes the rest along. Its
        // stderr closes when the last process is gone, which `LogTail` sees; `wait` collects the outer one.
        drop(self.lifeline.take());
        let _ = self.child.wait();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.stop();
    }
}

/// The last lines a supervisor wrote to its standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl LogTail {
    fn follow(stderr: std::process::ChildStderr) -> Self {
        let tail = Self::default();
        let lines = tail.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = lines.0.lock().expect("no holder of the lock panics");
                if kept.len() == LOG_LINES_KEPT {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        tail
    }

    fn text(&self) -> String {
        let kept = self.0.lock().expect("no holder of the lock panics");
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
