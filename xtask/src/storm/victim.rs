//! Victims of a storm: the program itself, or one of the processes that it depends on.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use embedded_cluster::node::HELPER_ARGUMENT;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Random;
use super::traces::{children, descendants};
use crate::exit;

/// A process of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The program that was typed.
    Program,
    /// The parent of the cluster's first process.
    Supervisor,
    /// PID 1 of the cluster.
    FirstProcess,
    /// The program that starts the containers.
    Helper,
    /// helm.
    Helm,
}

/// A process, and the signal for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    part: Part,
    signal: Signal,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {:?}", self.signal, self.part)
    }
}

impl Victim {
    /// Chooses a victim. Half of them are the program with SIGKILL.
    pub(super) fn random(random: &mut Random, with_helm: bool) -> Self {
        use Signal::{SIGHUP, SIGINT, SIGKILL, SIGTERM};
        if with_helm && random.below(3) == 0 {
            return Self {
                part: Part::Helm,
                signal: SIGKILL,
            };
        }
        let (part, signal) = random.one_of(&[
            (Part::Program, SIGKILL),
            (Part::Program, SIGKILL),
            (Part::Program, SIGTERM),
            (Part::Program, SIGINT),
            (Part::Program, SIGHUP),
            (Part::Supervisor, SIGKILL),
            (Part::FirstProcess, SIGKILL),
            (Part::Helper, SIGKILL),
        ]);
        Self { part, signal }
    }

    /// Sends the signal. Returns true if there was such a process.
    pub(super) fn hit(self, program: Pid) -> bool {
        let supervisor = || {
            children(program)
                .into_iter()
                .find(|pid| argument_0(*pid) == "embedded-cluster")
        };
        let first = || supervisor().and_then(|supervisor| children(supervisor).into_iter().next());
        let found = match self.part {
            Part::Program => Some(program),
            Part::Supervisor => supervisor(),
            Part::FirstProcess => first(),
            Part::Helper => first().and_then(|first| {
                descendants(first)
                    .into_iter()
                    .find(|pid| arguments(*pid).iter().any(|argument| argument == HELPER_ARGUMENT))
            }),
            Part::Helm => children(program)
                .into_iter()
                .find(|pid| argument_0(*pid).ends_with("helm")),
        };
        found.is_some_and(|pid| kill(pid, self.signal).is_ok())
    }

    /// Returns true if the run has no chance to write its report.
    pub(super) fn leaves_no_report(self) -> bool {
        self.part == Part::Program && self.signal == Signal::SIGKILL
    }

    /// Returns true if the run survives the victim.
    pub(super) fn is_outlived(self) -> bool {
        self.part == Part::Helm
    }

    /// Returns the problem with the end of the run, if any. A run that ended before the signal may
    /// have passed.
    pub(super) fn wrong_end(self, status: ExitStatus, hit: bool) -> Option<String> {
        let expected = match (self.part, self.signal) {
            _ if !hit => return None,
            (Part::Program, Signal::SIGKILL) => status.signal() == Some(Signal::SIGKILL as i32),
            // Before the handlers are installed, a signal kills the process as usual.
            (Part::Program, signal) => {
                status.code() == Some(exit::INTERRUPTED.into())
                    || status.signal() == Some(signal as i32)
                    || status.success()
            }
            // Nothing was learnt about the deployment, even if helm was the victim.
            (Part::Supervisor | Part::FirstProcess | Part::Helper | Part::Helm, _) => {
                status.code() == Some(exit::ENVIRONMENT.into()) || status.success()
            }
        };
        (!expected).then(|| format!("unexpected exit: {status}"))
    }
}

fn arguments(pid: Pid) -> Vec<String> {
    let read = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    read.split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

fn argument_0(pid: Pid) -> String {
    arguments(pid).into_iter().next().unwrap_or_default()
}
