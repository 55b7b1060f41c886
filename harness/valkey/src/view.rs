//! One node's view of itself and of the cluster, collected in one pipelined round trip.
//!
//! A server runs a whole pipeline without serving other clients' topology changes in between. So a
//! view is as good as a snapshot. The views of all nodes together are in
//! [`observation`](super::observation).

use jiff::Timestamp;
use redis::{Pipeline, RedisError, Value};
use serde::{Deserialize, Serialize};

use super::cluster_info::ClusterInfo;
use super::cluster_nodes::ClusterNodes;
use super::cluster_shards::{self, Shard};
use super::connection::{ConnectError, Connection};
use super::info::{Info, Memory, Persistence, Replication, Server};
use super::parse_error::ParseError;
use super::resp;
use super::slot_migrations::{self, SlotMigration};

/// One node's view at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// The pod that was asked.
    pub pod: String,
    /// The time of the answer.
    pub at: Timestamp,
    /// `CLUSTER INFO`; `None` on a server without cluster support.
    pub cluster_info: Option<ClusterInfo>,
    /// `CLUSTER NODES`; `None` on a server without cluster support.
    pub nodes: Option<ClusterNodes>,
    /// `CLUSTER SHARDS`; `None` on a server without cluster support.
    pub shards: Option<Vec<Shard>>,
    /// `CLUSTER GETSLOTMIGRATIONS`; `None` if the server does not support it (before Valkey 9).
    pub slot_migrations: Option<Vec<SlotMigration>>,
    /// `INFO replication`.
    pub replication: Replication,
    /// `INFO persistence`.
    pub persistence: Persistence,
    /// The memory limit and the evictions; `None` in observations of earlier versions.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// `INFO server`.
    pub server: Server,
    /// Keys in database 0.
    pub dbsize: u64,
    /// The directory that data is written to (`CONFIG GET dir`), if it may be read.
    pub data_dir: Option<String>,
    /// True if a password for primaries is configured (`CONFIG GET primaryauth`). The password
    /// itself is not kept.
    pub primary_auth_set: Option<bool>,
    /// True if the password for primaries is the one that clients of this server need. `None` if
    /// either password is unset or unreadable. Also `None` if replicas have their own user (`CONFIG
    /// GET masteruser`).
    #[serde(default)]
    pub primary_auth_matches: Option<bool>,
    /// True if clients need a password (`CONFIG GET requirepass`); the password itself is not kept.
    pub password_required: Option<bool>,
}

impl NodeView {
    /// Returns true if this replica lacks the password that its primary requires.
    pub fn is_locked_out(&self) -> bool {
        let unable = self.primary_auth_set == Some(false) && self.password_required == Some(true);
        unable && self.replication.link_up == Some(false)
    }
}

/// The reason why there is no view of a node. An unreachable node is an observation too, and is
/// serialised like one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ViewError {
    /// The kind of failure.
    pub kind: ViewErrorKind,
    /// The failure with its causes, in words.
    pub message: String,
}

/// The reasons for a missing view of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewErrorKind {
    /// There was no stream to the pod, or the stream ended.
    Unreachable,
    /// The password was missing or wrong.
    Authentication,
    /// The server is loading its dataset.
    Loading,
    /// No answer in time.
    Timeout,
    /// An answer could not be parsed, or was an unexpected error.
    Answer,
}

impl From<&ConnectError> for ViewError {
    fn from(error: &ConnectError) -> Self {
        let kind = match error {
            ConnectError::Refused(_) | ConnectError::Closed(_) | ConnectError::Dial(_) => {
                ViewErrorKind::Unreachable
            }
            ConnectError::NoAuth | ConnectError::WrongPass | ConnectError::NoPasswordSet => {
                ViewErrorKind::Authentication
            }
            ConnectError::Loading => ViewErrorKind::Loading,
            ConnectError::Timeout(_) => ViewErrorKind::Timeout,
            ConnectError::Protocol(_) => ViewErrorKind::Answer,
        };
        Self {
            kind,
            message: error_text::chain(error),
        }
    }
}

impl From<ConnectError> for ViewError {
    fn from(error: ConnectError) -> Self {
        Self::from(&error)
    }
}

impl From<ParseError> for ViewError {
    fn from(error: ParseError) -> Self {
        Self {
            kind: ViewErrorKind::Answer,
            message: error.to_string(),
        }
    }
}

