//! `cargo xtask storm`: kills runs at random moments, in every way, and checks for traces.
//!
//! | module | what is in it |
//! |---|---|
//! | [`victim`] | the killed process, and the signal |
//! | [`traces`] | processes, cgroups, mounts, interfaces and files of a run, before and after |

mod traces;
mod victim;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use nix::unistd::Pid;

use self::traces::{Host, Traces};
use self::victim::Victim;
use crate::exit;

/// The arguments of `storm`, as typed.
#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// Duration of the storm.
    #[arg(long, value_name = "N", conflicts_with = "kills")]
    minutes: Option<u64>,
    /// Number of runs to kill [default: 20, unless --minutes is given].
    #[arg(long, value_name = "N")]
    kills: Option<u64>,
    /// Kill each run within this many seconds of its start.
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=600))]
    within: u64,
    /// The seed of everything random, from an earlier storm's output.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run every second time with this chart, through helm.
    #[arg(long, value_name = "DIR")]
    chart: Option<PathBuf>,
}

/// Time for a killed run to end and for its traces to disappear.
const END: Duration = Duration::from_secs(60);

/// Number of kills after which a run has to pass.
const BETWEEN_PROOFS: u64 = 20;

/// Scenarios of the killed runs: formation, scaling, rotation, faults.
const SCENARIOS: [&str; 5] = [
    "formation::forms::cluster-rpm",
    "formation::forms::standalone-rpm",
    "scaling::",
    "rotation::",
    "persistence::",
];

/// Runs the command.
pub(crate) fn run(args: &StormArgs) -> anyhow::Result<ExitCode> {
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0));
    println!("seed {seed}");
    let mut random = Random(seed);
    let until = args
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let most = args.kills.unwrap_or(if until.is_some() { u64::MAX } else { 20 });
    let storm = Storm::new(args)?;
    let (mut kills, mut faults) = (0, 0);
    while kills < most && until.is_none_or(|until| Instant::now() < until) {
        kills += 1;
        let found = storm.kill_one_run(&mut random, kills)?;
        for fault in &found {
            println!("  FAULT: {fault}");
        }
        faults += found.len();
        if kills % BETWEEN_PROOFS == 0 {
            faults += usize::from(!storm.proof()?);
        }
    }
    faults += usize::from(!storm.proof()?);
    println!("{kills} kills, {faults} faults, seed {seed}");
    Ok(ExitCode::from(if faults == 0 {
        exit::QUALIFIED
    } else {
        exit::NOT_QUALIFIED
    }))
}

/// Random numbers from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("it is below a usize")]
    }
}

struct Storm {
    program: PathBuf,
    chart: Option<PathBuf>,
    within: u64,
}

/// A run that will be killed.
struct Target {
    pid: Pid,
    ended: Receiver<std::io::Result<ExitStatus>>,
    report: PathBuf,
}

impl Storm {
    fn new(args: &StormArgs) -> anyhow::Result<Self> {
        // The running program itself, even if its file is rebuilt meanwhile.
        let program = std::env::current_exe().context("failed to find this program")?;
        ensure!(
            program.is_file(),
            "{} is gone: it was built again",
            program.display()
        );
        Ok(Self {
            program,
            chart: args.chart.clone(),
            within: args.within,
        })
    }

