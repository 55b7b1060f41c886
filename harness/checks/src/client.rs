//! A client in another namespace reaches the servers through the Service and at every announced
//! endpoint.
//!
//! The operator's view uses port-forwards to each pod, and so bypasses Services, names and
//! networks. The observation of the same moment only maps endpoints to pod names.

use findings::merge_views;
use serde::{Deserialize, Serialize};
use valkey::observation::ClusterObservation;

use super::Violation;

/// The check's name.
pub const NAME: &str = "client";

/// The beginning of `valkey-cli`'s output when it has no connection; the reason is at the end.
const NO_CONNECTION: &str = "Could not connect to";

/// Answers of `getaddrinfo` for a name that does not resolve.
const UNRESOLVED: [&str; 3] = [
    "Name or service not known",
    "Temporary failure in name resolution",
    "No address associated with hostname",
];

/// The answer to a client's question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The lines of a reply to an admitted client. Errors other than those below count as a reply,
    /// too.
    Served(Vec<String>),
    /// `NOAUTH`, `WRONGPASS`, `NOPERM`, or a reply to `AUTH` other than `OK`.
    Refused(String),
    /// The name of the host has no address, in the resolver's words.
    Unresolved(String),
    /// There was no connection, for this reason.
    Unreachable(String),
    /// A connection, or an attempt at one, brought no answer within the client's timeout.
    Silent,
}

impl Answer {
    /// Parses the output of `valkey-cli`. `authenticated` says that its input began with an `AUTH`.
    pub fn parse(printed: &[&str], authenticated: bool) -> Self {
        let mut lines = printed
            .iter()
            .map(|line| line.trim_end_matches('\r'))
            .filter(|line| !line.is_empty())
            .peekable();
        let Some(&first) = lines.peek() else {
            return Self::Silent;
        };
        // The client reports a broken connection as an error, which is not the server's answer.
        if first.starts_with(NO_CONNECTION) || first.starts_with("Error: ") {
            let reason = first.rsplit(": ").next().unwrap_or(first).to_owned();
            return if UNRESOLVED.contains(&reason.as_str()) {
                Self::Unresolved(reason)
            } else {
                Self::Unreachable(reason)
            };
        }
        if authenticated {
            if first != "OK" {
                return Self::Refused(first.to_owned());
            }
            lines.next();
        }
        match lines.peek() {
            None => Self::Silent,
            Some(reply) if is_refusal(reply) => Self::Refused((*reply).to_owned()),
            Some(_) => Self::Served(lines.map(str::to_owned).collect()),
        }
    }

    /// Returns the first line of the reply to an admitted client.
    pub fn served(&self) -> Option<&str> {
        match self {
            Self::Served(lines) => lines.first().map(String::as_str),
            _ => None,
        }
    }

    /// Returns true if the server did not let the client in.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Describes the answer to a client that wanted to reach `whom`.
    fn describe(&self) -> String {
        match self {
            Self::Served(lines) => lines.first().cloned().unwrap_or_default(),
            Self::Refused(why) => format!("a refusal: {why}"),
            Self::Unresolved(why) => format!("a name that does not resolve ({why})"),
            Self::Unreachable(why) => format!("no connection ({why})"),
            Self::Silent => format!("no answer within {} s", TIMEOUT.as_secs()),
        }
    }
}

/// The client's timeout for a connection and all its answers.
pub const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

fn is_refusal(reply: &str) -> bool {
    ["NOAUTH", "WRONGPASS", "NOPERM"]
        .iter()
        .any(|code| reply.starts_with(code))
}

/// The view of a client that came through a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// The Service's name.
    pub service: String,
    /// Its host name and port, as the client used them.
    pub address: String,
    /// The answer to reading a key without a password.
    pub anonymous: Answer,
    /// The answer to `PING` with the password, if there is one.
    pub admitted: Answer,
    /// The endpoints that the server behind the Service sends clients to, once each.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint that a server announces to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// An address or a name; empty or `?` if the server has none to give.
    pub host: String,
    /// The port.
    pub port: String,
    /// The ID of the node that should answer there; `None` for the target of a redirection.
    pub node: Option<String>,
    /// The answer to `CLUSTER MYID` there.
    pub answer: Answer,
}

/// Finds Services and endpoints that do not serve a client as expected.
pub fn check(seen: &ClusterObservation, view: &ClientView) -> Vec<Violation> {
    let mut violations = Vec::new();
    let subject = format!("Service {}", view.service);
    if view.admitted.served() != Some("PONG") {
        let expected = format!("clients in another namespace to get PONG from {}", view.address);
        violations.push(Violation::new(NAME, &subject, expected, view.admitted.describe()));
        return violations;
    }
    let let_in = matches!(view.anonymous, Answer::Served(_));
    if let_in == seen.expected.auth {
        let expected = if seen.expected.auth {
            "clients without a password to be refused"
        } else {
            "clients to need no password"
        };
        let met = view.anonymous.describe();
        violations.push(Violation::new(NAME, &subject, expected, format!("{met:?}")));
    }
    violations.extend(
        view.endpoints
            .iter()
            .filter_map(|endpoint| endpoint_violation(seen, endpoint)),
    );
    merge_views(violations)
}

/// Returns a violation if clients do not find the announced node at the endpoint.
fn endpoint_violation(seen: &ClusterObservation, endpoint: &Endpoint) -> Option<Violation> {
    let Endpoint { host, port, node, .. } = endpoint;
    let name = |id: &str| seen.node_name(id);
    let subject = node.as_deref().map_or_else(
        || "the cluster".to_owned(),
        |id| seen.pod_of_node(id).map_or_else(|| name(id), str::to_owned),
    );
    if host.is_empty() || host == "?" {
        let expected = "to announce its address to clients";
        return Some(Violation::new(NAME, subject, expected, "clients get no address"));
    }
    let expected = format!("clients to reach it at the announced endpoint {host}:{port}");
    let met = match &endpoint.answer {
        Answer::Served(_) => {
            let found = endpoint.answer.served().unwrap_or_default();
            if node.as_deref().is_none_or(|id| id == found) {
                return None;
            }
            format!("clients are redirected to another server, {}", name(found))
        }
        Answer::Unresolved(_) => format!("clients are redirected to {}", endpoint.answer.describe()),
        other => format!("clients redirected there get {}", other.describe()),
    };
    Some(Violation::new(NAME, subject, expected, met))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
