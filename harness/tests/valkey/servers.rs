//! Real valkey-servers on loopback, each on its own address, killed when dropped.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use harness::secret::Password;
use harness::valkey::links::Links;
use harness::valkey::{
    BoxedStream, ClusterObservation, Connection, Dialer, ExpectedTopology, PodFacts, connect,
};
use redis::Value;
use tempfile::TempDir;

/// Deadline that is long enough to form a cluster on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

const PASSWORD: &str = "loopback-secret";

pub(crate) fn password() -> Password {
    Password::new(PASSWORD)
}

/// Returns the path of `valkey-server`. A test that starts servers has `#[needs(valkey)]`.
fn server_program() -> PathBuf {
    let binaries = harness::images::host_binaries();
    binaries.expect("this test needs Valkey's programs").server
}

/// Servers called `valkey-0`, `valkey-1` …
pub(crate) struct Servers {
    binary: PathBuf,
    extra: Vec<String>,
    /// True if each server has its own small disk.
    small_disks: bool,
    dir: TempDir,
    pub(crate) nodes: BTreeMap<String, Node>,
}

pub(crate) struct Node {
    pub(crate) ip: Ipv4Addr,
    child: Child,
}

impl Drop for Servers {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}

impl Servers {
    /// Starts `count` servers with `extra` arguments.
    pub(crate) async fn start(count: u8, extra: &[&str]) -> Self {
        Self::start_with(count, extra, false).await
    }

    /// Starts servers that each have a small file system, which [`fill_disk`](Self::fill_disk)
    /// fills. It is in the server's mount namespace, so it disappears with the process. A test that
    /// calls this has `#[needs(mounts)]`.
    pub(crate) async fn on_small_disks(count: u8, extra: &[&str]) -> Self {
        Self::start_with(count, extra, true).await
    }

    async fn start_with(count: u8, extra: &[&str], small_disks: bool) -> Self {
        let binary = server_program();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
        let mut servers = Self {
            binary,
            extra,
            small_disks,
            dir,
            nodes: BTreeMap::new(),
        };
        let third = next_subnet();
        for index in 0..count {
            let ip = Ipv4Addr::new(127, process_subnet(), third, index + 1);
            servers.launch(&format!("valkey-{index}"), ip).await;
        }
        servers
    }