    /// Starts a run, kills it, and returns the problems afterwards.
    fn kill_one_run(&self, random: &mut Random, number: u64) -> anyhow::Result<Vec<String>> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let temporary = folder.path().join("tmp");
        std::fs::create_dir(&temporary).context("failed to make a folder")?;
        let with_chart = self.chart.is_some() && number.is_multiple_of(2);
        let delay = Duration::from_millis(random.below(1_000 * self.within));
        let victim = Victim::random(random, with_chart);
        // A run survives the death of helm, so it has to be short.
        let scenario = if victim.is_outlived() {
            SCENARIOS[0]
        } else {
            random.one_of(&SCENARIOS)
        };
        let before = Host::look();
        let target = self.start(scenario, with_chart, folder.path(), &temporary)?;
        let what = format!(
            "#{number} {victim} of {scenario} after {:.1} s",
            delay.as_secs_f64()
        );
        if !matches!(target.ended.recv_timeout(delay), Err(RecvTimeoutError::Timeout)) {
            println!("{what}: the run had ended");
            return Ok(Vec::new());
        }
        let traces = Traces::of(target.pid);
        let hit = victim.hit(target.pid);
        let ended = target.ended.recv_timeout(END);
        let mut faults = match &ended {
            Ok(Ok(status)) => victim.wrong_end(*status, hit).into_iter().collect(),
            _ => {
                let _ = nix::sys::signal::kill(target.pid, nix::sys::signal::Signal::SIGKILL);
                vec![format!("the run did not end within {} s", END.as_secs())]
            }
        };
        faults.extend(traces.left(END));
        faults.extend(before.new_since());
        faults.extend(traces::files_in(&temporary).map(|file| format!("file {file} is left")));
        if hit && victim.leaves_no_report() {
            faults.extend(self.wrong_recovery(&target.report));
        }
        let end = match ended {
            Ok(Ok(status)) => status.to_string(),
            _ => "no end".to_owned(),
        };
        let hit = if hit { "" } else { " (there was none)" };
        println!("{what}{hit}: {end}");
        Ok(faults)
    }

    fn start(
        &self,
        scenario: &str,
        with_chart: bool,
        folder: &Path,
        temporary: &Path,
    ) -> anyhow::Result<Target> {
        let report = folder.join("report");
        let mut command = Command::new(&self.program);
        command
            .args(["e2e", "--jobs", "4", "--scenario", scenario, "--report"])
            .arg(&report);
        if with_chart && let Some(chart) = &self.chart {
            command.arg("--chart").arg(chart);
        }
        command.env("TMPDIR", temporary).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("failed to start a run")?;
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process ID fits a pid_t"));
        Ok(Target {
            pid,
            ended: end_of(child),
            report,
        })
    }

    /// Returns the problem with the report recovered from a killed run, if there is one.
    fn wrong_recovery(&self, report: &Path) -> Option<String> {
        // The run was killed before it began its journal.
        if std::fs::metadata(report.join("journal.jsonl")).is_ok_and(|journal| journal.len() == 0)
            || !report.exists()
        {
            return None;
        }
        let output = Command::new(&self.program)
            .args(["report", "recover"])
            .arg(report)
            .output();
        let Ok(output) = output else {
            return Some("report recover could not be run".to_owned());
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let complete = said.contains("has finished") || said.contains("has no header");
            return (!complete).then(|| format!("report recover failed: {said}"));
        }
        let text = std::fs::read_to_string(report.join("report.json")).unwrap_or_default();
        let recovered: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        (recovered["verdict"] != "inconclusive")
            .then(|| format!("the recovered report is {}", recovered["verdict"]))
    }

    /// Returns true if a run passes.
    fn proof(&self) -> anyhow::Result<bool> {
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        let mut command = Command::new(&self.program);
        command
            .args(["e2e", "--scenario", "formation::forms::cluster-rpm", "--report"])
            .arg(folder.path());
        let output = command.output().context("failed to start a run")?;
        let passed = output.status.success();
        println!(
            "a run afterwards: {}",
            if passed {
                "passed"
            } else {
                "FAULT: it did not pass"
            }
        );
        if !passed {
            print!("{}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(passed)
    }
}

/// Reports the end of a child on a channel, which can be waited on with a deadline.
fn end_of(mut child: Child) -> Receiver<std::io::Result<ExitStatus>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(child.wait()));
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_storm() {
        let numbers = |seed: u64| -> Vec<u64> {
            let mut random = Random(seed);
            (0..5).map(|_| random.below(100)).collect()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
