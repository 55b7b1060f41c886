//! Clusters that outlive the command that started them: `cluster up`, `cluster kubeconfig`, `cluster down`.
//!
//! A directory per cluster, readable by its owner only, holds its kubeconfig, its log, and who its process is.
//! The process is known by its ID and its start time, so that a recycled ID is never mistaken for it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::handle::{Life, Options, StartError, Supervisor};

/// Why a lasting cluster could not be started, found or ended.
#[derive(Debug, thiserror::Error)]
pub enum LastingError {
    /// One of that name is running.
    #[error("cluster {name:?} is already running (process {pid}); its kubeconfig is {}", kubeconfig.display())]
    Running {
        /// The cluster's name.
        name: String,
        /// Its supervisor.
        pid: i32,
        /// Where its kubeconfig is.
        kubeconfig: PathBuf,
    },
    /// None of that name is running.
    #[error("no cluster {0:?} is running")]
    NotRunning(String),
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its directory could not be used.
    #[error("could not {what} {}", path.display())]
    Files {
        /// What was attempted.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Which process a cluster's supervisor is.
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
    /// The cluster `name` among those kept under `directory`, running or not.
    pub fn named(name: impl Into<String>, directory: &Path) -> Self {
        let name = name.into();
        Self {
            directory: directory.join(&name),
            name,
        }
    }

    /// Where its kubeconfig is, mode 0600.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Where its supervisor logs.
    pub fn log(&self) -> PathBuf {
        self.directory.join("supervisor.log")
    }

    /// Process ID of its supervisor, if it is running.
    pub fn pid(&self) -> Option<i32> {
        let record: Record = serde_json::from_slice(&fs::read(self.record()).ok()?).ok()?;
        (start_time(record.pid) == Some(record.start_time)).then_some(record.pid)
    }

    /// Starts it and leaves it running. Blocks until its API answers.
    pub fn up(&self, options: &Options) -> Result<(), LastingError> {
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
        // Until the record is written the supervisor is still ours, and an error below ends it.
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
        Ok(())
    }

    /// Ends it, waits until its processes are gone, and removes its directory.
    pub fn down(&self) -> Result<(), LastingError> {
        let running = self.pid();
        if let Some(pid) = running {
            end(pid).map_err(|source| files("end the supervisor recorded in", &self.record(), source))?;
        }
        match fs::remove_dir_all(&self.directory) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(files("remove", &self.directory, source)),
        }
        running
            .map(drop)
            .ok_or_else(|| LastingError::NotRunning(self.name.clone()))
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

/// Ends a cluster and waits for it to be gone.
///
/// PID 1 is killed rather than the supervisor, its parent: the kernel lets PID 1 be reaped only when every process
/// of its namespace is gone, and the supervisor ends when it has reaped PID 1.
fn end(pid: i32) -> io::Result<()> {
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};
    #[expect(unsafe_code, reason = "pidfd_open has no wrapper in nix")]
    // SAFETY: the system call takes two integers and returns a new descriptor, which becomes ours.
    let process = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor fits an int"))
    };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let init = children
        .split_whitespace()
        .next()
        .and_then(|init| init.parse().ok());
    kill(Pid::from_raw(init.unwrap_or(pid)), Signal::SIGKILL)?;
    let mut wait = [nix::poll::PollFd::new(
        process.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    nix::poll::poll(&mut wait, nix::poll::PollTimeout::from(10_000u16))?;
    Ok(())
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may hold spaces and parentheses itself: count from the last one.
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19)?.parse().ok()
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
