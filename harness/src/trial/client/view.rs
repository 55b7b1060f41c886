//! A client's observation: a script in the client pod acts as clients do. This module reads the
//! script's output.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use kube::{Api, ResourceExt};

use super::super::error::TrialError;
use super::super::exec::{self, ExecEnd};
use super::pod;
use crate::checks::client::{Answer, ClientView, Endpoint, TIMEOUT};
use crate::secret::Password;
use crate::valkey::observation::Mode;
use crate::valkey::slots::{SLOT_COUNT, tag_for_slot};

const SCRIPT: &str = include_str!("script.sh");

/// The beginning of every part of the script's output.
const MARK: &str = "== ";

/// Number of slots with a requested key, evenly spaced. The server redirects to most owners of a
/// cluster.
const REDIRECTIONS: u16 = 16;

/// Deadline of the script: one wait at the Service and one at the endpoints, with a margin for busy
/// nodes.
const WHOLE_LOOK: Duration = Duration::from_secs(3 * TIMEOUT.as_secs());

/// The name of the client port in the chart's documentation.
const PORT_NAME: &str = "valkey";

/// The entry of clients: a Service and one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) service: String,
    host: String,
    port: i32,
}

/// Returns the Services for clients of `servers`. Each has a cluster IP, and `port` or a port
/// called `valkey`. If some Services select servers, only those are returned.
pub(super) fn doors(services: &[Service], servers: &[Pod], port: i32) -> Vec<Door> {
    let mut doors: Vec<(bool, Door)> = services
        .iter()
        .filter_map(|service| Some((selects_any(service, servers), door(service, port)?)))
        .collect();
    let lead_somewhere = doors.iter().any(|(leads, _)| *leads);
    doors.retain(|(leads, _)| *leads || !lead_somewhere);
    doors.into_iter().map(|(_, door)| door).collect()
}

fn door(service: &Service, port: i32) -> Option<Door> {
    let spec = service.spec.as_ref()?;
    let internal = spec.type_.as_deref() != Some("ExternalName");
    if spec.cluster_ip.as_deref() == Some("None") || !internal {
        return None;
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    let named = |candidate: &&ServicePort| candidate.name.as_deref() == Some(PORT_NAME);
    let meant = ports.iter().find(named);
    let meant = meant.or_else(|| ports.iter().find(|candidate| candidate.port == port))?;
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    Some(Door {
        host: format!("{name}.{namespace}.svc"),
        service: name,
        port: meant.port,
    })
}

fn selects_any(service: &Service, pods: &[Pod]) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.filter(|selector| !selector.is_empty());
    selector.is_some_and(|selector| {
        pods.iter().any(|pod| {
            selector
                .iter()
                .all(|(key, value)| pod.labels().get(key) == Some(value))
        })
    })
}

/// Connects to `door`, and follows redirections.
///
/// # Errors
/// If the client pod's script cannot run, which says nothing about the release.
pub(super) async fn take(
    pods: &Api<Pod>,
    door: &Door,
    mode: Mode,
    password: Option<&Password>,
) -> Result<ClientView, TrialError> {
    let (port, seconds) = (door.port.to_string(), TIMEOUT.as_secs().to_string());
    let questions = questions(mode);
    let mut command = vec!["sh", "-c", SCRIPT, pod::NAME, &door.host, &port, &seconds];
    command.extend(questions.iter().map(String::as_str));
    // Not an argument, because everybody on the node can read arguments.
    let input = format!("{}\n", password.map(authentication).unwrap_or_default());
    let ran = exec::run(pods, pod::NAME, pod::NAME, &command, Some(&input));
    let ran = tokio::time::timeout(WHOLE_LOOK, ran).await;
    let failed = |why: String| TrialError::Client(format!("the client pod failed: {why}"));
    let ran = ran.map_err(|_| failed(format!("no result within {} s", WHOLE_LOOK.as_secs())))??;
    match ran.end {
        ExecEnd::Exited(0) => Ok(read(door, &ran.stdout, password.is_some())),
        ExecEnd::Exited(code) => Err(failed(format!("exit code {code}: {}", ran.stderr.trim()))),
        ExecEnd::NotStarted(why) => Err(failed(why)),
    }
}

/// Returns the commands that make a cluster name its nodes' addresses: the slot map and
/// redirections.
fn questions(mode: Mode) -> Vec<String> {
    if mode == Mode::Standalone {
        return Vec::new();
    }
    let step = usize::from(SLOT_COUNT / REDIRECTIONS);
    let keys = (0..SLOT_COUNT).step_by(step).map(tag_for_slot);
    let gets = keys.map(|tag| format!("GET client:{{{tag}}}"));
    std::iter::once("CLUSTER SLOTS".to_owned()).chain(gets).collect()
}

