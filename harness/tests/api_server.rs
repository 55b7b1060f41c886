//! Behaviour of a run against an API server that throttles, forgets, refuses and goes away. The
//! server is a script: it answers each request by its number and its content.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::cluster::client::connect;
use harness::wait::{self, Expectation, Verdict, WaitError};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client, Config, ResourceExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The server's answer, and whether the connection stays open, as for a continuing watch.
struct Answer {
    status: u16,
    headers: &'static str,
    body: String,
    open: bool,
}

fn json(status: u16, body: impl Into<String>) -> Answer {
    Answer {
        status,
        headers: "",
        body: body.into(),
        open: false,
    }
}

/// Returns the lines of a watch that stays open after them.
fn watch(lines: &[String]) -> Answer {
    Answer {
        open: true,
        ..json(
            200,
            lines.iter().map(|line| format!("{line}\n")).collect::<String>(),
        )
    }
}

fn failure(code: u16, reason: &str, message: &str) -> String {
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{message}","reason":"{reason}","code":{code}}}"#
    )
}

fn object(version: u32, data: &str) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"a","resourceVersion":"{version}"}},"data":{{"is":"{data}"}}}}"#
    )
}

fn list(version: u32, items: &str) -> String {
    format!(
        r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}},"items":[{items}]}}"#
    )
}

fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

/// The scripted server, and the requests it got: method, path and query.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(script: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), script).await
    }

    async fn at(address: SocketAddr, script: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, record) = (Arc::new(script), asked.clone());
        let address = listener.local_addr().expect("a bound socket has an address");
        let task = tokio::spawn(async move {
            // Connections end with the server.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, script.clone(), record.clone()));
            }
        });
        Self { address, asked, task }
    }

    fn client(&self) -> Client {
        let url = format!("http://{}", self.address)
            .parse()
            .expect("an address makes a URL");
        connect(Config::new(url)).expect("a client needs no server")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics while holding it").clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<impl Fn(usize, &str) -> Answer>,
    record: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    // An answer before the whole request has been read would break the connection.
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a length is a number")
        });
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let what = head
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches(" HTTP/1.1")
        .to_owned();
    let number = {
        let mut asked = record.lock().expect("nobody panics while holding it");
        asked.push(what.clone());
        asked.len()
    };
    let Answer {
        status,
        headers,
        body,
        open,
    } = script(number, &what);
    // Without a length, the end of the connection ends the body.
    let answer = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    if open {
        // The connection stays open until the client or the server ends it.
        let _ = stream.read_u8().await;
    }
}

fn maps(client: Client) -> Api<ConfigMap> {
    Api::namespaced(client, "x")
}

/// Waits for the object to say `wanted`.
async fn wait_for(client: Client, wanted: &str, budget: Duration) -> Result<(), WaitError> {
    let what = Expectation::new("config map a", format!("to say {wanted}"), budget);
    let said = |map: Option<&ConfigMap>| map.and_then(|map| map.data.as_ref()?.get("is").cloned());
    wait::object(&maps(client), "a", what, |map| match said(map) {
        Some(text) if text == wanted => Verdict::Ready(()),
        other => Verdict::NotYet(format!("{other:?}")),
    })
    .await
}

