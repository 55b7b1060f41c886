//! Early ends of a run and their left-overs: signals, kills, limits, and a second run in the same
//! folder.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixtures::cluster::Cluster;
use crate::fixtures::{XTASK, finish, report_in, run, text, xtask};

/// Time for anything to disappear.
const SOON: Duration = Duration::from_secs(20);

/// A run in progress, which is killed with the test.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child_ref = child.as_mut().expect("the command was just built");
        let stdout = child_ref.stdout.take().expect("standard output is piped");
        Self {
            lines: BufReader::new(stdout).lines(),
            child: child.expect("checked above"),
        }
    }

    /// Reads until a line begins with `start`.
    #[track_caller]
    fn wait_for(&mut self, start: &str) {
        let found = self
            .lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.starts_with(start));
        assert!(found, "the run ended before it said {start:?}");
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is running");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process ID fits a pid_t"))
    }

    /// Returns the exit code and the rest of the output.
    fn end(mut self) -> (Option<i32>, String) {
        let rest: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let mut said = rest.join("\n");
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        (self.child.wait().expect("a child can be waited for").code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
#[track_caller]
fn soon(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < SOON, "{what} within {} s", SOON.as_secs());
        std::thread::yield_now();
    }
}

/// Returns whether a process runs. One that has ended but that nobody has waited for does not. Its
/// arguments tell nothing: they are empty for a moment when it begins another program.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// Writes a program that claims to be helm 4. In a deployment it leaves its process ID in
/// `deploying`, and then hangs.
fn helm_that_hangs(folder: &Path) {
    let program = folder.join("helm");
    let marker = folder.join("deploying");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nversion) echo v4.1.4;;\nshow) echo {{}};;\n\
         template) if [ $2 = values ]; then echo 'values: {{}}'; else cat {0}/manifests; fi;;\n\
         *) for argument; do case $argument in /proc/*) cat $argument > /dev/null && echo $argument >> {0}/read;; esac; done\n\
         echo $$ > {1}.new; mv {1}.new {1}; exec sleep 600;;\nesac\n",
        folder.display(),
        marker.display()
    );
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let rendered = run(&["manifests", "--mode", "standalone", "--variant", "rpm"]);
    assert_eq!(rendered.0, Some(0), "{}", rendered.1);
    let in_any_namespace = rendered.1.replace("namespace: default\n", "\n");
    std::fs::write(folder.join("manifests"), in_any_namespace).expect("written");
}

#[test]
fn helm_and_its_values_do_not_outlive_a_killed_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let temporary = tempfile::tempdir().expect("a folder");
    helm_that_hangs(folder.path());
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/testdata/chart");
    let mut command = xtask(&["e2e", "--scenario", "formation::forms::standalone-rpm"]);
    command
        .args(["--set", "auth.password=not-in-any-folder", "--chart"])
        .arg(chart);
    command.arg("--report").arg(folder.path().join("report"));
    command.env("TMPDIR", temporary.path());
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let run = Running::start(&mut command);
    soon("helm is asked to deploy", || {
        folder.path().join("deploying").exists()
    });
    let words = std::fs::read_to_string(folder.path().join("read")).expect("helm read its values");
    let values = words.lines().last().expect("at least one").to_owned();
    let helm = std::fs::read_to_string(folder.path().join("deploying")).expect("helm wrote its ID");
    let helm = helm.trim();
    assert!(is_running(helm), "helm is not process {helm}");
    run.signal(Signal::SIGKILL);
    run.end();
    soon("helm is gone", || !is_running(helm));
    assert!(!Path::new(&values).exists(), "{values}");
    let left: Vec<_> = std::fs::read_dir(temporary.path())
        .expect("read")
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|file| !text(file.file_name().as_encoded_bytes()).contains("yaml")),
        "{left:?}"
    );
}

#[test]
fn a_cluster_that_dies_ends_the_run_at_once_and_says_so() {
    for first_process in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut run = Running::start(&mut long_run(folder.path()));
        run.wait_for("cluster: ");
        let supervisor = child_of(run.pid()).expect("a run has a supervisor");
        let victim = if first_process {
            child_of(supervisor)
        } else {
            Some(supervisor)
        };
        let started = Instant::now();
        kill(victim.expect("a supervisor has a child"), Signal::SIGKILL).expect("it is running");
        let (code, said) = run.end();
        assert_eq!(code, Some(3), "{said}");
        assert!(started.elapsed() < SOON, "{:?}: {said}", started.elapsed());
        let report = report_in(folder.path());
        assert_eq!(report["verdict"], "inconclusive", "{said}");
        let because = report["because"].as_str().unwrap_or_default();
        assert!(because.contains("the embedded cluster has died"), "{because}");
        for trial in report["trials"].as_array().into_iter().flatten() {
            assert_ne!(trial["outcome"]["status"], "failed", "{trial}");
        }
    }
}

/// Returns the process that a thread of this one has started.
fn child_of(pid: Pid) -> Option<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let mut lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .find_map(|list| list.split_whitespace().next()?.parse().ok())
        .map(Pid::from_raw)
}

/// Returns a run of a slow trial.
fn long_run(report: &Path) -> Command {
    let mut command = xtask(&["e2e", "--scenario", "nine_nodes", "--report"]);
    command.arg(report);
    command
}

#[test]
fn a_closed_terminal_ends_a_run_like_sigterm_does() {
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut run = Running::start(&mut long_run(folder.path()));
        run.wait_for("cluster: ");
        run.signal(signal);
        let (code, said) = run.end();
        assert_eq!(code, Some(130), "{signal}: {said}");
        let report = report_in(folder.path());
        assert_eq!(report["verdict"], "inconclusive", "{said}");
        assert_eq!(report["trials"][0]["outcome"]["status"], "interrupted", "{said}");
    }
}

#[test]
fn a_run_under_nohup_goes_on_when_the_terminal_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("nohup");
    command.args([
        XTASK,
        "e2e",
        "--scenario",
        "formation::forms::standalone-rpm",
        "--report",
    ]);
    let mut run = Running::start(command.arg(folder.path()));
    run.wait_for("cluster: ");
    run.signal(Signal::SIGHUP);
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_run_interrupted_before_its_cluster_is_up_writes_a_report() {
    let folder = tempfile::tempdir().expect("a folder");
    // The images are searched in an archive that never ends.
    let archive = folder.path().join("archive");
    nix::unistd::mkfifo(&archive, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let source = format!("archive={}", archive.display());
    let mut command = xtask(&[
        "e2e",
        "--scenario",
        "nine_nodes",
        "--image-source",
        &source,
        "--report",
    ]);
    let mut run = Running::start(command.arg(folder.path()));
    run.wait_for("run ");
    run.signal(Signal::SIGINT);
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    let report = report_in(folder.path());
    assert_eq!(
        (&report["verdict"], &report["interrupted"]),
        (&"inconclusive".into(), &true.into())
    );
    let why = report["trials"][0]["outcome"]["reason"]
        .as_str()
        .unwrap_or_default();
    assert!(why.contains("before its cluster was up"), "{why}");
}

#[test]
fn too_few_descriptors_are_one_clear_message_at_the_start() {
    let started = Instant::now();
    let script = "ulimit -n 20 && exec \"$0\" e2e --scenario formation::forms::standalone-rpm";
    let (code, said) = finish(Command::new("sh").args(["-c", script, XTASK]));
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.starts_with("error: this process may use 20 file descriptors"),
        "{said}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Running::start(&mut long_run(folder.path()));
    first.wait_for("run ");
    let (code, said) = finish(&mut long_run(folder.path()));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("another run is writing to") && said.contains("--report"),
        "{said}"
    );
    let folder = folder.path().display().to_string();
    let (code, said) = run(&["report", "recover", &folder]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is still going"), "{said}");
}

#[test]
fn a_cluster_started_three_times_at_once_runs_once() {
    let cache = tempfile::tempdir().expect("a folder");
    let name = format!("thrice-test-{}", std::process::id());
    let command = |verb: &str| {
        let mut command = xtask(&["cluster", verb, "--name", &name]);
        command
            .env("XDG_CACHE_HOME", cache.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let three: Vec<Child> = (0..3)
        .map(|_| command("up").spawn().expect("xtask runs"))
        .collect();
    let mut ends: Vec<(Option<i32>, String)> = three
        .into_iter()
        .map(|child| crate::fixtures::said(&child.wait_with_output().expect("it ends")))
        .collect();
    let (code, said) = finish(&mut command("down"));
    assert_eq!(code, Some(0), "{said}: {ends:?}");
    ends.sort();
    let codes: Vec<Option<i32>> = ends.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [Some(0), Some(2), Some(2)], "{ends:?}");
    assert!(ends[1].1.contains("is already running"), "{ends:?}");
    let left: Vec<_> = std::fs::read_dir(cache.path().join("valkey-e2e/clusters"))
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Starts a run on an external cluster, and waits until it works there.
fn run_elsewhere(cluster: &Cluster, report: &Path) -> Running {
    let mut command = xtask(&["e2e", "--cluster", "kubeconfig", "--context", &cluster.name]);
    command.arg("--kubeconfig").arg(&cluster.kubeconfig);
    command
        .args(["--scenario", "formation::forms", "--jobs", "3", "--report"])
        .arg(report);
    let run = Running::start(&mut command);
    let pods = || cluster.run("kubectl", &["get", "pods", "-A", "-o", "name"]);
    soon("the run installs its releases", || pods().contains("pod/vk"));
    run
}

#[test]
fn an_interrupted_guest_run_removes_its_namespaces() {
    let cluster = Cluster::up("guest", &[]);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folder = tempfile::tempdir().expect("a folder");
        let run = run_elsewhere(&cluster, folder.path());
        run.signal(signal);
        let (code, said) = run.end();
        assert_eq!(code, Some(130), "{signal}: {said}");
        assert!(said.contains("removing the namespaces of this run"), "{said}");
        let left = cluster.run(
            "kubectl",
            &["get", "namespaces", "-l", "valkey-e2e/run", "-o", "name"],
        );
        assert_eq!(left.trim(), "", "{signal}: {said}");
        let report = report_in(folder.path());
        let outcomes: BTreeSet<&str> = report["trials"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|trial| trial["outcome"]["status"].as_str())
            .collect();
        assert!(
            outcomes.contains("interrupted") && !outcomes.contains("skipped"),
            "{outcomes:?}"
        );
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_says_how_to_sweep() {
    let cluster = Cluster::up("twice", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let run = run_elsewhere(&cluster, folder.path());
    run.signal(Signal::SIGINT);
    run.signal(Signal::SIGTERM);
    let started = Instant::now();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let sweep = said
        .split_once("cargo xtask ")
        .map(|(_, command)| command.lines().next().unwrap_or_default());
    let words: Vec<&str> = sweep.expect("it names a command").split(' ').collect();
    // As it is printed, at once: the run is minutes old.
    let (code, swept) = crate::fixtures::run(&words);
    assert_eq!(code, Some(0), "{swept}");
    assert!(
        swept.contains(" 0 too young") && !swept.contains(" 0 removed"),
        "{swept}"
    );
}
