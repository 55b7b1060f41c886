//! Real Valkey servers on loopback addresses, and the chart's scripts, run as the Jobs run them.
//!
//! A server is "pod i" at `127.NET.HOST.i:6379`. The binaries come from `PATH` or the cache of
//! published ones; without them the tests are ignored (`#[needs(valkey)]`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Container;
use manifests::{HookEvent, HookObject, Manifests, Password, Release, Values, ValuesInput, render};

/// The password of every server.
pub(crate) const PASSWORD: &str = "it's-secret$";
/// Node timeout: short for failure detection within a test, long enough for a busy machine.
const NODE_TIMEOUT_MS: u32 = 3000;
/// Longer than any wait in these tests, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// Number of sets so far: each has its own networks. The process ID separates parallel processes.
static SETS: AtomicU8 = AtomicU8::new(0);
/// Number of networks for a set: one, and one more for each full restart.
const LIVES: u8 = 4;

/// The servers of one test. Dropping them kills the processes.
pub(crate) struct Servers {
    bin: PathBuf,
    dir: tempfile::TempDir,
    network: u8,
    host: u8,
    running: BTreeMap<u32, Child>,
}

impl Servers {
    /// Starts servers 0..count.
    pub(crate) fn start(count: u32) -> Self {
        let binaries = harness::images::host_binaries().expect("this test needs Valkey's programs");
        let network = 2 + u8::try_from(std::process::id() % 250).expect("below 250");
        let host = SETS.fetch_add(1, Ordering::Relaxed) * LIVES;
        let dir = tempfile::tempdir().expect("a temporary directory");
        // The programs may come from two packages, and the scripts look for them on PATH.
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        for (name, program) in [("valkey-server", &binaries.server), ("valkey-cli", &binaries.cli)] {
            std::os::unix::fs::symlink(program, bin.join(name)).expect("a link");
        }
        let mut servers = Self {
            bin,
            dir,
            network,
            host,
            running: BTreeMap::new(),
        };
        for ordinal in 0..count {
            servers.start_one(ordinal, &[]);
        }
        servers
    }

    /// Starts one server on its previous volume, if there is one.
    pub(crate) fn start_one(&mut self, ordinal: u32, extra: &[&str]) {
        let dir = self.dir.path().join(ordinal.to_string());
        fs::create_dir_all(&dir).expect("a directory for the server");
        let log = File::options()
            .append(true)
            .create(true)
            .open(dir.join("log"))
            .expect("a log");
        let address = self.address(ordinal);
        let mut command = Command::new(self.bin.join("valkey-server"));
        command
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        command.args([
            "--port",
            "6379",
            "--protected-mode",
            "no",
            "--appendonly",
            "yes",
            "--save",
            "",
        ]);
        command.args([
            "--bind",
            &address,
            "--cluster-announce-ip",
            &address,
            "--cluster-enabled",
            "yes",
        ]);
        command.args([
            "--cluster-node-timeout",
            &NODE_TIMEOUT_MS.to_string(),
            "--repl-diskless-sync-delay",
            "0",
        ]);
        command
            .args(["--requirepass", PASSWORD, "--masterauth", PASSWORD])
            .args(extra);
        self.running
            .insert(ordinal, command.spawn().expect("valkey-server starts"));
        self.until(&format!("server {ordinal} to listen"), |servers| {
            let answer = servers.try_cli(ordinal, &["ping"]);
            answer.status.success() || text(&answer).contains("LOADING")
        });
    }

    /// Starts one server that takes 1 ms to load each key of its append-only file. It answers
    /// between batches of 1024 keys.
    pub(crate) fn start_one_loading(&mut self, ordinal: u32) {
        self.start_one(ordinal, &["--key-load-delay", "1000"]);
        let answer = self.try_cli(ordinal, &["ping"]);
        assert!(text(&answer).contains("LOADING"), "the oracle of this test");
    }

    /// Kills a server at once, as a node failure does.
    pub(crate) fn kill(&mut self, ordinal: u32) {
        let mut child = self.running.remove(&ordinal).expect("the server runs");
        child.kill().expect("the process is ours");
        child.wait().expect("the process is ours");
    }

