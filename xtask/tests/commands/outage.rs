//! An API server that goes away during a run: for ten seconds, like a restart, or for good. A relay
//! between the run and the cluster breaks every connection and refuses new ones. The deployment
//! itself keeps running.

use std::fs;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use harness::wait::{self, Expectation, Verdict, conditions};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use serde_json::Value;

use crate::fixtures::cluster::Cluster;
use crate::fixtures::{report_in, said, xtask};

/// Time until the first server must be ready.
const READY: Duration = Duration::from_secs(90);

#[test]
fn a_run_outlives_an_api_server_that_is_away_for_ten_seconds() {
    let cluster = Cluster::up("away", &[]);
    let relay = Relay::start(cluster.server(), Some(Duration::from_secs(10)));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (code, text, _) = run_through(&relay, &cluster, folder.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    // The outage is on the timeline of a trial that bridged it. Otherwise the trial was restarted.
    let report = fs::read_to_string(folder.path().join("report.json")).expect("the run wrote its report");
    let told = report.contains("the API server is unreachable")
        || text.contains("starts again: the API server was unreachable");
    assert!(told, "nobody noticed: {text}");
}

#[test]
fn a_lost_api_server_soon_ends_the_run_as_inconclusive() {
    let cluster = Cluster::up("gone", &[]);
    let relay = Relay::start(cluster.server(), None);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (code, text, took) = run_through(&relay, &cluster, folder.path(), &["--mode", "standalone"]);
    assert_eq!(code, Some(3), "{text}");
    let report = report_in(folder.path());
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

/// A relay for connections, until it is taken away.
struct Relay {
    address: SocketAddr,
    away: Arc<AtomicBool>,
}

impl Relay {
    /// Starts the relay. After it is taken away, it returns after `absence`, or never.
    fn start(server: SocketAddr, absence: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let away = Arc::new(AtomicBool::new(false));
        let taken = away.clone();
        // The thread ends with the process.
        std::thread::spawn(move || {
            pass_on(&listener, server, &taken);
            drop(listener);
            let Some(absence) = absence else { return };
            // The length of the absence matters.
            let (_never, nothing) = mpsc::channel::<()>();
            let _ = nothing.recv_timeout(absence);
            let listener = TcpListener::bind(address).expect("the port is still free");
            pass_on(&listener, server, &AtomicBool::new(false));
        });
        Self { address, away }
    }

    /// Breaks every connection, and refuses new ones.
    fn take_away(&self) {
        self.away.store(true, Ordering::SeqCst);
        // Wakes the pending accept.
        let _ = TcpStream::connect(self.address);
    }
}

/// Relays connections until `away`, and then breaks all of them.
fn pass_on(listener: &TcpListener, server: SocketAddr, away: &AtomicBool) {
    let mut open: Vec<TcpStream> = Vec::new();
    while let Ok((client, _)) = listener.accept() {
        if away.load(Ordering::SeqCst) {
            break;
        }
        let Ok(upstream) = TcpStream::connect(server) else {
            break;
        };
        for (from, to) in [(&client, &upstream), (&upstream, &client)] {
            let (mut from, mut to) = (
                from.try_clone().expect("a socket can be cloned"),
                to.try_clone().expect("a socket can be cloned"),
            );
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        open.extend([client, upstream]);
    }
    for stream in open {
        // The connection may have ended by itself.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Runs one trial per mode, or the selection of `more`, through the relay. Takes the relay away as
/// soon as a server is ready.
fn run_through(
    relay: &Relay,
    cluster: &Cluster,
    report: &Path,
    more: &[&str],
) -> (Option<i32>, String, Duration) {
    let kubeconfig = fs::read_to_string(&cluster.kubeconfig).expect("cluster up wrote it");
    let through = kubeconfig.replace(&cluster.server().to_string(), &relay.address.to_string());
    let file = report.join("kubeconfig");
    fs::write(&file, through).expect("the folder is there");
    let mut e2e = xtask(&["e2e", "--cluster", "kubeconfig", "--context", &cluster.name]);
    e2e.arg("--kubeconfig").arg(&file);
    e2e.args(["--variant", "rpm", "--scenario", "data_survives_pod_deletion"])
        .args(more);
    e2e.arg("--report")
        .arg(report)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let run = e2e.spawn().expect("the command was just built");
    wait_for_a_server(cluster);
    relay.take_away();
    let (code, text) = said(&run.wait_with_output().expect("it ends"));
    (code, text, started.elapsed())
}

/// Watches the cluster directly, past the relay.
fn wait_for_a_server(cluster: &Cluster) {
    let runtime =
        tokio::runtime::Runtime::new().expect("a process that cannot have threads cannot run tests");
    let ready = runtime.block_on(async {
        let what = Expectation::new("a server", "to be ready", READY);
        let pods = Api::<Pod>::all(cluster.client().await);
        wait::objects(&pods, watcher::Config::default(), what, |pods| {
            if pods.values().any(conditions::is_ready) {
                return Verdict::Ready(());
            }
            Verdict::NotYet(format!("{} pods", pods.len()))
        })
        .await
    });
    ready.expect("the run installs its releases");
}
