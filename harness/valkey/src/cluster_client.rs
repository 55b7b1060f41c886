//! A client that routes by slot over port-forwarded connections.
//!
//! The `redis` crate's own cluster client dials announced addresses, which only pods can reach.
//! This one learns each pod's node ID, and follows MOVED, ASK, TRYAGAIN, CLUSTERDOWN and LOADING by
//! pod name. It always reports the execution state of a command: see [`CommandError`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::cluster_nodes::ClusterNodes;
use super::connection::{ConnectError, Connection, dial_with_any};
use super::dialer::Dialer;
use super::reply::{Redirect, Verdict, judge};
use super::resp;
use super::routed::{CommandError, Resend, Routed};
use super::slot_map::SlotMap;
use secret::Passwords;

/// Number of commands in flight on one connection before their answers are read. Large enough to
/// fill a port-forward, small enough to keep buffers small.
const BATCH: usize = 2048;

/// The pause before retrying a command after TRYAGAIN, CLUSTERDOWN or a broken connection. A
/// failover or a migration takes seconds; asking more often only adds load.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Time that a node may take to report its view of the cluster. If one node is silent, the views of
/// the others suffice.
const VIEW_TIMEOUT: Duration = Duration::from_secs(1);

/// Time that a command is retried by default. Longer than a failover with the chart's default node
/// timeout (15 s).
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// Routes commands to the pods that own their slots. Share it by reference or in an `Arc`.
pub struct RoutedClient {
    dialer: Arc<dyn Dialer>,
    passwords: Passwords,
    within: Duration,
    state: Mutex<Routes>,
    /// Time of the last shared refresh.
    refreshed: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Routes {
    pods: Vec<String>,
    map: Arc<SlotMap>,
    /// Pods that did not report slot owners at the last refresh, with the reasons.
    silent: BTreeMap<String, String>,
    connections: BTreeMap<String, Connection>,
}

/// The next destination of a pending command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Destination {
    pod: String,
    asking: bool,
}

struct Pending {
    index: usize,
    ask: Option<String>,
    last: String,
}

impl RoutedClient {
    /// Creates a client of the server pods `pods`, which connects on first use.
    pub fn new(dialer: Arc<dyn Dialer>, passwords: impl Into<Passwords>, pods: Vec<String>) -> Self {
        let state = Routes {
            pods,
            ..Routes::default()
        };
        Self {
            dialer,
            passwords: passwords.into(),
            within: DEFAULT_DEADLINE,
            state: Mutex::new(state),
            refreshed: Mutex::default(),
        }
    }

    /// Returns this client with another deadline.
    #[must_use]
    pub fn with_deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Replaces the pods of the release.
    pub async fn set_pods(&self, pods: Vec<String>) {
        let mut state = self.state.lock().await;
        state.connections.retain(|pod, _| pods.contains(pod));
        state.pods = pods;
        state.map = Arc::default();
    }

    /// Returns the last known slot map; empty before the first command.
    pub async fn slot_map(&self) -> Arc<SlotMap> {
        self.state.lock().await.map.clone()
    }

    /// Applies a MOVED that another client met; `false` if no known pod has that address.
    pub(crate) async fn learn(&self, slot: u16, address: &str) -> bool {
        Arc::make_mut(&mut self.state.lock().await.map).learn(slot, address)
    }

    /// Explains that a command for `slot` cannot be sent because no owner is known. Lists the pods
    /// that did not report, with the reasons.
    pub(crate) async fn ownerless(&self, slot: u16) -> String {
        let state = self.state.lock().await;
        let mut text = format!("slot {slot} has no known owner");
        for (pod, why) in &state.silent {
            text.push_str(&format!("; {pod}: {why}"));
        }
        text
    }

    /// Asks every pod again for the slot owners. Leaves out pods that do not answer.
    pub async fn refresh(&self) {
        let pods = self.state.lock().await.pods.clone();
        let ask = async |pod: &String| {
            let answer = tokio::time::timeout(VIEW_TIMEOUT, self.table_of(pod)).await;
            let late = || Err(format!("no answer within {} s", VIEW_TIMEOUT.as_secs()));
            (pod.clone(), answer.unwrap_or_else(|_| late()))
        };
        let answers = join_all(pods.iter().map(ask)).await;
        let mut tables: Vec<(String, ClusterNodes)> = Vec::new();
        let mut standalone = None;
        let mut silent = BTreeMap::new();
        for (pod, answer) in answers {
            match answer {
                Ok(Table::Cluster(nodes)) => tables.push((pod, nodes)),
                Ok(Table::Standalone) => standalone = standalone.or(Some(pod)),
                Err(why) => {
                    silent.insert(pod, why);
                }
            }
        }
        let map = match standalone {
            Some(pod) if tables.is_empty() => SlotMap::standalone(&pod),
            _ => SlotMap::from_tables(tables.iter().map(|(pod, nodes)| (pod.as_str(), nodes))),
        };
        let mut state = self.state.lock().await;
        state.map = Arc::new(map);
        state.silent = silent;
    }

