//! Six servers without Kubernetes: started on loopback, formed with `valkey-cli --cluster create`, ended.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::images;
use harness::valkey::connection::connect;
use harness::wait::{self, Expectation, Verdict};
use tokio::net::TcpStream;

/// Ports that are neither Valkey's own nor, with 10000 more for the bus, in the range that the kernel hands out.
const PORTS: std::ops::Range<u16> = 17_001..17_007;

/// How long the whole may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a server is asked.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long it takes from the start of the servers until every one of them calls the cluster ok.
pub(super) async fn formation() -> anyhow::Result<Duration> {
    let binaries = tokio::task::spawn_blocking(images::host_binaries).await??;
    let folder = tempfile::tempdir().context("no temporary folder could be made")?;
    let began = Instant::now();
    let mut servers = Servers(Vec::new());
    for port in PORTS {
        let data = folder.path().join(port.to_string());
        std::fs::create_dir(&data)?;
        let mut server = Command::new(&binaries.server);
        let port = port.to_string();
        server.args([
            "--port",
            &port,
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "3000",
        ]);
        server
            .args(["--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--dir"])
            .arg(&data);
        server
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        servers
            .0
            .push(server.spawn().context("valkey-server does not start")?);
    }
    for port in PORTS {
        says(port, "PING", "PONG").await?;
    }
    let mut create = tokio::process::Command::new(&binaries.cli);
    create
        .args(["--cluster", "create"])
        .args(PORTS.map(|port| format!("127.0.0.1:{port}")));
    create
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .stdin(Stdio::null());
    let created = create.output().await.context("valkey-cli does not start")?;
    ensure!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stdout)
    );
    for port in PORTS {
        says(port, "CLUSTER INFO", "cluster_state:ok").await?;
    }
    Ok(began.elapsed())
}

/// Servers that end with the value.
struct Servers(Vec<Child>);

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.0 {
            // A server that has ended by itself is ended.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Asks until the answer has `words` in it.
async fn says(port: u16, question: &'static str, words: &'static str) -> anyhow::Result<()> {
    let what = Expectation::new(
        format!("the server on port {port}"),
        format!("to say {words}"),
        PATIENCE,
    );
    let asked = wait::poll(what, INTERVAL, || async move {
        match ask(port, question).await {
            Ok(answer) if answer.contains(words) => Verdict::Ready(()),
            Ok(answer) => Verdict::NotYet(answer),
            Err(error) => Verdict::NotYet(error.to_string()),
        }
    });
    Ok(asked.await?)
}

async fn ask(port: u16, question: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut connection = connect(stream, None).await?;
    let mut command = redis::Cmd::new();
    question.split(' ').for_each(|word| {
        command.arg(word);
    });
    Ok(command.query_async(&mut connection).await?)
}