    /// Kills every server and starts them on new addresses with their old volumes: a full restart.
    pub(crate) fn restart_all_elsewhere(&mut self) {
        let ordinals: Vec<_> = self.running.keys().copied().collect();
        for &ordinal in &ordinals {
            self.kill(ordinal);
        }
        self.host += 1;
        for ordinal in ordinals {
            self.start_one(ordinal, &[]);
        }
    }

    /// Returns a server's address since the last full restart.
    pub(crate) fn address(&self, ordinal: u32) -> String {
        format!("{}{ordinal}", self.prefix())
    }

    fn prefix(&self) -> String {
        format!("127.{}.{}.", self.network, self.host)
    }

    /// Runs one command; returns the answer without the last line break. Panics on an error answer.
    #[track_caller]
    pub(crate) fn cli(&self, ordinal: u32, arguments: &[&str]) -> String {
        let output = self.try_cli(ordinal, arguments);
        let text = String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .replace('\r', "");
        assert!(
            output.status.success(),
            "{arguments:?} on server {ordinal}: {text}"
        );
        text
    }

    /// Runs one command, and returns its output even if it fails.
    pub(crate) fn try_cli(&self, ordinal: u32, arguments: &[&str]) -> Output {
        let mut command = self.command(&["valkey-cli".to_owned(), "-e".to_owned()]);
        command.args(["-h", &self.address(ordinal)]).args(arguments);
        command.output().expect("valkey-cli runs")
    }

    /// Writes one key to each of `count` hash tags, following redirections.
    pub(crate) fn write_keys(&self, count: u32) {
        let commands: String = (0..count)
            .map(|key| format!("SET key:{key} value:{key}\n"))
            .collect();
        let answers = self.pipe(&commands);
        assert_eq!(
            answers.lines().filter(|line| line.trim() == "OK").count(),
            count as usize,
            "{answers}"
        );
    }

    /// Returns the number of keys of [`Self::write_keys`] that hold their value.
    pub(crate) fn intact_keys(&self, count: u32) -> u32 {
        let commands: String = (0..count).map(|key| format!("GET key:{key}\n")).collect();
        let answers = self.pipe(&commands);
        let values = answers
            .lines()
            .filter(|line| !line.starts_with("-> Redirected"))
            .zip(0..count)
            .filter(|(line, key)| line.trim() == format!("value:{key}"));
        u32::try_from(values.count()).expect("at most count")
    }

    fn pipe(&self, commands: &str) -> String {
        let input = self.dir.path().join("input");
        fs::write(&input, commands).expect("a temporary file");
        let mut command = self.command(&["valkey-cli".to_owned()]);
        command
            .args(["-c", "-h", &self.address(0)])
            .stdin(File::open(input).expect("just written"));
        String::from_utf8_lossy(&command.output().expect("valkey-cli runs").stdout).into_owned()
    }

    /// Replaces `valkey-cli` by this script, with the real one next to it as `real-valkey-cli`.
    pub(crate) fn put_in_front_of_the_client(&self, script: &str) {
        let client = self.bin.join("valkey-cli");
        fs::rename(&client, self.bin.join("real-valkey-cli")).expect("a link");
        fs::write(&client, script).expect("a file");
        fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// Returns the command of the hook at `event`, as its Job starts it. `differences` override the
    /// rendered variables.
    pub(crate) fn hook(&self, event: HookEvent, replicas: u32, differences: &[(&str, &str)]) -> Command {
        let manifests = manifests(replicas);
        let hook = manifests.hooks_for(event)[0];
        let HookObject::Job(job) = &hook.object else {
            panic!("{event:?} runs a Job")
        };
        let pod = job
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref())
            .expect("a pod template");
        self.container(&pod.containers[0], differences)
    }

    /// Returns the script that introduces the peers of server `ordinal`.
    pub(crate) fn introducer(&self, ordinal: u32) -> Command {
        let manifests = manifests(6);
        let spec = manifests.stateful_set.spec;
        let pod = spec.template.spec.expect("a pod template");
        let container = pod
            .containers
            .iter()
            .find(|container| container.name == "peers")
            .expect("rendered");
        self.container(container, &[("POD_IP", &self.address(ordinal))])
    }