impl From<RedisError> for ViewError {
    fn from(error: RedisError) -> Self {
        let kind = if error.is_timeout() {
            ViewErrorKind::Timeout
        } else if error.is_io_error() {
            ViewErrorKind::Unreachable
        } else if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::BusyLoading) {
            ViewErrorKind::Loading
        } else if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) {
            ViewErrorKind::Authentication
        } else {
            ViewErrorKind::Answer
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

/// Asks the node behind `connection` for everything the checks read.
///
/// # Errors
/// When the connection breaks, an answer is an unexpected error, or cannot be parsed.
pub async fn observe_node(pod: &str, connection: &mut Connection) -> Result<NodeView, ViewError> {
    let questions = questions();
    let answers = connection
        .send_packed_commands(&questions, 0, questions.len())
        .await?;
    let answers = <[Value; QUESTIONS]>::try_from(answers).map_err(|answers| ViewError {
        kind: ViewErrorKind::Answer,
        message: format!("{} answers to {QUESTIONS} questions", answers.len()),
    })?;
    interpret(pod, answers)
}

/// Number of commands that make a view.
const QUESTIONS: usize = 11;

fn questions() -> Pipeline {
    let mut questions = redis::pipe();
    for topic in ["INFO", "NODES", "SHARDS", "GETSLOTMIGRATIONS"] {
        questions.cmd("CLUSTER").arg(topic);
    }
    questions.cmd("INFO");
    questions.cmd("DBSIZE");
    // One name per command: a server that does not know `primaryauth` answers with an empty map.
    for name in ["dir", "primaryauth", "masterauth", "masteruser", "requirepass"] {
        questions.cmd("CONFIG").arg("GET").arg(name);
    }
    questions
}

fn interpret(pod: &str, answers: [Value; QUESTIONS]) -> Result<NodeView, ViewError> {
    let [
        cluster_info,
        nodes,
        shards,
        migrations,
        info,
        dbsize,
        dir,
        primaryauth,
        masterauth,
        masteruser,
        requirepass,
    ] = answers;
    let info = Info::parse(&required_text("INFO", info)?)?;
    // A server without cluster support correctly answers the first three with an error.
    let clustered = info.get("cluster_enabled") == Some("1");
    let (mut cluster_info_view, mut nodes_view, mut shards_view) = (None, None, None);
    if clustered {
        cluster_info_view = Some(ClusterInfo::parse(&required_text("CLUSTER INFO", cluster_info)?)?);
        nodes_view = Some(ClusterNodes::parse(&required_text("CLUSTER NODES", nodes)?)?);
        shards_view = Some(cluster_shards::parse(&required("CLUSTER SHARDS", shards)?)?);
    }
    Ok(NodeView {
        pod: pod.to_owned(),
        at: Timestamp::now(),
        cluster_info: cluster_info_view,
        nodes: nodes_view,
        shards: shards_view,
        slot_migrations: match migrations {
            Value::ServerError(_) => None,
            list => Some(slot_migrations::parse(&list)?),
        },
        replication: Replication::from_info(&info)?,
        persistence: Persistence::from_info(&info)?,
        memory: Memory::from_info(&info),
        server: Server::from_info(&info)?,
        dbsize: resp::integer(&required("DBSIZE", dbsize)?)
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0),
        data_dir: config_value(&dir),
        primary_auth_set: match (config_is_set(&primaryauth), config_is_set(&masterauth)) {
            (None, None) => None,
            (new, old) => Some(new.unwrap_or(false) || old.unwrap_or(false)),
        },
        primary_auth_matches: matches(&[&primaryauth, &masterauth], &requirepass)
            .filter(|_| config_is_set(&masteruser) != Some(true)),
        password_required: config_is_set(&requirepass),
    })
}

/// Compares the first set value of `given` with `wanted`; `None` if either is unset.
fn matches(given: &[&Value], wanted: &Value) -> Option<bool> {
    let set = |answer: &Value| config_value(answer).filter(|value| !value.is_empty());
    let given = given.iter().find_map(|answer| set(answer))?;
    Some(given == set(wanted)?)
}

fn required(command: &str, value: Value) -> Result<Value, ViewError> {
    match value {
        Value::ServerError(error) => {
            let mut view_error = ViewError::from(RedisError::from(error));
            view_error.message = format!("{command}: {}", view_error.message);
            Err(view_error)
        }
        value => Ok(value),
    }
}

fn required_text(command: &str, value: Value) -> Result<String, ViewError> {
    let value = required(command, value)?;
    resp::text(&value).ok_or_else(|| ViewError {
        kind: ViewErrorKind::Answer,
        message: format!("{command}: the answer is not text: {value:?}"),
    })
}

/// Returns the value in a `CONFIG GET` answer for one name. Returns `None` if the server does not
/// know the name or refuses.
fn config_value(answer: &Value) -> Option<String> {
    resp::pairs(answer)?
        .first()
        .and_then(|(_, value)| resp::text(value))
}

fn config_is_set(answer: &Value) -> Option<bool> {
    config_value(answer).map(|value| !value.is_empty())
}
