//! The actions of probes and lifecycle hooks: running a command, an HTTP request, a TCP connection.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::container_records::Running;
use crate::node::exec::{Captured, Executor, describe};
use crate::seconds::bounded;

/// The kubelet's user agent.
const USER_AGENT: &str = "kube-probe/1.36";

/// The limit of a response: enough for its status line and a useful text in the event.
const MAX_RESPONSE: u64 = 10 * 1024;

/// The outcome of a probe or hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure(String),
    /// The action could not be carried out, so nothing is known.
    Error(String),
}

/// The target of an action.
pub(super) struct HandlerTarget<'a> {
    pub(super) executor: &'a Executor,
    pub(super) running: &'a Running,
    pub(super) container: &'a Container,
    pub(super) pod_ip: &'a str,
}

impl HandlerTarget<'_> {
    pub(super) async fn probe(&self, probe: &Probe) -> Outcome {
        let limit = bounded(probe.timeout_seconds.unwrap_or(1).max(1));
        if let Some(exec) = &probe.exec {
            self.exec(exec, Some(limit)).await
        } else if let Some(get) = &probe.http_get {
            self.within(limit, self.http(get)).await
        } else if let Some(socket) = &probe.tcp_socket {
            self.within(limit, self.tcp(socket)).await
        } else {
            Outcome::Error("missing probe handler".to_owned())
        }
    }

    pub(super) async fn hook(&self, handler: &LifecycleHandler) -> Outcome {
        if let Some(exec) = &handler.exec {
            self.exec(exec, None).await
        } else if let Some(get) = &handler.http_get {
            self.http(get).await
        } else if let Some(sleep) = &handler.sleep {
            // This wait is the action itself.
            tokio::time::sleep_until(tokio::time::Instant::now() + bounded(sleep.seconds)).await;
            Outcome::Success
        } else if let Some(socket) = &handler.tcp_socket {
            self.tcp(socket).await
        } else {
            Outcome::Error("missing lifecycle handler".to_owned())
        }
    }

    async fn within(&self, limit: Duration, action: impl Future<Output = Outcome>) -> Outcome {
        timeout(limit, action).await.unwrap_or_else(|_| {
            Outcome::Failure(
                "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned(),
            )
        })
    }

    async fn exec(&self, exec: &ExecAction, limit: Option<Duration>) -> Outcome {
        let command = exec.command.clone().unwrap_or_default();
        if command.is_empty() {
            return Outcome::Error("no command specified".to_owned());
        }
        match self.executor.capture(self.running, &command, limit).await {
            Ok(Captured::Ended { exit, .. }) if exit.code() == 0 => Outcome::Success,
            Ok(Captured::Ended { output, .. }) => Outcome::Failure(output),
            Ok(Captured::TimedOut) => {
                let seconds = limit.unwrap_or_default().as_secs();
                Outcome::Failure(format!(
                    "command timed out: {:?} timed out after {seconds}s",
                    command.join(" ")
                ))
            }
            Err(error) => Outcome::Error(format!("failed to exec in container: {}", describe(&error))),
        }
    }

    async fn tcp(&self, socket: &TCPSocketAction) -> Outcome {
        let Some(port) = self.port(&socket.port) else {
            return unknown_port(&socket.port);
        };
        let host = socket
            .host
            .as_deref()
            .filter(|host| !host.is_empty())
            .unwrap_or(self.pod_ip);
        match TcpStream::connect((host, port)).await {
            Ok(_) => Outcome::Success,
            Err(error) => Outcome::Failure(format!("dial tcp {host}:{port}: {error}")),
        }
    }

    async fn http(&self, get: &HTTPGetAction) -> Outcome {
        let Some(port) = self.port(&get.port) else {
            return unknown_port(&get.port);
        };
        let host = get
            .host
            .as_deref()
            .filter(|host| !host.is_empty())
            .unwrap_or(self.pod_ip);
        let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut request = format!("GET {slash}{path} HTTP/1.1\r\nConnection: close\r\n");
        let headers = || get.http_headers.iter().flatten();
        let given = |name: &str| headers().any(|header| header.name.eq_ignore_ascii_case(name));
        for (name, value) in [
            ("Host", format!("{host}:{port}")),
            ("User-Agent", USER_AGENT.to_owned()),
            ("Accept", "*/*".to_owned()),
        ] {
            if !given(name) {
                request.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        for header in headers() {
            request.push_str(&format!("{}: {}\r\n", header.name, header.value));
        }
        request.push_str("\r\n");
        match exchange(host, port, &request).await {
            Ok(response) => judge(&response),
            Err(error) => Outcome::Failure(format!("Get \"http://{host}:{port}{slash}{path}\": {error}")),
        }
    }

    fn port(&self, port: &IntOrString) -> Option<u16> {
        resolve_port(self.container, port)
    }
}

fn resolve_port(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| u16::try_from(port.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

fn unknown_port(port: &IntOrString) -> Outcome {
    let name = match port {
        IntOrString::Int(port) => port.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    Outcome::Error(format!("couldn't find port: {name}"))
}

async fn exchange(host: &str, port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn judge(response: &str) -> Outcome {
    let status = response
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok());
    match status {
        // Redirects count as success, as in the kubelet when they leave the host.
        Some(200..=399) => Outcome::Success,
        Some(code) => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        None => Outcome::Failure("malformed HTTP response".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_from_200_to_399_are_success() {
        assert_eq!(judge("HTTP/1.1 204 No Content\r\n\r\n"), Outcome::Success);
        assert_eq!(judge("HTTP/1.0 301 Moved\r\n\r\n"), Outcome::Success);
        assert_eq!(
            judge("HTTP/1.1 503 Unavailable\r\n\r\n"),
            Outcome::Failure("HTTP probe failed with statuscode: 503".to_owned())
        );
        assert!(matches!(judge("SSH-2.0"), Outcome::Failure(_)));
    }

    #[test]
    fn ports_are_found_by_name() {
        let container: Container = serde_json::from_value(
            json!({"name": "c", "ports": [{"name": "valkey", "containerPort": 6379}]}),
        )
        .unwrap();
        assert_eq!(
            resolve_port(&container, &IntOrString::String("valkey".to_owned())),
            Some(6379)
        );
        assert_eq!(
            resolve_port(&container, &IntOrString::String("80".to_owned())),
            Some(80)
        );
        assert_eq!(
            resolve_port(&container, &IntOrString::String("other".to_owned())),
            None
        );
    }
}
