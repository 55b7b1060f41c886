//! Clusters that outlive the command that started them: `cluster up`, `cluster kubeconfig`,
//! `cluster down`.
//!
//! A directory per cluster, readable by its owner only, holds its kubeconfig, its log, and the
//! identity of its process. The process ID is stored with the process's start time. A process that
//! reuses the ID has a different start time.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::handle::{Life, Options, StartError, Supervisor};
use super::pidfd::{PidFd, first_process};
use super::watch::Vital;

/// The reasons why a lasting cluster could not be started, found or ended.
#[derive(Debug, thiserror::Error)]
pub enum LastingError {
    /// A cluster of that name is already running.
    #[error("cluster {name:?} is already running (process {pid}); its kubeconfig is {}", kubeconfig.display())]
    Running {
        /// The cluster's name.
        name: String,
        /// The process ID of its supervisor.
        pid: i32,
        /// The path of its kubeconfig.
        kubeconfig: PathBuf,
    },
    /// No cluster of that name is running.
    #[error("no cluster {0:?} is running")]
    NotRunning(String),
    /// The cluster could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The cluster's directory could not be used.
    #[error("could not {what} {}", path.display())]
    Files {
        /// The action.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The process of a cluster's supervisor.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// Clock ticks between boot and the start of the process: field 22 of `/proc/PID/stat`.
    start_time: u64,
}

/// A cluster known by name, with its directory.
#[derive(Clone, Debug)]
pub struct LastingCluster {
    name: String,
    directory: PathBuf,
}

impl LastingCluster {
    /// Returns the cluster `name` among those kept under `directory`, running or not.
    pub fn named(name: impl Into<String>, directory: &Path) -> Self {
        let name = name.into();
        Self {
            directory: directory.join(&name),
            name,
        }
    }

    /// Returns the path of the cluster's kubeconfig, mode 0600.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Returns the path of the supervisor's log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("supervisor.log")
    }

    /// Returns the process ID of the supervisor, if it is running.
    pub fn pid(&self) -> Option<i32> {
        let record: Record = serde_json::from_slice(&fs::read(self.record()).ok()?).ok()?;
        (start_time(record.pid) == Some(record.start_time)).then_some(record.pid)
    }

    /// Starts the cluster and leaves it running. Blocks until its API answers, and while another
    /// process starts or ends the cluster. The returned value reports the death of the cluster
    /// while this process runs.
    pub fn up(&self, options: &Options) -> Result<Vital, LastingError> {
        let _lock = self.lock()?;
        if let Some(pid) = self.pid() {
            return Err(LastingError::Running {
                name: self.name.clone(),
                pid,
                kubeconfig: self.kubeconfig(),
            });
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|source| files("create", &self.directory, source))?;
        let log = self.private_file(&self.log())?;
        let started = Supervisor::start(options, Life::Lasting(log))?;
        let kubeconfig = started.access.kubeconfig_yaml_with(&options.restricted);
        // Until the record is written, this process owns the supervisor. An error below ends the
        // supervisor.
        self.write(&self.kubeconfig(), kubeconfig.as_bytes())?;
        let pid = i32::try_from(started.process.id()).expect("a process ID fits a pid_t");
        let record = Record {
            pid,
            start_time: start_time(pid).unwrap_or_default(),
        };
        self.write(
            &self.record(),
            &serde_json::to_vec(&record).expect("a record is plain data"),
        )?;
        started.process.release();
        Ok(started.vital)
    }

    /// Ends the cluster, waits until its processes are gone, and removes its directory.
    pub fn down(&self) -> Result<(), LastingError> {
        let _lock = self.lock()?;
        let running = self.pid();
        if let Some(pid) = running {
            end(pid).map_err(|source| files("end the supervisor recorded in", &self.record(), source))?;
        }
        match fs::remove_dir_all(&self.directory) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(files("remove", &self.directory, source)),
        }
        // The lock is still held here. A process that waits for it checks the file again.
        let _ = fs::remove_file(self.lock_file());
        running
            .map(drop)
            .ok_or_else(|| LastingError::NotRunning(self.name.clone()))
    }

    /// Waits until no other process starts or ends a cluster of this name. The kernel releases the
    /// lock when the process ends.
    fn lock(&self) -> Result<fs::File, LastingError> {
        let path = self.lock_file();
        let failed = |source| files("lock", &path, source);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        loop {
            let file = self.private_file(&path)?;
            file.lock().map_err(failed)?;
            let locked = file.metadata().map_err(failed)?;
            // In the meantime, another process may have removed the file, and a third one may have
            // created a new one.
            if fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino())) {
                return Ok(file);
            }
        }
    }

    /// Returns the path of the lock. It is next to the directory, which comes and goes.
    fn lock_file(&self) -> PathBuf {
        self.directory.with_extension("lock")
    }

    fn record(&self) -> PathBuf {
        self.directory.join("supervisor.json")
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), LastingError> {
        self.private_file(path)?
            .write_all(content)
            .map_err(|source| files("write", path, source))
    }

    fn private_file(&self, path: &Path) -> Result<fs::File, LastingError> {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| files("create", path, source))
    }
}

fn files(what: &'static str, path: &Path, source: io::Error) -> LastingError {
    LastingError::Files {
        what,
        path: path.to_path_buf(),
        source,
    }
}

/// Ends a cluster and waits until it is gone.
///
/// Kills PID 1 rather than the supervisor, its parent. The kernel lets PID 1 be reaped only when
/// every process of its namespace is gone. The supervisor ends when it has reaped PID 1.
fn end(pid: i32) -> io::Result<()> {
    let supervisor = PidFd::open(pid)?;
    let first = first_process(pid)?;
    kill(Pid::from_raw(first.unwrap_or(pid)), Signal::SIGKILL)?;
    supervisor.wait(10_000)
}

fn start_time(pid: i32) -> Option<u64> {
    crate::node::cgroup::start_time(u32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_one_start_time_and_a_missing_one_has_none() {
        let own = i32::try_from(std::process::id()).expect("fits");
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn a_recycled_process_id_is_not_the_cluster() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cluster = LastingCluster::named("c", directory.path());
        fs::create_dir(&cluster.directory).expect("its directory");
        let own = i32::try_from(std::process::id()).expect("fits");
        let real = start_time(own).expect("this process runs");
        for (start_time, expected) in [(real, Some(own)), (real + 1, None)] {
            let record = serde_json::to_vec(&Record { pid: own, start_time }).expect("plain data");
            fs::write(cluster.record(), record).expect("written");
            assert_eq!(cluster.pid(), expected);
        }
    }
}