    /// Starts a formed cluster of `primaries` primaries with `replicas` replicas each.
    pub(crate) async fn cluster(primaries: u8, replicas: u8) -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let servers = Self::start(primaries * (1 + replicas), &arguments).await;
        servers.form(primaries).await;
        servers
    }

    pub(crate) async fn launch(&mut self, name: &str, ip: Ipv4Addr) {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).expect("a data directory");
        let mut command = Command::new(&self.binary);
        if self.small_disks {
            command = isolated();
            command.args(["sh", "-c", ON_SMALL_DISK, "sh"]).arg(&self.binary);
        }
        let child = command
            .current_dir(&dir)
            .args([
                "--port",
                "6379",
                "--bind",
                &ip.to_string(),
                "--save",
                "",
                "--appendonly",
                "yes",
            ])
            .args([
                "--requirepass",
                PASSWORD,
                "--primaryauth",
                PASSWORD,
                "--logfile",
                "log",
            ])
            .args([
                "--cluster-announce-ip",
                &ip.to_string(),
                "--repl-diskless-sync-delay",
                "0",
            ])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("valkey-server starts");
        self.nodes.insert(name.to_owned(), Node { ip, child });
        until("the server to answer", || async {
            self.try_connect(name).await.ok()
        })
        .await;
    }

    pub(crate) fn kill(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).expect("such a server");
        node.child.kill().expect("it was running");
        node.child.wait().expect("it ends");
    }

    /// Returns the ID of a server's process.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        self.nodes[name].child.id()
    }

    /// Fills a server's small disk.
    pub(crate) fn fill_disk(&self, name: &str) {
        let mut ballast = std::fs::File::create(self.ballast(name)).expect("a file on its disk");
        let page = [0_u8; 4096];
        let full = loop {
            if let Err(error) = ballast.write_all(&page) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
    }

    /// Frees the space again.
    pub(crate) fn free_disk(&self, name: &str) {
        std::fs::remove_file(self.ballast(name)).expect("its disk was full");
    }

    /// Returns the path of a file on a server's disk, which is visible only through its process.
    fn ballast(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/cwd/ballast", self.pid(name)))
    }

    /// Stops or continues a server with a signal.
    pub(crate) fn signal(&self, name: &str, signal: libc_signal::Signal) {
        signal.send(self.nodes[name].child.id());
    }

    async fn form(&self, primaries: u8) {
        let names: Vec<&String> = self.nodes.keys().collect();
        let first = self.nodes["valkey-0"].ip.to_string();
        for (index, name) in names.iter().enumerate() {
            let mut node = self.connection(name).await;
            let index = u32::try_from(index).expect("few");
            run(
                &mut node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()],
            )
            .await;
            if index < u32::from(primaries) {
                let bound = |n: u32| (f64::from(n) * 16384.0 / f64::from(primaries)).round() as u32;
                let (start, end) = (bound(index).to_string(), (bound(index + 1) - 1).to_string());
                run(&mut node, &["CLUSTER", "ADDSLOTSRANGE", &start, &end]).await;
            }
            run(&mut node, &["CLUSTER", "MEET", &first, "6379"]).await;
        }
        let count = names.len();
        for name in &names {
            until("all to know each other", || async {
                let text = text(&mut self.connection(name).await, &["CLUSTER", "NODES"]).await;
                (text.lines().count() == count && !text.contains("handshake")).then_some(())
            })
            .await;
        }
        for (index, name) in names.iter().enumerate().skip(usize::from(primaries)) {
            let primary = format!("valkey-{}", index % usize::from(primaries));
            let id = text(&mut self.connection(&primary).await, &["CLUSTER", "MYID"]).await;
            run(&mut self.connection(name).await, &["CLUSTER", "REPLICATE", &id]).await;
        }
        for name in names {
            until("cluster_state:ok", || async {
                let text = text(&mut self.connection(name).await, &["CLUSTER", "INFO"]).await;
                text.contains("cluster_state:ok").then_some(())
            })
            .await;
        }
    }

    async fn try_connect(&self, name: &str) -> Result<Connection, String> {
        let stream = self
            .dialer()
            .dial(name)
            .await
            .map_err(|error| error.to_string())?;
        connect(stream, Some(&password()))
            .await
            .map_err(|error| error.to_string())
    }

    pub(crate) async fn connection(&self, name: &str) -> Connection {
        self.try_connect(name).await.expect("the server answers")
    }

    pub(crate) fn dialer(&self) -> TcpDialer {
        TcpDialer {
            addresses: self
                .nodes
                .iter()
                .map(|(name, node)| (name.clone(), node.ip))
                .collect(),
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    pub(crate) async fn observe(&self, replicas_per_primary: u32) -> ClusterObservation {
        let links = Links::new(Arc::new(self.dialer()));
        self.observe_over(&links, replicas_per_primary).await
    }

    pub(crate) async fn observe_over(&self, links: &Links, replicas_per_primary: u32) -> ClusterObservation {
        let pods = self
            .nodes
            .iter()
            .map(|(name, node)| PodFacts {
                name: name.clone(),
                ordinal: name.rsplit('-').next().and_then(|ordinal| ordinal.parse().ok()),
                ip: Some(node.ip.to_string()),
                uid: name.clone(),
                ready: true,
                node: None,
                terminating: false,
                restart_count: 0,
                last_termination: None,
            })
            .collect();
        let count = u32::try_from(self.nodes.len()).expect("few");
        let expected = ExpectedTopology::cluster(count, replicas_per_primary);
        ClusterObservation::collect(expected, pods, links, &Some(password()).into()).await
    }
}

/// A slot that moves from valkey-0 to valkey-1.
pub(crate) struct Moving {
    slot: String,
    pub(crate) source: Connection,
    pub(crate) target: Connection,
    target_id: String,
    target_ip: Ipv4Addr,
}

impl Moving {
    /// Opens the slot on both sides.
    pub(crate) async fn begin(servers: &Servers, slot: u16) -> Self {
        let (mut source, mut target) = (
            servers.connection("valkey-0").await,
            servers.connection("valkey-1").await,
        );
        let slot = slot.to_string();
        let source_id = text(&mut source, &["CLUSTER", "MYID"]).await;
        let target_id = text(&mut target, &["CLUSTER", "MYID"]).await;
        run(
            &mut source,
            &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id],
        )
        .await;
        run(
            &mut target,
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id],
        )
        .await;
        let target_ip = servers.nodes["valkey-1"].ip;
        Self {
            slot,
            source,
            target,
            target_id,
            target_ip,
        }
    }

    /// Moves a key of the slot, if it still exists.
    pub(crate) async fn migrate(&mut self, key: &str) {
        let ip = self.target_ip.to_string();
        let command = ["MIGRATE", &ip, "6379", key, "0", "1000", "AUTH", PASSWORD];
        ask(&mut self.source, &command).await;
    }

    /// Closes the slot, which then belongs to valkey-1.
    pub(crate) async fn finish(mut self) {
        for node in [&mut self.target, &mut self.source] {
            run(node, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.target_id]).await;
        }
    }
}

