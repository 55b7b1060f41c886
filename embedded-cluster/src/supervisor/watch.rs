//! Detection of a cluster's death, at once and with the reason.
//!
//! A thread reads the supervisor's replies until no process can write any more. Then it waits until
//! all processes of the cluster are gone. It distinguishes a death from an end that the host
//! program requested.

use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::handle::LogTail;
use super::isolate::{EXIT_CANNOT_START, EXIT_DIED};
use super::pidfd::{PidFd, first_process};
use super::protocol::Reply;
use crate::health::{Death, describe};
use crate::node::{Exit, cgroup};

/// The time that the kernel may take to remove the processes of a cluster without a supervisor.
const REMOVAL_MS: u16 = 5_000;

/// The live status of a cluster. Clones share it.
#[derive(Clone, Debug)]
pub struct Vital {
    death: watch::Receiver<Option<Death>>,
}

impl Vital {
    /// Completes when the cluster has died; never completes when its owner ends it.
    pub fn died(&self) -> impl Future<Output = Death> + Send + use<> {
        let mut death = self.death.clone();
        async move {
            let seen = death
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|seen| seen.clone());
            match seen {
                Some(death) => death,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns the death, if the cluster has died by now.
    pub fn death(&self) -> Option<Death> {
        self.death.borrow().clone()
    }
}

/// The supervisor's process. Its owner ends it, and the watching thread collects it.
#[derive(Clone, Debug)]
pub(super) struct Process {
    child: Arc<Mutex<Child>>,
    ending: Arc<AtomicBool>,
}

impl Process {
    pub(super) fn new(child: Child) -> Self {
        Self {
            child: Arc::new(Mutex::new(child)),
            ending: Arc::default(),
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Marks the coming end of the process as requested, so that it is not a death.
    pub(super) fn is_to_end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Kills the process if it still runs.
    pub(super) fn kill(&self) {
        // Fails only if the process has already been reaped.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }

    /// Waits for the process to end.
    pub(super) fn wait(&self) -> Option<ExitStatus> {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wait()
            .ok()
    }
}

/// Watches a supervisor that is ready; `replies` are its further lines.
pub(super) fn watch(replies: Receiver<String>, process: Process, log: LogTail) -> Vital {
    let (sender, death) = watch::channel(None);
    let supervisor = i32::try_from(process.id()).expect("a process ID fits a pid_t");
    // There is no such process if the cluster has died since it was ready.
    let first = first_process(supervisor).ok().flatten();
    let first = first.and_then(|first| PidFd::open(first).ok());
    std::thread::spawn(move || {
        let said = replies.iter().filter_map(|line| said(&line)).last();
        let status = process.wait();
        // The kernel closes a process's descriptors before the process is gone.
        if let Some(first) = first
            && let Err(error) = first.wait(REMOVAL_MS)
        {
            tracing::debug!(%error, "failed to wait for the end of a cluster's processes");
        }
        log.wait_for_end();
        // If the supervisor was killed, it did not remove its cgroups.
        cgroup::sweep();
        if process.ending.load(Ordering::SeqCst) {
            return;
        }
        let death = said.unwrap_or_else(|| Death::of("supervisor", how(status)));
        sender.send_replace(Some(death.with_log(&log.text())));
    });
    Vital { death }
}

/// Parses a line of the supervisor that reports a death.
fn said(line: &str) -> Option<Death> {
    match serde_json::from_str(line) {
        Ok(Reply::Died { part, cause }) => Some(Death::of(part, cause)),
        Ok(Reply::Failed { what, cause, .. }) => {
            Some(Death::of("supervisor", format!("failed to {what}: {cause}")))
        }
        Ok(Reply::MapIds | Reply::Ready(_)) | Err(_) => None,
    }
}

fn how(status: Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    let Some(status) = status else {
        return "ended".to_owned();
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => describe(Exit::Signal(signal)),
        (None, Some(EXIT_CANNOT_START | EXIT_DIED)) => "ended without giving a reason".to_owned(),
        (None, code) => describe(Exit::Code(code.unwrap_or_default())),
    }
}
