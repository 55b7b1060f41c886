//! Start of an embedded cluster from a host program, and the handle that keeps it alive.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::SUPERVISOR_ARGUMENT;
use super::files;
use super::protocol::{Access, Reply, Request};
use super::watch::{Process, Vital, watch};
use crate::delays::Delays;
use crate::health::Death;

/// The deadline for a supervisor to serve. A start usually takes about a tenth of a second. A
/// machine that needs a hundred times that has a fault. The error names the last step of the start.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Number of lines of the supervisor's log that the handle keeps for an error message.
const LOG_LINES_KEPT: usize = 200;

/// Number of bytes kept of one line. Longer lines are not messages.
const LOG_LINE_BYTES: u64 = 4096;

/// The deadline for reading the last log lines of an ended supervisor.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(2);

/// Options of an embedded cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the cluster, its user and its context in the kubeconfig.
    pub name: String,
    /// TCP port of the API on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// Directory of the OCI image store, which must exist.
    pub image_store: PathBuf,
    /// A program that calls [`reexec`](super::reexec) first. The default is the current executable.
    pub executable: Option<PathBuf>,
    /// Tokens of callers other than the administrator.
    pub restricted: Vec<crate::api::Token>,
    /// The delays with which the cluster notices changes. The default is a real cluster's delays.
    pub delays: Delays,
}

impl Options {
    /// Returns options for a cluster on a port chosen by the kernel, made of copies of the current
    /// executable.
    pub fn new(name: impl Into<String>, image_store: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            port: 0,
            image_store: image_store.into(),
            executable: None,
            restricted: Vec::new(),
            delays: Delays::default(),
        }
    }
}

/// The reasons why an embedded cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine does not let this user create namespaces or map IDs into them.
    #[error("embedded cluster is not permitted to {what}: {cause}")]
    Permission {
        /// The action that was refused.
        what: String,
        /// The cause reported by the system.
        cause: String,
    },
    /// The machine lets this process and its children open too few files.
    #[error(
        "embedded cluster may open {allowed} files and needs at least {needed}: raise the limit with `ulimit -n {needed}` or more"
    )]
    Files {
        /// The hard limit.
        allowed: u64,
        /// The least limit that is enough.
        needed: u64,
    },
    /// The executable could not be run again as a supervisor.
    #[error("could not run {program} as the supervisor")]
    Spawn {
        /// The program that failed to run.
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
        /// The cause reported by the system.
        cause: String,
    },
    /// The supervisor ended or stopped reporting before it was ready.
    #[error("supervisor {ended} before it was ready; its log ends with:\n{log}")]
    Silent {
        /// The event that ended the start.
        ended: String,
        /// The last lines of the supervisor's log.
        log: String,
    },
    /// The cluster runs, but creating a client for it failed.
    #[error("could not make a client for the embedded cluster")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A running embedded cluster. Dropping it ends the cluster, with everything that runs in it.
pub struct EmbeddedCluster {
    access: Access,
    client: kube::Client,
    log: LogTail,
    vital: Vital,
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
            vital: started.vital,
            process: started.process,
        })
    }

    /// Returns a client with unlimited permissions.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Returns the API's address and credentials.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the last lines that the supervisor logged.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Completes when the cluster has died unexpectedly. Returns the part that died first and the
    /// end of the log.
    pub fn died(&self) -> impl Future<Output = Death> + Send + use<> {
        self.vital.died()
    }

    /// Returns the process ID of the supervisor, as the host sees it.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the cluster and waits until all its processes are gone.
    pub async fn stop(mut self) {
        let stopped = tokio::task::spawn_blocking(move || self.process.stop()).await;
        debug_assert!(stopped.is_ok(), "stopping a supervisor does not panic");
    }
}

/// Creates a client for `access`.
pub(super) async fn client_for(access: &Access) -> Result<kube::Client, StartError> {
    // kube uses the process's default provider. rustls cannot choose one if several are compiled
    // in. A provider that the host program installed earlier also works.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = kube::config::KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(access.kubeconfig(), &options)
        .await
        .map_err(|e| StartError::Client(e.into()))?;
    // The proxy of HTTPS_PROXY cannot reach this machine's loopback.
    config.proxy_url = None;
    kube::Client::try_from(config).map_err(|e| StartError::Client(e.into()))
}

/// A started supervisor, before a client for it exists.
pub(super) struct Started {
    pub(super) access: Access,
    pub(super) log: LogTail,
    pub(super) vital: Vital,
    pub(super) process: Supervisor,
}

/// The lifetime of a supervisor.
pub(super) enum Life {
    /// Until the handle is dropped; the log is kept in memory.
    Tied,
    /// Until the supervisor is killed; the log goes to the file.
    Lasting(std::fs::File),
}

/// The supervisor's process and its lifeline.
#[derive(Debug)]
pub(super) struct Supervisor {
    process: Process,
    lifeline: Option<ChildStdin>,
}