/// Enough for a few generations of a ledger, but quickly filled.
const ON_SMALL_DISK: &str = "mount -t tmpfs -o size=64m tmpfs \"$PWD\" && cd \"$PWD\" && exec \"$@\"";

/// Returns a command that runs a program in its own mount namespace.
fn isolated() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    // Root needs no user namespace, and may lack the right to make one.
    if !std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

/// Returns a second octet for this process. Each group of servers also has its own third octet.
fn process_subnet() -> u8 {
    u8::try_from(std::process::id() % 200).expect("below 200") + 20
}

fn next_subnet() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Dials the servers over TCP.
#[derive(Clone)]
pub(crate) struct TcpDialer {
    addresses: BTreeMap<String, Ipv4Addr>,
}

impl TcpDialer {
    /// Dials servers that are already running.
    pub(crate) fn to(addresses: BTreeMap<String, Ipv4Addr>) -> Self {
        Self { addresses }
    }
}

impl Dialer for TcpDialer {
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let ip = self.addresses.get(pod).ok_or(io::ErrorKind::NotFound)?;
            let stream = tokio::net::TcpStream::connect((*ip, 6379)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

pub(crate) async fn ask(connection: &mut Connection, command: &[&str]) -> Value {
    let mut pipeline = redis::pipe();
    let question = pipeline.cmd(command[0]);
    for argument in &command[1..] {
        question.arg(*argument);
    }
    connection
        .send_packed_commands(&pipeline, 0, 1)
        .await
        .expect("an answer")
        .remove(0)
}

pub(crate) async fn run(connection: &mut Connection, command: &[&str]) {
    assert_eq!(ask(connection, command).await, Value::Okay, "{command:?}");
}

pub(crate) async fn text(connection: &mut Connection, command: &[&str]) -> String {
    redis::from_redis_value(ask(connection, command).await).expect("text")
}

/// Polls ten times a second until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
    }
}

/// Signals by process id.
pub(crate) mod libc_signal {
    /// The signals that tests send.
    #[derive(Clone, Copy)]
    pub(crate) enum Signal {
        Stop,
        Continue,
    }

    impl Signal {
        pub(crate) fn send(self, pid: u32) {
            let name = match self {
                Self::Stop => "-STOP",
                Self::Continue => "-CONT",
            };
            let status = std::process::Command::new("kill")
                .args([name, &pid.to_string()])
                .status();
            assert!(status.expect("kill runs").success(), "kill {name} {pid}");
        }
    }
}