    /// Refreshes the slot map unless it is younger than `age`. Concurrent callers share one
    /// refresh.
    pub(crate) async fn refresh_if_older(&self, age: Duration) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_none_or(|at| at.elapsed() >= age) {
            self.refresh().await;
            *refreshed = Some(Instant::now());
        }
    }

    /// Executes one command.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn execute(&self, slot: u16, command: Cmd, resend: Resend) -> Result<Value, CommandError> {
        self.execute_all(vec![Routed { slot, command }], resend)
            .await
            .pop()
            .expect("one command has one answer")
    }

    /// Executes commands, pipelined per node, and returns their answers in the commands' order.
    /// Commands for one slot run in order unless one of them is redirected.
    pub async fn execute_all(
        &self,
        commands: Vec<Routed>,
        resend: Resend,
    ) -> Vec<Result<Value, CommandError>> {
        let deadline = Instant::now() + self.within;
        let mut results: Vec<Option<Result<Value, CommandError>>> = vec![None; commands.len()];
        let mut pending: Vec<Pending> = (0..commands.len())
            .map(|index| Pending {
                index,
                ask: None,
                last: "nothing".to_owned(),
            })
            .collect();
        while !pending.is_empty() {
            let mut round = self.round(&commands, &mut results, pending, resend).await;
            if !round.again.is_empty() && Instant::now() >= deadline {
                for Pending { index, last, .. } in round.again.drain(..) {
                    results[index] = Some(Err(CommandError::GaveUp {
                        within: self.within,
                        last,
                    }));
                }
            } else if round.pause {
                tokio::time::sleep_until(Instant::now() + BACK_OFF).await;
                self.refresh().await;
            }
            pending = round.again;
        }
        results
            .into_iter()
            .map(|result| result.expect("every command was settled"))
            .collect()
    }

    /// Sends every pending command to its present owner, and settles those with a final answer.
    async fn round(
        &self,
        commands: &[Routed],
        results: &mut [Option<Result<Value, CommandError>>],
        pending: Vec<Pending>,
        resend: Resend,
    ) -> Round {
        let mut round = Round::default();
        let mut groups: BTreeMap<Destination, Vec<Pending>> = BTreeMap::new();
        for mut command in pending {
            match self
                .target(commands[command.index].slot, command.ask.take())
                .await
            {
                Some(target) => groups.entry(target).or_default().push(command),
                None => {
                    command.last = self.ownerless(commands[command.index].slot).await;
                    round.again.push(command);
                    round.pause = true;
                }
            }
        }
        let answers = join_all(groups.into_iter().map(|(target, group)| async move {
            let answers = self.send(&target, &group, commands).await;
            (target, group, answers)
        }))
        .await;
        for (target, group, answers) in answers {
            for (command, answer) in group.into_iter().zip(answers) {
                self.settle(&target, command, answer, resend, results, &mut round)
                    .await;
            }
        }
        round
    }

    async fn settle(
        &self,
        target: &Destination,
        mut command: Pending,
        answer: Answer,
        resend: Resend,
        results: &mut [Option<Result<Value, CommandError>>],
        round: &mut Round,
    ) {
        let pod = &target.pod;
        let value = match answer {
            Answer::Value(value) => value,
            Answer::Lost(cause) if resend == Resend::Never => {
                let lost = CommandError::Unknown {
                    pod: pod.clone(),
                    cause,
                };
                results[command.index] = Some(Err(lost));
                return;
            }
            Answer::Lost(cause) | Answer::NotSent(cause) => {
                command.last = format!("{pod}: {cause}");
                round.again.push(command);
                round.pause = true;
                return;
            }
        };
        let Value::ServerError(error) = value else {
            results[command.index] = Some(Ok(value));
            return;
        };
        let error = RedisError::from(error);
        command.last = format!("{pod}: {error}");
        match judge(&error) {
            Verdict::Final => {
                results[command.index] = Some(Err(CommandError::Refused {
                    pod: pod.clone(),
                    code: error.code().unwrap_or_default().to_owned(),
                    message: error.to_string(),
                }));
            }
            Verdict::Later => {
                round.again.push(command);
                round.pause = true;
            }
            Verdict::Elsewhere(redirect) => {
                round.pause |= !self.follow(&redirect, &mut command).await;
                round.again.push(command);
            }
        }
    }

    /// Applies a redirect; `false` if no known pod has its address.
    async fn follow(&self, redirect: &Redirect, command: &mut Pending) -> bool {
        let mut state = self.state.lock().await;
        match redirect {
            Redirect::Moved { slot, address } => Arc::make_mut(&mut state.map).learn(*slot, address),
            Redirect::Ask { address } => {
                command.ask = state.map.pod_at(address).map(str::to_owned);
                command.ask.is_some()
            }
        }
    }

    async fn target(&self, slot: u16, ask: Option<String>) -> Option<Destination> {
        if let Some(pod) = ask {
            return Some(Destination { pod, asking: true });
        }
        if *self.state.lock().await.map == SlotMap::default() {
            self.refresh().await;
        }
        let state = self.state.lock().await;
        state.map.owner(slot).map(|pod| Destination {
            pod: pod.to_owned(),
            asking: false,
        })
    }

    /// Sends a group of commands to one pod in batches. After a connection breaks, the rest is
    /// reported as not sent.
    async fn send(&self, target: &Destination, group: &[Pending], commands: &[Routed]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(group.len());
        let mut connection = match self.connection(&target.pod).await {
            Ok(connection) => connection,
            Err(error) => {
                let cause = error.to_string();
                return group.iter().map(|_| Answer::NotSent(cause.clone())).collect();
            }
        };
        for batch in group.chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(batch.len() * 2);
            for command in batch {
                if target.asking {
                    pipeline.cmd("ASKING");
                }
                pipeline.add_command(commands[command.index].command.clone());
            }
            match connection
                .send_packed_commands(&pipeline, 0, pipeline.len())
                .await
            {
                Ok(values) => {
                    let keep = if target.asking { 2 } else { 1 };
                    answers.extend(values.into_iter().skip(keep - 1).step_by(keep).map(Answer::Value));
                }
                Err(error) => {
                    self.state.lock().await.connections.remove(&target.pod);
                    let cause = error.to_string();
                    let sent = answers.len() + batch.len();
                    answers.resize_with(sent, || Answer::Lost(cause.clone()));
                    answers.resize_with(group.len(), || Answer::NotSent(cause.clone()));
                    break;
                }
            }
        }
        answers
    }

    async fn connection(&self, pod: &str) -> Result<Connection, ConnectError> {
        if let Some(connection) = self.state.lock().await.connections.get(pod) {
            return Ok(connection.clone());
        }
        let connection = dial_with_any(&*self.dialer, pod, &self.passwords).await?;
        self.state
            .lock()
            .await
            .connections
            .insert(pod.to_owned(), connection.clone());
        Ok(connection)
    }

    async fn table_of(&self, pod: &str) -> Result<Table, String> {
        let mut connection = self.connection(pod).await.map_err(|error| error.to_string())?;
        let mut question = redis::pipe();
        question.cmd("CLUSTER").arg("NODES");
        let answer = match connection.send_packed_commands(&question, 0, 1).await {
            Ok(mut values) => values.pop().unwrap_or(Value::Nil),
            Err(error) => {
                self.state.lock().await.connections.remove(pod);
                return Err(error.to_string());
            }
        };
        match answer {
            Value::ServerError(error) => match error.details() {
                Some(text) if text.contains("cluster support disabled") => Ok(Table::Standalone),
                _ => Err(error.to_string()),
            },
            value => {
                let text = resp::text(&value).ok_or("the answer to CLUSTER NODES is not text")?;
                let table = ClusterNodes::parse(&text).map_err(|error| error.to_string())?;
                Ok(Table::Cluster(table))
            }
        }
    }
}

#[derive(Default)]
struct Round {
    again: Vec<Pending>,
    pause: bool,
}

enum Answer {
    Value(Value),
    Lost(String),
    NotSent(String),
}

enum Table {
    Cluster(ClusterNodes),
    Standalone,
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;

    use super::super::dialer::BoxedStream;
    use super::*;

    /// A dialer that reaches nobody and counts its calls.
    #[derive(Default)]
    struct Nowhere(AtomicUsize);

    impl Dialer for Nowhere {
        fn dial<'a>(&'a self, _pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
        }
    }

    #[tokio::test]
    async fn those_who_share_refreshes_ask_once_between_them() {
        let dialer = Arc::new(Nowhere::default());
        let client = RoutedClient::new(dialer.clone(), None, vec!["vk-0".to_owned()]);
        let asked = || dialer.0.load(Ordering::Relaxed);
        let all = (0..12).map(|_| client.refresh_if_older(Duration::from_secs(3600)));
        join_all(all).await;
        assert_eq!(asked(), 1);
        client.refresh_if_older(Duration::ZERO).await;
        assert_eq!(asked(), 2, "what is too old is asked for again");
        let why = "slot 7 has no known owner; vk-0: connection refused";
        assert_eq!(client.ownerless(7).await, why);
    }
}