/// Returns the AUTH command in the input format of `valkey-cli`, for any password.
fn authentication(password: &Password) -> String {
    let quoted: String = password
        .expose()
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(byte)),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect();
    format!("AUTH \"{quoted}\"")
}

/// Reads the script's output. An endpoint without output did not answer.
fn read(door: &Door, printed: &str, authenticated: bool) -> ClientView {
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in printed.lines() {
        match (line.strip_prefix(MARK), parts.last_mut()) {
            (Some(title), _) => parts.push((title, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    let of = |title: &str| {
        let found = parts.iter().find(|(other, _)| *other == title);
        found.map(|(_, lines)| lines.as_slice()).unwrap_or_default()
    };
    let endpoint = |(title, lines): &(&str, Vec<&str>)| {
        let mut words = title.strip_prefix("endpoint ")?.splitn(3, ' ');
        let (node, port) = (words.next()?, words.next()?);
        Some(Endpoint {
            host: words.next().unwrap_or_default().to_owned(),
            port: port.to_owned(),
            node: (node != "-").then(|| node.to_owned()),
            answer: Answer::parse(lines, authenticated),
        })
    };
    let mut endpoints: Vec<Endpoint> = parts.iter().filter_map(endpoint).collect();
    endpoints.sort_by(|a, b| (&a.host, &a.node).cmp(&(&b.host, &b.node)));
    ClientView {
        service: door.service.clone(),
        address: format!("{}:{}", door.host, door.port),
        anonymous: Answer::parse(of("anonymous"), false),
        admitted: Answer::parse(of("admitted"), authenticated),
        endpoints,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(yaml: &str) -> Service {
        serde_yaml::from_str(yaml).expect("the test's own YAML is a Service")
    }

    fn server() -> Pod {
        serde_yaml::from_str("{metadata: {name: vk-0, labels: {app: vk, x: y}}}").expect("a pod")
    }

    #[test]
    fn services_for_clients_are_told_from_others() {
        let client = service(
            "{metadata: {name: vk, namespace: ns}, spec: {clusterIP: 10.0.0.1, selector: {app: vk},
              ports: [{name: metrics, port: 9121}, {name: valkey, port: 6380}]}}",
        );
        let headless = service(
            "{metadata: {name: vk-headless, namespace: ns}, spec: {clusterIP: None, selector: {app: vk},
              ports: [{name: valkey, port: 6379}]}}",
        );
        let metrics = service(
            "{metadata: {name: vk-metrics, namespace: ns}, spec: {clusterIP: 10.0.0.2, selector: {app: vk},
              ports: [{name: metrics, port: 9121}]}}",
        );
        let elsewhere = service(
            "{metadata: {name: other, namespace: ns}, spec: {clusterIP: 10.0.0.3, selector: {app: other},
              ports: [{name: tcp, port: 6379}]}}",
        );
        let all = [client, headless, metrics, elsewhere.clone()];
        let found = doors(&all, &[server()], 6379);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].host.as_str(), found[0].port), ("vk.ns.svc", 6380));
        // Without any other Service, a Service that selects nothing is the fault to report.
        assert_eq!(doors(&[elsewhere], &[server()], 6379).len(), 1);
    }

    #[test]
    fn any_password_can_be_sent() {
        let line = |password: &str| authentication(&Password::new(password));
        assert_eq!(line("plain"), "AUTH \"plain\"");
        assert_eq!(line("a \"b\\\n\u{e9}"), "AUTH \"a \\\"b\\\\\\x0a\\xc3\\xa9\"");
    }

    #[test]
    fn what_the_script_prints_is_read() {
        let door = Door {
            service: "vk".to_owned(),
            host: "vk.ns.svc".to_owned(),
            port: 6379,
        };
        let printed = "== anonymous\nNOAUTH Authentication required.\n== admitted\nOK\nPONG\n0\n16383\n10.0.0.9\n\
                       == endpoint abc 6379 10.0.0.9\nOK\nabc\n== endpoint - 6379 \n\n== endpoint def 6379 ?\n\n";
        let view = read(&door, printed, true);
        assert_eq!(view.admitted.served(), Some("PONG"));
        assert!(matches!(view.anonymous, Answer::Refused(_)));
        let hosts: Vec<(&str, Option<&str>)> = view
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.host.as_str(), endpoint.node.as_deref()))
            .collect();
        assert_eq!(hosts, [("", None), ("10.0.0.9", Some("abc")), ("?", Some("def"))]);
        assert_eq!(view.endpoints[1].answer.served(), Some("abc"));
        let nothing = read(&door, "", true);
        assert_eq!(
            (nothing.anonymous, nothing.admitted),
            (Answer::Silent, Answer::Silent)
        );
    }
}