impl Supervisor {
    /// Runs a supervisor and waits until it is ready.
    pub(super) fn start(options: &Options, life: Life) -> Result<Started, StartError> {
        let allowed = files::most_allowed();
        if allowed < files::FEWEST {
            let needed = files::FEWEST;
            return Err(StartError::Files { allowed, needed });
        }
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
            process: Process::new(child),
            lifeline: Some(stdin),
        };
        let request = Request {
            name: options.name.clone(),
            port: options.port,
            image_store: options.image_store.clone(),
            user_namespace: !nix::unistd::geteuid().is_root(),
            lifeline,
            restricted: options.restricted.clone(),
            delays: options.delays,
        };
        process.tell(&serde_json::to_string(&request).expect("a request is plain data"));
        let replies = lines_of(stdout);
        let access = process.await_ready(&replies, &log)?;
        let vital = watch(replies, process.process.clone(), log.clone());
        Ok(Started {
            access,
            log,
            vital,
            process,
        })
    }

    /// Writes one line. A write error is ignored: the reader of the replies notices that the
    /// supervisor is gone.
    fn tell(&mut self, line: &str) {
        if let Some(stdin) = &mut self.lifeline {
            let _ = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        }
    }

    fn await_ready(&mut self, replies: &Receiver<String>, log: &LogTail) -> Result<Access, StartError> {
        let silent = |ended: &str| StartError::Silent {
            ended: ended.into(),
            log: log.text(),
        };
        loop {
            use std::sync::mpsc::RecvTimeoutError;
            let line = replies.recv_timeout(START_DEADLINE).map_err(|e| match e {
                RecvTimeoutError::Timeout => silent("did not answer"),
                RecvTimeoutError::Disconnected => silent("ended"),
            })?;
            match serde_json::from_str(&line) {
                Ok(Reply::MapIds) => {
                    super::id_map::map(self.process.id())?;
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
                Ok(Reply::Died { part, cause }) => {
                    let what = "start".to_owned();
                    let cause = format!("its {part} {cause}");
                    return Err(StartError::Step { what, cause });
                }
                Err(_) => return Err(silent(&format!("answered {line:?}"))),
            }
        }
    }

    /// Detaches from a supervisor that must outlive this process.
    pub(super) fn release(mut self) {
        drop(self.lifeline.take());
        std::mem::forget(self);
    }

    /// Returns the process ID, as the host sees it.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    fn stop(&mut self) {
        // Killing the outer process also kills PID 1 (parent-death signal) and thus all other
        // processes. The last of these to end closes the stderr that `LogTail` reads. `wait` reaps
        // the outer process.
        self.process.is_to_end();
        drop(self.lifeline.take());
        self.process.wait();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.process.is_to_end();
        self.process.kill();
        self.stop();
    }
}

/// Returns the lines that a supervisor prints, until no process can print any more.
fn lines_of(stdout: std::process::ChildStdout) -> Receiver<String> {
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// The last lines that a supervisor wrote to its standard error.
#[derive(Clone, Debug, Default)]
pub(super) struct LogTail(Arc<Log>);

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<VecDeque<String>>,
    /// True while a process exists that can write a line.
    goes_on: Mutex<bool>,
    end: Condvar,
}

impl LogTail {
    fn follow(stderr: impl Read + Send + 'static) -> Self {
        let tail = Self::default();
        let log = tail.0.clone();
        *log.goes_on.lock().unwrap_or_else(PoisonError::into_inner) = true;
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            while let Some(line) = read_line(&mut reader) {
                let mut kept = log.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == LOG_LINES_KEPT {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
            *log.goes_on.lock().unwrap_or_else(PoisonError::into_inner) = false;
            log.end.notify_all();
        });
        tail
    }

    pub(super) fn text(&self) -> String {
        let kept = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the last line has been read. All writers are gone by then, so the wait is short.
    pub(super) fn wait_for_end(&self) {
        let goes_on = self.0.goes_on.lock().unwrap_or_else(PoisonError::into_inner);
        // After a missed deadline, only an error message lacks some lines.
        let _ = self
            .0
            .end
            .wait_timeout_while(goes_on, LAST_WORDS_DEADLINE, |goes_on| *goes_on);
    }
}

/// Reads the next line, even if it is not valid UTF-8. Very long lines are split: the rest is
/// returned as the next line.
fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    match reader.take(LOG_LINE_BYTES).read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_to_its_end_whatever_is_in_it() {
        let mut bytes = b"first\n\xff\xfe not text\n".to_vec();
        bytes.extend(vec![b'x'; 3 * 4096]);
        bytes.extend(b"\nlast");
        let log = LogTail::follow(io::Cursor::new(bytes));
        log.wait_for_end();
        let text = log.text();
        assert!(text.starts_with("first\n"), "{text}");
        assert!(text.ends_with("\nlast"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 4096), "{text}");
    }
}
