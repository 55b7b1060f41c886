//! The floors of scaling and of a rotation, on a formed cluster of bare servers. The cluster grows
//! by a shard, loses it again, and restarts its servers one after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::valkey::Connection;
use harness::valkey::cluster_info::ClusterInfo;
use harness::valkey::cluster_nodes::ClusterNodes;
use harness::valkey::info::Info;
use harness::valkey::slots::SlotRange;
use harness::wait::{self, Expectation, Verdict};
use manifests::release::CLIENT_PORT;
use redis::FromRedisValue;
use tokio::process::Child;

use super::DEADLINE;
use super::bare::{BareCluster, NODES, address};

/// Interval at which a server is polled. Every awaited change takes at least a few times as long.
const INTERVAL: Duration = Duration::from_millis(20);

/// Slots that a fourth primary takes from the other three: together a quarter of all slots.
const TAKEN: [SlotRange; 3] = [
    SlotRange {
        start: 4096,
        end: 5460,
    },
    SlotRange {
        start: 9557,
        end: 10922,
    },
    SlotRange {
        start: 15019,
        end: 16383,
    },
];

/// Durations of the acts.
pub(super) struct Operated {
    /// Adding two nodes: a primary with its share of the slots, and a replica.
    pub(super) up: Duration,
    /// Removing both nodes.
    pub(super) down: Duration,
    /// Restarting every server.
    pub(super) rotated: Duration,
}

/// A server, and a connection to it.
struct Node {
    name: String,
    child: Child,
    connection: Connection,
}

impl BareCluster {
    /// Forms a cluster, and measures all acts on it.
    pub(super) async fn operate(&self) -> Result<Operated> {
        let mut nodes = self.formed().await?;
        let begun = Instant::now();
        self.grow(&mut nodes).await.context("scale up")?;
        let up = begun.elapsed();
        let begun = Instant::now();
        shrink(&mut nodes).await.context("scale down")?;
        let down = begun.elapsed();
        let begun = Instant::now();
        for node in nodes.iter_mut().rev() {
            self.restart(node).await.context("restart")?;
        }
        Ok(Operated {
            up,
            down,
            rotated: begun.elapsed(),
        })
    }

    async fn formed(&self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            nodes.push(self.launch(number).await?);
        }
        let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        self.create(&names).await?;
        agreed(&nodes, usize::from(NODES)).await?;
        Ok(nodes)
    }

    async fn launch(&self, number: u8) -> Result<Node> {
        let name = address(number).to_string();
        let child = self.start(&name)?;
        let connection = self.answers(&name).await?;
        Ok(Node {
            name,
            child,
            connection,
        })
    }

    async fn grow(&self, nodes: &mut Vec<Node>) -> Result<()> {
        for number in [NODES + 1, NODES + 2] {
            let node = self.launch(number).await?;
            let (first, port) = (nodes[0].name.clone(), CLIENT_PORT.to_string());
            node.ask::<()>(&["CLUSTER", "MEET", &first, &port]).await?;
            nodes.push(node);
        }
        let count = nodes.len();
        agreed(nodes, count).await?;
        let primary = nodes[count - 2].id().await?;
        nodes[count - 1]
            .ask::<()>(&["CLUSTER", "REPLICATE", &primary])
            .await?;
        for (from, range) in TAKEN.iter().enumerate() {
            migrate(nodes, from, count - 2, *range).await?;
        }
        agreed(nodes, count).await
    }

    async fn restart(&self, node: &mut Node) -> Result<()> {
        // The server answers by closing the connection.
        let _ = node.ask::<redis::Value>(&["SHUTDOWN"]).await;
        node.child.wait().await.context("the server does not end")?;
        node.child = self.start(&node.name)?;
        node.connection = self.answers(&node.name).await?;
        settled(node).await
    }
}

impl Node {
    async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> Result<T> {
        let (first, arguments) = command.split_first().expect("a command has a name");
        let asked = redis::cmd(first)
            .arg(arguments)
            .query_async(&mut self.connection.clone())
            .await;
        asked.with_context(|| format!("{} refused {}", self.name, command.join(" ")))
    }

    async fn id(&self) -> Result<String> {
        self.ask(&["CLUSTER", "MYID"]).await
    }

    async fn nodes(&self) -> Result<ClusterNodes> {
        let text: String = self.ask(&["CLUSTER", "NODES"]).await?;
        Ok(ClusterNodes::parse(&text)?)
    }

    async fn says_ok(&self) -> Result<bool> {
        let text: String = self.ask(&["CLUSTER", "INFO"]).await?;
        Ok(ClusterInfo::parse(&text)?.is_ok())
    }
}

/// Moves slots from one node to another at once, and waits until both agree.
async fn migrate(nodes: &[Node], from: usize, to: usize, range: SlotRange) -> Result<()> {
    let target = nodes[to].id().await?;
    let (start, end) = (range.start.to_string(), range.end.to_string());
    let command = [
        "CLUSTER",
        "MIGRATESLOTS",
        "SLOTSRANGE",
        &start,
        &end,
        "NODE",
        &target,
    ];
    nodes[from].ask::<()>(&command).await?;
    for index in [from, to] {
        until(&nodes[index], "to see the slots moved", async |node| {
            let view = node.nodes().await?;
            Ok(view.owners_of(range.end).any(|owner| owner.id == target))
        })
        .await?;
    }
    Ok(())
}

/// Empties the last two nodes, and removes them.
async fn shrink(nodes: &mut Vec<Node>) -> Result<()> {
    let count = nodes.len();
    for (to, range) in TAKEN.iter().enumerate() {
        migrate(nodes, count - 2, to, *range).await?;
    }
    for mut gone in [nodes.pop(), nodes.pop()].into_iter().flatten() {
        let id = gone.id().await?;
        gone.ask::<()>(&["CLUSTER", "RESET", "HARD"]).await?;
        for node in nodes.iter() {
            node.ask::<()>(&["CLUSTER", "FORGET", &id]).await?;
        }
        gone.child.kill().await.context("failed to stop a bare server")?;
    }
    agreed(nodes, count - 2).await
}

/// Waits until every node knows `count` nodes and says ok. A replica must also be linked.
async fn agreed(nodes: &[Node], count: usize) -> Result<()> {
    for node in nodes {
        until(node, "to know every node", async |node| {
            Ok(node.nodes().await?.nodes.len() == count)
        })
        .await?;
        settled(node).await?;
    }
    Ok(())
}

async fn settled(node: &Node) -> Result<()> {
    until(node, "to say ok and be linked", async |node| {
        let text: String = node.ask(&["INFO", "replication"]).await?;
        let info = Info::parse(&text)?;
        let linked = info.get("master_link_status").is_none_or(|status| status == "up");
        // A new primary owns no slots and says fail until it joins the others.
        Ok(linked && (node.says_ok().await? || node.nodes().await?.nodes.len() == 1))
    })
    .await
}

/// Polls a server until `is_so` holds. An error ends the wait.
async fn until(node: &Node, expected: &str, is_so: impl AsyncFn(&Node) -> Result<bool>) -> Result<()> {
    let what = Expectation::new(&node.name, expected, DEADLINE);
    let so = wait::poll(what, INTERVAL, || async {
        match is_so(node).await {
            Ok(true) => Verdict::Ready(()),
            Ok(false) => Verdict::NotYet("not yet".to_owned()),
            Err(error) => Verdict::Never(format!("{error:#}")),
        }
    });
    Ok(so.await?)
}
