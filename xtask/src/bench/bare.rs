//! The floor of a formation: bare servers on loopback with the same configuration. `valkey-cli
//! --cluster create` forms them.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use harness::images::stand_in::Binaries;
use harness::secret::Password;
use harness::valkey::{BoxedStream, Connection, Dialer};
use manifests::release::CLIENT_PORT;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::formation::{Formed, all_ok, answers};

/// Number of servers: the chart's default for cluster mode.
pub(super) const NODES: u8 = 6;

/// Directives for a server's place, which differ for bare servers.
const OF_THE_PLACE: [&str; 3] = ["dir", "bind", "cluster-config-file"];

/// Six servers that are not started yet. Their folder is removed with this value.
pub(super) struct BareCluster {
    server: PathBuf,
    cli: PathBuf,
    configuration: String,
    folder: TempDir,
    password: Password,
}

impl BareCluster {
    /// Creates servers that read `configuration`, a `valkey.conf`, with the directives of place
    /// replaced.
    pub(super) fn new(binaries: &Binaries, configuration: &str) -> Result<Self> {
        Ok(Self {
            server: binaries.server.clone(),
            cli: binaries.cli.clone(),
            configuration: configuration.to_owned(),
            folder: tempfile::tempdir().context("failed to create a temporary folder")?,
            password: Password::new("loopback"),
        })
    }

    /// Forms the cluster, and returns the durations from the start of the first server.
    pub(super) async fn form(&self) -> Result<Formed> {
        let dialer = self.dialer();
        let names: Vec<String> = (1..=NODES).map(|node| address(node).to_string()).collect();
        let begun = Instant::now();
        let servers = names
            .iter()
            .map(|name| self.start(name))
            .collect::<Result<Vec<Child>>>()?;
        let up = names.iter().map(|name| answers(&dialer, name, &self.password));
        futures::future::try_join_all(up).await?;
        let up = begun.elapsed();
        tokio::try_join!(self.create(&names), all_ok(&dialer, &names, &self.password))?;
        let ok = begun.elapsed();
        for mut server in servers {
            server.kill().await.context("failed to stop a bare server")?;
        }
        Ok(Formed { up, ok })
    }

    pub(super) fn start(&self, name: &str) -> Result<Child> {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).context("failed to create a server's folder")?;
        let file = folder.join("valkey.conf");
        // The password is in a file, because every user of the machine can read the arguments.
        fs::write(
            &file,
            configuration(&self.configuration, name, &folder, self.password.expose()),
        )
        .context("failed to write a server's configuration")?;
        Command::new(&self.server)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("valkey-server cannot be run")
    }

    /// Returns the dialer of the servers.
    pub(super) fn dialer(&self) -> Arc<dyn Dialer> {
        Arc::new(Loopback)
    }

    /// Waits until a server answers.
    pub(super) async fn answers(&self, name: &str) -> Result<Connection> {
        answers(&self.dialer(), name, &self.password).await
    }

    /// Runs `valkey-cli --cluster create`.
    pub(super) async fn create(&self, names: &[String]) -> Result<()> {
        let output = Command::new(&self.cli)
            .args(["--cluster", "create"])
            .args(names.iter().map(|name| format!("{name}:{CLIENT_PORT}")))
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .env("REDISCLI_AUTH", self.password.expose())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("valkey-cli cannot be run")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "valkey-cli --cluster create failed:\n{said}"
        );
        Ok(())
    }
}

/// Reaches servers by their loopback addresses.
struct Loopback;

impl Dialer for Loopback {
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect((pod, CLIENT_PORT)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

/// Returns a loopback address that no concurrent process of this program uses.
pub(super) fn address(node: u8) -> Ipv4Addr {
    let [low, high, ..] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, 64 + high % 128, low, node)
}

/// Returns `given` with the directives of a server's place replaced.
fn configuration(given: &str, address: &str, folder: &Path, password: &str) -> String {
    let directive = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let kept = given
        .lines()
        .filter(|line| !OF_THE_PLACE.contains(&directive(line).as_str()));
    let own = [
        format!("dir \"{}\"", folder.display()),
        format!("bind {address}"),
        format!("cluster-announce-ip {address}"),
        format!("requirepass {password}"),
        format!("masterauth {password}"),
    ];
    let mut text: String = kept.map(|line| format!("{line}\n")).collect();
    text.extend(own.map(|line| line + "\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_where_the_server_is_differs() {
        let given = "port 6379\ndir /data\nbind 0.0.0.0\nappendonly yes\ncluster-config-file /data/nodes.conf\n\
            cluster-node-timeout 3000\n";
        let expected = "port 6379\nappendonly yes\ncluster-node-timeout 3000\ndir \"/tmp/x\"\nbind 127.64.0.1\n\
            cluster-announce-ip 127.64.0.1\nrequirepass pw\nmasterauth pw\n";
        assert_eq!(
            configuration(given, "127.64.0.1", Path::new("/tmp/x"), "pw"),
            expected
        );
    }

    #[test]
    fn every_server_has_a_loopback_address_of_its_own() {
        let addresses: std::collections::BTreeSet<Ipv4Addr> = (1..=NODES).map(address).collect();
        assert_eq!(addresses.len(), usize::from(NODES));
        assert!(
            addresses
                .iter()
                .all(|address| address.is_loopback() && *address != Ipv4Addr::LOCALHOST)
        );
    }
}
