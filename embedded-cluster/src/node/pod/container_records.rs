//! Records of a pod's containers, shared by all parts that work on the pod.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::node::logs::ContainerLog;

/// The role of a container in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A container that runs to completion before the others start.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    Main,
}

/// One container of the pod, through all its instances.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) role: Role,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) state: RunState,
    pub(crate) last: Option<Terminated>,
    pub(crate) restarts: i32,
    /// Success of the startup probe for this instance; `None` without such a probe.
    pub(crate) startup: Option<bool>,
    /// Result of the readiness probe for this instance; `None` without such a probe.
    pub(crate) readiness: Option<bool>,
    /// An instance whose postStart hook runs. Commands and logs work for it, but the API does not
    /// show it yet.
    pub(crate) starting: Option<Running>,
    pub(crate) log: Option<ContainerLog>,
    pub(crate) previous_log: Option<ContainerLog>,
}

/// The state of an instance.
#[derive(Debug)]
pub(crate) enum RunState {
    Waiting { reason: String, message: String },
    Running(Running),
    Terminated(Terminated),
}

/// A running instance.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) id: String,
    pub(crate) pid: i32,
    pub(crate) bundle: PathBuf,
    pub(crate) started_at: Timestamp,
    pub(crate) kill: mpsc::Sender<Kill>,
}

/// A request to end an instance that does not come from the pod's owner.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    /// The `Killing` event's text.
    pub(crate) message: String,
    /// The probe's grace period.
    pub(crate) grace_seconds: Option<i64>,
}

/// An instance that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terminated {
    pub(crate) id: String,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

impl Record {
    pub(crate) fn new(role: Role, image: String, reason: &str) -> Self {
        Self {
            role,
            image,
            image_id: String::new(),
            state: RunState::Waiting {
                reason: reason.to_owned(),
                message: String::new(),
            },
            last: None,
            restarts: 0,
            startup: None,
            readiness: None,
            starting: None,
            log: None,
            previous_log: None,
        }
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.state {
            RunState::Running(running) => Some(running),
            RunState::Waiting { .. } | RunState::Terminated(_) => None,
        }
    }

    pub(crate) fn terminated(&self) -> Option<&Terminated> {
        match &self.state {
            RunState::Terminated(terminated) => Some(terminated),
            RunState::Waiting { .. } | RunState::Running(_) => None,
        }
    }

    /// Returns true if the container runs and has passed its startup probe.
    pub(crate) fn started(&self) -> bool {
        self.running().is_some() && self.startup != Some(false)
    }

    pub(crate) fn ready(&self) -> bool {
        match self.role {
            Role::Init => self
                .terminated()
                .is_some_and(|terminated| terminated.exit_code == 0),
            Role::Sidecar | Role::Main => self.started() && self.readiness != Some(false),
        }
    }
}

/// The records of one pod; every change wakes the watchers.
#[derive(Debug)]
pub(crate) struct ContainerRecords {
    records: Mutex<BTreeMap<String, Record>>,
    version: watch::Sender<u64>,
}

impl ContainerRecords {
    pub(crate) fn new(records: BTreeMap<String, Record>) -> Self {
        Self {
            records: Mutex::new(records),
            version: watch::Sender::new(0),
        }
    }

    /// Changes a record and notifies all watchers.
    pub(crate) fn update<T>(&self, container: &str, change: impl FnOnce(&mut Record) -> T) -> T {
        let result = change(
            self.records()
                .get_mut(container)
                .expect("every container of the spec has a record"),
        );
        self.touch();
        result
    }

    /// Reads a record.
    pub(crate) fn look<T>(&self, container: &str, look: impl FnOnce(&Record) -> T) -> Option<T> {
        self.records().get(container).map(look)
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watchers after a change outside the records.
    pub(crate) fn touch(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