    fn container(&self, container: &Container, differences: &[(&str, &str)]) -> Command {
        let mut command = self.command(container.command.as_deref().expect("a command"));
        for variable in container.env.iter().flatten() {
            if let Some(value) = &variable.value {
                command.env(&variable.name, value);
            }
        }
        command.env("HOST_PREFIX", self.prefix()).env("HOST_SUFFIX", "");
        command.env("TIMEOUT_SECONDS", DEADLINE.as_secs().to_string());
        command.envs(differences.iter().copied());
        command
    }

    /// Runs a probe's command, which uses 127.0.0.1 in a pod, against one server.
    pub(crate) fn probe(&self, command: &[String], ordinal: u32) -> bool {
        let mut words = command.to_vec();
        words.splice(1..1, ["-h".to_owned(), self.address(ordinal)]);
        self.command(&words)
            .output()
            .expect("the probe's command runs")
            .status
            .success()
    }

    /// Returns a command with only our binaries and the system's in its PATH. Its environment has
    /// the password.
    fn command(&self, words: &[String]) -> Command {
        let program = if words[0] == "valkey-cli" {
            self.bin.join("valkey-cli")
        } else {
            PathBuf::from(&words[0])
        };
        let mut command = Command::new(program);
        command
            .args(&words[1..])
            .env_clear()
            .env("REDISCLI_AUTH", PASSWORD)
            .process_group(0);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.bin.display()));
        command.stdin(Stdio::null());
        command
    }

    /// Polls a condition until it holds. Each poll starts a process, which is pause enough.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < DEADLINE, "gave up waiting for {what}");
        }
    }

    /// Waits until every server reports `cluster_state:ok` and knows exactly `count` servers.
    #[track_caller]
    pub(crate) fn until_formed(&self, count: u32) {
        self.until("every server to say ok", |servers| {
            (0..count).all(|ordinal| servers.lacks(ordinal, count).is_none())
        });
    }

    /// Panics unless every server does so now.
    #[track_caller]
    pub(crate) fn assert_formed(&self, count: u32) {
        let lacking: Vec<_> = (0..count)
            .filter_map(|ordinal| self.lacks(ordinal, count))
            .collect();
        assert!(lacking.is_empty(), "{}", lacking.join("\n"));
    }

    fn lacks(&self, ordinal: u32, count: u32) -> Option<String> {
        let info = self.cli(ordinal, &["cluster", "info"]);
        let wanted = [
            "cluster_state:ok".into(),
            "cluster_slots_ok:16384".into(),
            format!("cluster_known_nodes:{count}"),
        ];
        let missing: Vec<String> = wanted
            .into_iter()
            .filter(|line| !info.lines().any(|found| found == line))
            .collect();
        (!missing.is_empty()).then(|| format!("server {ordinal} lacks {}:\n{info}", missing.join(", ")))
    }

    /// Returns the number of slots by ordinal, in server 0's view.
    pub(crate) fn slots(&self) -> BTreeMap<u32, u32> {
        let nodes = self.cli(0, &["cluster", "nodes"]);
        let mut slots = BTreeMap::new();
        for line in nodes.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let ip = words[1].split(':').next().expect("an address");
            let ordinal = ip
                .rsplit('.')
                .next()
                .and_then(|ordinal| ordinal.parse().ok())
                .expect("one of ours");
            let count = words.iter().skip(8).map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                last.parse::<u32>().expect("a slot") - first.parse::<u32>().expect("a slot") + 1
            });
            let count: u32 = count.sum();
            if count > 0 {
                slots.insert(ordinal, count);
            }
        }
        slots
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // An error means that it is dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Renders a cluster of `replicas` nodes, with one replica for each primary.
pub(crate) fn manifests(replicas: u32) -> Manifests {
    let release =
        Release::install("test", "default").with_password(Password::parse(PASSWORD).expect("valid"));
    let values: Values = ValuesInput::new()
        .set(format!(
            "mode=cluster,cluster.replicas={replicas},cluster.nodeTimeout={NODE_TIMEOUT_MS}"
        ))
        .resolve()
        .expect("valid values");
    render(&release, &values).expect("renders")
}

/// Returns the output of a script that succeeds.
#[track_caller]
pub(crate) fn succeed(mut command: Command) -> String {
    let output = command.output().expect("the script runs");
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    text
}

/// Returns the output of a script that fails.
#[track_caller]
pub(crate) fn fail(mut command: Command) -> String {
    let output = command.output().expect("the script runs");
    let text = text(&output);
    assert!(!output.status.success(), "{text}");
    text
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
