//! Logs, exec and port-forward through kube-rs, over TLS, against a fake node.

use crate::fake_node::FakeNode;
use crate::server::{Server, code, running_pod};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn pods(server: &Server) -> Api<Pod> {
    running_pod(&server.client(), "a").await;
    Api::namespaced(server.client(), "default")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_those_of_the_container_asked_for() {
    let server = Server::start();
    server.api.set_pod_runtime(FakeNode::shared(None));
    let api = pods(&server).await;
    let last = api
        .logs(
            "a",
            &LogParams {
                tail_lines: Some(1),
                ..LogParams::default()
            },
        )
        .await
        .expect("a log");
    assert_eq!(last, "main: three\n");
    let wrong = LogParams {
        container: Some("x".to_owned()),
        ..LogParams::default()
    };
    assert_eq!(code(api.logs("a", &wrong).await), 400);
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    assert_eq!(code(api.logs("a", &previous).await), 400);
    assert_eq!(code(api.logs("gone", &LogParams::default()).await), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_carries_input_output_and_its_end() {
    let server = Server::start();
    server.api.set_pod_runtime(FakeNode::shared(None));
    let api = pods(&server).await;
    let params = AttachParams::default().stdin(true);
    let mut process = api.exec("a", ["cat"], &params).await.expect("started");
    let status = process.take_status().expect("not taken yet");
    let mut stdin = process.stdin().expect("asked for");
    stdin.write_all(b"hello").await.expect("written");
    stdin.shutdown().await.expect("closed");
    drop(stdin);
    let mut output = String::new();
    process
        .stdout()
        .expect("asked for")
        .read_to_string(&mut output)
        .await
        .expect("read");
    assert_eq!(output, "hello");
    assert_eq!(status.await.expect("a status").status.as_deref(), Some("Success"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_tells_the_exit_code_and_what_cannot_be_started() {
    let server = Server::start();
    server.api.set_pod_runtime(FakeNode::shared(None));
    let api = pods(&server).await;
    let mut process = api
        .exec("a", ["exit", "7"], &AttachParams::default())
        .await
        .expect("started");
    let status = process.take_status().expect("not taken yet");
    let mut errors = String::new();
    process
        .stderr()
        .expect("asked for")
        .read_to_string(&mut errors)
        .await
        .expect("read");
    assert_eq!(errors, "leaving");
    let status = status.await.expect("a status");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.expect("details").causes.expect("causes");
    assert_eq!(
        (causes[0].reason.as_deref(), causes[0].message.as_deref()),
        (Some("ExitCode"), Some("7"))
    );

    let mut process = api
        .exec("a", ["nowhere"], &AttachParams::default())
        .await
        .expect("upgraded");
    let status = process
        .take_status()
        .expect("not taken yet")
        .await
        .expect("a status");
    assert!(
        status
            .message
            .expect("a message")
            .contains("executable file not found")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portforward_reaches_the_port_and_ends_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut question = [0; 4];
        stream.read_exact(&mut question).await.expect("a question");
        stream.write_all(b"pong").await.expect("answered");
    });
    let server = Server::start();
    server.api.set_pod_runtime(FakeNode::shared(Some(port)));
    let api = pods(&server).await;
    let mut forward = api.portforward("a", &[6379]).await.expect("upgraded");
    let mut stream = forward.take_stream(6379).expect("asked for");
    stream.write_all(b"ping").await.expect("written");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("read until the pod closes");
    assert_eq!(answer, "pong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn portforward_to_a_closed_port_says_so() {
    let server = Server::start();
    server.api.set_pod_runtime(FakeNode::shared(None));
    let api = pods(&server).await;
    let mut forward = api.portforward("a", &[6379]).await.expect("upgraded");
    let error = forward
        .take_error(6379)
        .expect("asked for")
        .await
        .expect("an error");
    assert!(error.contains("error forwarding port 6379"), "{error}");
}
