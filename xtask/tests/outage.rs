//! An API server that goes away in the middle of a run: for ten seconds, as a restart takes, and for good. A relay between
//! the run and the cluster breaks every connection and refuses new ones; the deployment itself goes on all the while.

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// The connection with which the absence begins: the run has made its namespaces by then, and watches its pods.
const FIRST_BROKEN: usize = 30;

#[test]
fn a_run_outlives_an_api_server_that_is_away_for_ten_seconds() {
    let cluster = Cluster::up("away-test");
    let relay = Relay::start(cluster.server(), Some(Duration::from_secs(10)));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (code, text, _) = cluster.run_through(&relay, folder.path());
    assert!(relay.was_away(), "the run was too short to be disturbed: {text}");
    assert_eq!(code, Some(0), "{text}");
    // It is on the timeline of a trial that bridged it, or a trial that could not was begun anew.
    let report = fs::read_to_string(folder.path().join("report.json")).expect("the run wrote its report");
    let told =
        report.contains("the API server is away") || text.contains("is begun anew: the API server was away");
    assert!(told, "nobody noticed: {text}");
}

#[test]
fn an_api_server_that_stays_away_is_the_environments_fault_and_soon() {
    let cluster = Cluster::up("gone-test");
    let relay = Relay::start(cluster.server(), None);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (code, text, took) = cluster.run_through(&relay, folder.path());
    assert!(relay.was_away(), "the run was too short to be disturbed: {text}");
    assert_eq!(code, Some(3), "{text}");
    let report = fs::read_to_string(folder.path().join("report.json")).expect("the run wrote its report");
    let report: Value = serde_json::from_str(&report).expect("a report is JSON");
    assert_eq!(report["verdict"], "inconclusive", "{text}");
    let outcomes: Vec<&Value> = report["trials"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|trial| &trial["outcome"])
        .collect();
    assert!(
        outcomes.iter().all(|outcome| outcome["status"] != "failed"),
        "{outcomes:#?}"
    );
    assert!(took < Duration::from_secs(240), "{took:?}");
}

/// Passes connections on, until it does not.
struct Relay {
    address: SocketAddr,
    away: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Relay {
    fn start(server: SocketAddr, absence: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (away, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (noted, ended) = (away.clone(), done.clone());
        std::thread::spawn(move || {
            pass_on(&listener, server, FIRST_BROKEN);
            drop(listener);
            noted.store(true, Ordering::SeqCst);
            let Some(absence) = absence else { return };
            // How long it is away is the point.
            let (_never, nothing) = mpsc::channel::<()>();
            let _ = nothing.recv_timeout(absence);
            let listener = TcpListener::bind(address).expect("the port is still free");
            if !ended.load(Ordering::SeqCst) {
                pass_on(&listener, server, usize::MAX);
            }
        });
        Self { address, away, done }
    }

    fn was_away(&self) -> bool {
        self.away.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
    }
}

/// Passes so many connections on, and then breaks all of them.
fn pass_on(listener: &TcpListener, server: SocketAddr, count: usize) {
    let open: Mutex<Vec<TcpStream>> = Mutex::default();
    let accepted = AtomicUsize::new(0);
    while accepted.fetch_add(1, Ordering::SeqCst) < count {
        let Ok((client, _)) = listener.accept() else {
            return;
        };
        let Ok(upstream) = TcpStream::connect(server) else {
            return;
        };
        let both = [(&client, &upstream), (&upstream, &client)];
        for (from, to) in both.map(|(from, to)| (from.try_clone(), to.try_clone())) {
            let (mut from, mut to) = (
                from.expect("a socket can be cloned"),
                to.expect("a socket can be cloned"),
            );
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        let mut open = open.lock().expect("nobody panics while holding it");
        open.extend([client, upstream]);
    }
    for stream in open.into_inner().expect("nobody panics while holding it") {
        // It may have ended by itself.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// A cluster that goes down with the test, also with one that fails.
struct Cluster {
    name: String,
    kubeconfig: PathBuf,
}

impl Cluster {
    fn up(purpose: &str) -> Self {
        let name = format!("{purpose}-{}", std::process::id());
        let (code, text) = finish(Command::new(XTASK).args(["cluster", "up", "--name", &name]));
        assert_eq!(code, Some(0), "cluster up: {text}");
        let kubeconfig = text.lines().find(|line| line.ends_with("/kubeconfig"));
        let kubeconfig = PathBuf::from(kubeconfig.expect("cluster up prints the path of the kubeconfig"));
        Self { name, kubeconfig }
    }

    fn server(&self) -> SocketAddr {
        let kubeconfig = fs::read_to_string(&self.kubeconfig).expect("cluster up wrote it");
        let address = kubeconfig
            .split("https://")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        let address = address
            .expect("a kubeconfig has a server")
            .trim_end_matches(['"', '\'']);
        address.parse().expect("it is an address")
    }

    /// Runs one trial of each mode, with the relay in the way.
    fn run_through(&self, relay: &Relay, report: &Path) -> (Option<i32>, String, Duration) {
        let kubeconfig = fs::read_to_string(&self.kubeconfig).expect("cluster up wrote it");
        let through = kubeconfig.replace(&self.server().to_string(), &relay.address.to_string());
        let file = report.join("kubeconfig");
        fs::write(&file, through).expect("the folder is there");
        let mut e2e = Command::new(XTASK);
        e2e.args([
            "e2e",
            "--cluster",
            "kubeconfig",
            "--context",
            &self.name,
            "--kubeconfig",
        ]);
        e2e.arg(&file)
            .args(["--variant", "rpm", "--scenario", "data_survives_pod_deletion"]);
        let started = Instant::now();
        let (code, text) = finish(e2e.arg("--report").arg(report));
        (code, text, started.elapsed())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(XTASK)
            .args(["cluster", "down", "--name", &self.name])
            .status();
    }
}

#[track_caller]
fn finish(command: &mut Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the command was just built");
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (status.code(), text.concat())
}