#[tokio::test]
async fn a_throttled_request_waits_as_long_as_it_was_told_to() {
    let server = Server::start(|number, _| match number {
        1 | 3 => Answer {
            headers: "Retry-After: 1\r\n",
            ..json(429, failure(429, "TooManyRequests", "too many requests"))
        },
        _ => json(201, object(1, "x")),
    })
    .await;
    let started = Instant::now();
    let read = maps(server.client()).get("a").await;
    assert_eq!(read.expect("the second answer is good").name_any(), "a");
    let read_took = started.elapsed();
    let created = maps(server.client())
        .create(&PostParams::default(), &ConfigMap::default())
        .await;
    assert!(
        created.is_ok(),
        "a creation that was throttled has not taken place: {created:?}"
    );
    assert!(read_took >= Duration::from_secs(1), "{read_took:?}");
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_from_where_it_was() {
    let server = Server::start(|number, _| match number {
        1 => json(200, list(10, &object(7, "old"))),
        // The server ends the watch after a bookmark, as API servers do every few minutes.
        2 => json(200, format!("{}\n", event("BOOKMARK", &object(12, "")))),
        _ => watch(&[event("MODIFIED", &object(13, "new"))]),
    })
    .await;
    wait_for(server.client(), "new", Duration::from_secs(20))
        .await
        .expect("the second watch tells it");
    let asked = server.asked();
    assert_eq!(asked.len(), 3, "{asked:#?}");
    assert!(
        asked[1].contains("watch=true") && asked[1].contains("resourceVersion=10"),
        "{asked:#?}"
    );
    assert!(asked[2].contains("resourceVersion=12"), "{asked:#?}");
}

#[tokio::test]
async fn a_version_that_is_gone_is_answered_with_a_new_list() {
    let gone = failure(410, "Expired", "too old resource version: 10 (9000)");
    let (lists, watches) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start(move |_, what| {
        let watching = what.contains("watch=true");
        let number = if watching { &watches } else { &lists }.fetch_add(1, Ordering::SeqCst);
        match (watching, number) {
            (false, 0) => json(200, list(10, &object(7, "old"))),
            // An error event in the stream: the API server's history does not reach back so far.
            (true, 0) => json(200, format!("{}\n", event("ERROR", &gone))),
            (false, 1) => json(200, list(9000, &object(8999, "old"))),
            // A refusal, as long as the request asks for that version.
            (true, _) if what.contains("resourceVersion=9000") => json(410, gone.clone()),
            (false, _) => json(200, list(9100, &object(9050, "new"))),
            (true, _) => watch(&[]),
        }
    })
    .await;
    wait_for(server.client(), "new", Duration::from_secs(20))
        .await
        .expect("the third list tells it");
    let asked = server.asked();
    let lists = asked.iter().filter(|what| !what.contains("watch=true")).count();
    assert_eq!(lists, 3, "{asked:#?}");
}

#[tokio::test]
async fn a_refusal_to_watch_ends_the_wait_at_once_and_is_told() {
    let message = r#"configmaps is forbidden: User \"ci\" cannot watch resource \"configmaps\""#;
    let server = Server::start(move |_, _| json(403, failure(403, "Forbidden", message))).await;
    let started = Instant::now();
    let refused = wait_for(server.client(), "new", Duration::from_secs(60))
        .await
        .expect_err("it is forbidden");
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    let WaitError::Watch { source, .. } = refused else {
        panic!("{refused}")
    };
    assert!(source.to_string().contains("cannot watch resource"), "{source}");
}

/// Connections break, and for seconds nothing listens. The server that then listens does not know
/// the watch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_outlives_a_server_that_is_away_for_ten_seconds() {
    let before = Server::start(|number, _| match number {
        1 => json(200, list(10, &object(7, "old"))),
        _ => watch(&[]),
    })
    .await;
    let (address, client) = (before.address, before.client());
    let waiting = tokio::spawn(wait_for(client, "new", Duration::from_secs(60)));
    wait::poll(
        Expectation::new("the wait", "to watch", Duration::from_secs(10)),
        Duration::from_millis(20),
        || {
            std::future::ready(if before.asked().len() >= 2 {
                Verdict::Ready(())
            } else {
                Verdict::NotYet(String::new())
            })
        },
    )
    .await
    .expect("it does");
    drop(before);
    // The length of the absence is the point of this test.
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(10)).await;
    assert!(!waiting.is_finished(), "it gave up");
    let back = Instant::now();
    let after = Server::at(address, |_, what| {
        if what.contains("watch=true") {
            watch(&[event("MODIFIED", &object(11, "new"))])
        } else {
            json(200, list(11, &object(11, "new")))
        }
    })
    .await;
    waiting
        .await
        .expect("it does not panic")
        .expect("the server is back");
    assert!(
        back.elapsed() < Duration::from_secs(12),
        "noticed after {:?}",
        back.elapsed()
    );
    assert!(!after.asked().is_empty());
}
