//! The node on real containers: each trial is a pod's story, told by the API. All share one cluster.
//!
//! A test binary of its own (`harness = false`), since a cluster is made of copies of the executable that starts
//! it. The image is made from this machine's own shell and tools.

mod host_image;

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use embedded_cluster::supervisor::{EmbeddedCluster, Options, reexec};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, Secret};
use kube::api::{AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Bounds a failing wait; what is waited for takes milliseconds, or seconds where a probe's period decides.
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    reexec();
    // The workspace's dependencies bring two providers, and the client must be told which one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let arguments = Arguments::from_args();
    let dir = tempfile::tempdir().expect("a temporary directory");
    if !arguments.list {
        host_image::add(dir.path()).expect("an image from this machine's tools");
    }
    let runtime: &'static Runtime = Box::leak(Box::new(Runtime::new().expect("a runtime")));
    static CLUSTER: OnceLock<EmbeddedCluster> = OnceLock::new();
    let images = dir.path().to_owned();
    let client = move || {
        let cluster = CLUSTER.get_or_init(|| {
            runtime
                .block_on(EmbeddedCluster::start(Options::new("node-tests", &images)))
                .expect("the cluster starts")
        });
        cluster.client()
    };
    let mut trials = Vec::new();
    macro_rules! trials {
        ($($name:ident),* $(,)?) => {$({
            let client = client.clone();
            trials.push(Trial::test(stringify!($name), move || {
                let client = client();
                runtime.block_on($name(client))
            }));
        })*};
    }
    trials![
        a_pod_goes_through_the_kubelets_states_and_events,
        the_container_is_who_the_spec_says,
        logs_can_be_followed_to_their_end,
        commands_run_inside_the_container,
        a_port_of_the_pods_loopback_is_forwarded,
        a_crashing_container_restarts_at_once_and_then_backs_off,
        a_probe_that_cannot_run_counts_for_nothing,
        startup_comes_before_readiness,
        a_failed_liveness_probe_restarts_the_container,
        init_containers_and_sidecars_keep_their_order,
        a_missing_secret_is_waited_for_and_a_mounted_one_follows,
        an_image_that_is_not_there_is_said_so,
        deletion_asks_before_it_kills,
        a_job_like_pod_ends,
        what_is_not_supported_is_refused,
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    let code = conclusion.exit_code();
    drop(dir);
    // The cluster is a child of this process, tied to its life.
    if let Some(cluster) = CLUSTER.get()
        && conclusion.num_failed > 0
    {
        eprintln!("{}", cluster.log());
    }
    code
}

async fn a_pod_goes_through_the_kubelets_states_and_events(client: Client) -> Outcome {
    let mut times = Vec::new();
    for round in 0..4 {
        let name = format!("states-{round}");
        let api = pods(&client);
        let watch = api.clone();
        let watched = name.clone();
        let seen = tokio::spawn(async move {
            let mut seen: Vec<String> = Vec::new();
            let mut stream = std::pin::pin!(watch_object(watch, &watched));
            while let Ok(Some(pod)) = stream.try_next().await {
                let Some(pod) = pod else { continue };
                let state = summary(&pod);
                if seen.last() != Some(&state) {
                    seen.push(state);
                }
                if ready(&pod) {
                    break;
                }
            }
            seen
        });
        let begun = Instant::now();
        create(&client, pod(&name, json!({"command": ["sleep", "100"]}))).await?;
        until(&client, &name, "Running", |pod| phase(pod) == "Running").await?;
        times.push(begun.elapsed());
        let seen = tokio::time::timeout(PATIENCE, seen).await??;
        let order = ["Pending", "Running+ip+ready"];
        let mut rest = seen.iter();
        for wanted in order {
            check(
                rest.any(|state| state == wanted),
                format!("no {wanted} in order in {seen:?}"),
            )?;
        }
    }
    println!("create → Running as an API client sees it: {times:?}");
    let reasons = reasons(&client, "states-0").await?;
    for reason in ["Pulled", "Created", "Started"] {
        check(
            reasons.iter().any(|(known, _)| known == reason),
            format!("no event {reason} in {reasons:?}"),
        )?;
    }
    let first = pods(&client).get("states-0").await?;
    let conditions = first
        .status
        .clone()
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    for wanted in [
        "PodScheduled",
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
    ] {
        check(
            conditions.iter().any(|c| c.type_ == wanted && c.status == "True"),
            format!("{wanted} is not True"),
        )?;
    }
    let old = first.status.and_then(|status| status.pod_ip);
    delete(&client, "states-0").await?;
    create(&client, pod("states-0", json!({"command": ["sleep", "100"]}))).await?;
    let next = until(&client, "states-0", "an address", |pod| ip(pod).is_some()).await?;
    check(
        ip(&next) != old,
        "a new pod must not get its predecessor's address",
    )
}

async fn the_container_is_who_the_spec_says(client: Client) -> Outcome {
    let secret = json!({"metadata": {"name": "password"}, "stringData": {"key": "s3cret"}});
    Api::<Secret>::default_namespaced(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    let script = "id -u; id -g; echo $FLAGS; echo $PASSWORD; echo $HOME; hostname; pwd; \
        grep -E 'CapBnd|NoNewPrivs' /proc/self/status | tr '\\t' ' '; \
        touch /x 2>/dev/null && echo writable || echo read-only; touch /tmp/y && echo tmp-ok; \
        touch /data/z && stat -c %g /data/z; cat /config/a; cat /etc/resolv.conf; cat /proc/1/cmdline | tr '\\0' ' '";
    let mut pod = pod(
        "identity",
        json!({
        "command": ["sh", "-c", script], "workingDir": "/tmp",
        "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "FLAGS", "value": "--ip=$(POD_IP)"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "password", "key": "key"}}}],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}, {"name": "config", "mountPath": "/config"}]}),
    );
    pod["spec"]["securityContext"] =
        json!({"runAsUser": 999, "runAsGroup": 998, "fsGroup": 997, "runAsNonRoot": true});
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["volumes"] = json!([
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "data", "emptyDir": {}},
        {"name": "config", "secret": {"secretName": "password", "items": [{"key": "key", "path": "a"}]}}]);
    create(&client, pod).await?;
    let done = until(&client, "identity", "an end", |pod| phase(pod) == "Succeeded").await?;
    let log = pods(&client).logs("identity", &LogParams::default()).await?;
    let address = ip(&done).unwrap_or_default();
    for line in [
        "999",
        "998",
        &format!("--ip={address}"),
        "s3cret",
        "identity",
        "/tmp",
        "read-only",
        "tmp-ok",
        "997",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "nameserver 10.96.0.10",
        "search default.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5",
    ] {
        check(
            log.lines()
                .any(|known| known.trim_start_matches("s3cret").trim() == line || known == line),
            format!("no {line:?} in {log}"),
        )?;
    }
    Ok(())
}

async fn logs_can_be_followed_to_their_end(client: Client) -> Outcome {
    let mut pod = pod(
        "talker",
        json!({"command": ["sh", "-c", "echo one; sleep 1; echo two >&2; sleep 0.2"]}),
    );
    pod["spec"]["restartPolicy"] = json!("Never");
    create(&client, pod).await?;
    until(&client, "talker", "Running", |pod| phase(pod) == "Running").await?;
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut stream = pods(&client).log_stream("talker", &follow).await?;
    let mut text = String::new();
    let all = async { futures::AsyncReadExt::read_to_string(&mut stream, &mut text).await };
    tokio::time::timeout(PATIENCE, all).await??;
    check(text == "one\ntwo\n", format!("{text:?}"))?;
    let last = LogParams {
        tail_lines: Some(1),
        timestamps: true,
        ..LogParams::default()
    };
    let text = pods(&client).logs("talker", &last).await?;
    check(text.ends_with("Z two\n") && text.starts_with("20"), text)
}

async fn commands_run_inside_the_container(client: Client) -> Outcome {
    create(
        &client,
        pod(
            "exec",
            json!({"command": ["sleep", "1000"], "env": [{"name": "A", "value": "from-env"}]}),
        ),
    )
    .await?;
    until(&client, "exec", "Running", |pod| phase(pod) == "Running").await?;
    let (output, status) = exec(
        &client,
        "exec",
        &["sh", "-c", "echo $A; echo err >&2; cat /proc/1/comm; exit 3"],
    )
    .await?;
    check(output == "from-env\nsleep\n", output)?;
    check(status.ends_with(" 3"), status)?;
    let (_, status) = exec(&client, "exec", &["nosuch"])
        .await
        .unwrap_or_else(|error| (String::new(), format!("{error:?}")));
    check(status.contains("executable file not found in $PATH"), status)?;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods(&client).exec("exec", ["cat"], &params).await?;
    let mut stdin = process.stdin().ok_or("no stdin")?;
    stdin.write_all(b"through the pipe").await?;
    stdin.shutdown().await?;
    drop(stdin);
    let mut text = String::new();
    tokio::time::timeout(
        PATIENCE,
        process.stdout().ok_or("no stdout")?.read_to_string(&mut text),
    )
    .await??;
    check(text == "through the pipe", text)?;
    let params = AttachParams::interactive_tty();
    let mut process = pods(&client)
        .exec("exec", ["sh", "-c", "test -t 0 && echo terminal"], &params)
        .await?;
    let mut text = String::new();
    tokio::time::timeout(
        PATIENCE,
        process.stdout().ok_or("no stdout")?.read_to_string(&mut text),
    )
    .await??;
    check(text.contains("terminal"), text)?;
    let begun = Instant::now();
    for _ in 0..20 {
        exec(&client, "exec", &["true"]).await?;
    }
    println!("exec through API and WebSocket: {:?} each", begun.elapsed() / 20);
    Ok(())
}

async fn a_port_of_the_pods_loopback_is_forwarded(client: Client) -> Outcome {
    create(&client, pod("forward", json!({"command": ["perl", "-e",
        "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 7000, Listen => 5, ReuseAddr => 1); while ($c = $s->accept) { print $c 'hello'; close $c }"],
        "readinessProbe": {"periodSeconds": 1, "exec": {"command": ["perl", "-e", "use IO::Socket::INET; exit !IO::Socket::INET->new('127.0.0.1:7000')"]}}}))).await?;
    until(&client, "forward", "Ready", ready).await?;
    let mut forward = pods(&client).portforward("forward", &[7000]).await?;
    let mut stream = forward.take_stream(7000).ok_or("no stream")?;
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await??;
    check(text == "hello", text)
}

async fn a_crashing_container_restarts_at_once_and_then_backs_off(client: Client) -> Outcome {
    create(
        &client,
        pod(
            "crash",
            json!({"command": ["sh", "-c", "echo last words; exit 7"]}),
        ),
    )
    .await?;
    let pod = until(&client, "crash", "CrashLoopBackOff", |pod| {
        waiting(pod) == Some("CrashLoopBackOff".to_owned())
    })
    .await?;
    let status = status(&pod).ok_or("no status")?;
    check(status.restart_count == 1, format!("{status:?}"))?;
    let message = status
        .state
        .clone()
        .and_then(|s| s.waiting)
        .and_then(|w| w.message)
        .unwrap_or_default();
    check(
        message.starts_with("back-off 10s restarting failed container=c pod=crash_default("),
        message,
    )?;
    let last = status
        .last_state
        .clone()
        .and_then(|s| s.terminated)
        .ok_or("no last state")?;
    check(
        last.exit_code == 7 && last.reason.as_deref() == Some("Error"),
        format!("{last:?}"),
    )?;
    let previous = LogParams {
        previous: true,
        ..LogParams::default()
    };
    check(
        pods(&client).logs("crash", &previous).await? == "last words\n",
        "the previous instance's log",
    )?;
    let again = until(&client, "crash", "a second restart", |pod| {
        status_restarts(pod) == 2
    })
    .await?;
    check(ip(&again) == ip(&pod), "a restart keeps the address")?;
    delete(&client, "crash").await
}

async fn a_probe_that_cannot_run_counts_for_nothing(client: Client) -> Outcome {
    let probe = json!({"exec": {"command": ["nosuch"]}, "periodSeconds": 1, "failureThreshold": 1});
    create(
        &client,
        pod(
            "unknown",
            json!({"command": ["sleep", "1000"], "startupProbe": probe}),
        ),
    )
    .await?;
    let text = "Startup probe errored and resulted in unknown state: failed to exec in container: OCI runtime exec failed: \
        exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH";
    event(&client, "unknown", "Unhealthy", text, 3).await?;
    let pod = pods(&client).get("unknown").await?;
    let status = status(&pod).ok_or("no status")?;
    check(
        status.restart_count == 0 && status.started == Some(false) && !status.ready,
        format!("{status:?}"),
    )?;
    check(phase(&pod) == "Running", phase(&pod))
}

async fn startup_comes_before_readiness(client: Client) -> Outcome {
    let begun = Instant::now();
    create(
        &client,
        pod(
            "gated",
            json!({"command": ["sh", "-c", "sleep 1.5; touch /tmp/up; exec sleep 1000"],
        "startupProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 10},
        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 30}}),
        ),
    )
    .await?;
    let pod = until(&client, "gated", "started", |pod| {
        status(pod).is_some_and(|s| s.started == Some(true))
    })
    .await?;
    drop(pod);
    until(&client, "gated", "Ready", ready).await?;
    check(
        begun.elapsed() < Duration::from_secs(10),
        "readiness must be probed at once after the startup probe",
    )?;
    event(
        &client,
        "gated",
        "Unhealthy",
        "Startup probe failed: cat: /tmp/up: No such file or directory\n",
        1,
    )
    .await
}

async fn a_failed_liveness_probe_restarts_the_container(client: Client) -> Outcome {
    create(&client, pod("live", json!({"command": ["sh", "-c", "trap 'exit 0' TERM; touch /tmp/up; while true; do sleep 0.1; done"],
        "readinessProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1},
            "livenessProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}}))).await?;
    // Ready means that the file is there to be removed.
    until(&client, "live", "Ready", ready).await?;
    exec(&client, "live", &["rm", "/tmp/up"]).await?;
    let pod = until(&client, "live", "a restart", |pod| status_restarts(pod) == 1).await?;
    let status = status(&pod).ok_or("no status")?;
    check(
        status.last_state.and_then(|s| s.terminated).is_some(),
        "the last state is kept",
    )?;
    event(
        &client,
        "live",
        "Killing",
        "Container c failed liveness probe, will be restarted",
        1,
    )
    .await
}

async fn init_containers_and_sidecars_keep_their_order(client: Client) -> Outcome {
    let mut pod = pod(
        "order",
        json!({"command": ["sh", "-c", "cat /shared/log; exit 0"], "volumeMounts": [{"name": "s", "mountPath": "/shared"}]}),
    );
    let mount = json!([{"name": "s", "mountPath": "/shared"}]);
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["volumes"] = json!([{"name": "s", "emptyDir": {}}]);
    pod["spec"]["initContainers"] = json!([
        {"name": "first", "image": host_image::NAME, "command": ["sh", "-c", "echo first >> /shared/log"], "volumeMounts": mount},
        {"name": "side", "image": host_image::NAME, "restartPolicy": "Always", "volumeMounts": mount,
         "command": ["sh", "-c", "trap 'exit 0' TERM; echo side >> /shared/log; touch /tmp/up; while true; do sleep 0.1; done"],
         "startupProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1}},
        {"name": "last", "image": host_image::NAME, "command": ["sh", "-c", "echo last >> /shared/log"], "volumeMounts": mount}]);
    create(&client, pod).await?;
    let done = until(&client, "order", "Succeeded", |pod| phase(pod) == "Succeeded").await?;
    let log = pods(&client)
        .logs(
            "order",
            &LogParams {
                container: Some("c".to_owned()),
                ..LogParams::default()
            },
        )
        .await?;
    check(log == "first\nside\nlast\n", log)?;
    let inits = done
        .status
        .and_then(|status| status.init_container_statuses)
        .unwrap_or_default();
    check(
        inits.iter().all(|status| {
            status
                .state
                .as_ref()
                .is_some_and(|state| state.terminated.is_some())
        }),
        format!("{inits:?}"),
    )
}

async fn a_missing_secret_is_waited_for_and_a_mounted_one_follows(client: Client) -> Outcome {
    let mut with_env = pod(
        "late",
        json!({"command": ["sleep", "1000"],
        "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
    );
    with_env["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "late", "optional": true}}]);
    create(&client, with_env).await?;
    let pod = until(&client, "late", "CreateContainerConfigError", |pod| {
        waiting(pod).as_deref() == Some("CreateContainerConfigError")
    })
    .await?;
    let message = status(&pod)
        .and_then(|s| s.state)
        .and_then(|s| s.waiting)
        .and_then(|w| w.message)
        .unwrap_or_default();
    check(message == "secret \"late\" not found", message)?;
    let secrets = Api::<Secret>::default_namespaced(client.clone());
    let secret = json!({"metadata": {"name": "late"}, "stringData": {"k": "one"}});
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    until(&client, "late", "Running", |pod| phase(pod) == "Running").await?;
    let patch = Patch::Merge(json!({"stringData": {"k": "two"}}));
    secrets.patch("late", &PatchParams::default(), &patch).await?;
    let follows = async {
        loop {
            let (mounted, _) = exec(&client, "late", &["cat", "/v/k"]).await?;
            if mounted == "two" {
                return Ok::<(), Failed>(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, follows).await??;
    let (env, _) = exec(&client, "late", &["sh", "-c", "echo $P"]).await?;
    check(
        env == "one\n",
        format!("the environment is that of the start: {env:?}"),
    )
}

async fn an_image_that_is_not_there_is_said_so(client: Client) -> Outcome {
    let mut pod = pod("imageless", json!({}));
    pod["spec"]["containers"][0]["image"] = json!("example.com/no/such:1");
    create(&client, pod).await?;
    until(&client, "imageless", "ImagePullBackOff", |pod| {
        waiting(pod).as_deref() == Some("ImagePullBackOff")
    })
    .await?;
    event(&client, "imageless", "Failed", "Error: ErrImagePull", 1).await?;
    delete(&client, "imageless").await
}

async fn deletion_asks_before_it_kills(client: Client) -> Outcome {
    let script = "trap 'echo asked; exit 0' TERM; touch /tmp/up; while true; do sleep 0.1; done";
    create(&client, pod("polite", json!({"command": ["sh", "-c", script], "readinessProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}}))).await?;
    // Ready means that the trap is set: PID 1 ignores signals that it has no handler for.
    until(&client, "polite", "Ready", ready).await?;
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut stream = pods(&client).log_stream("polite", &follow).await?;
    let phases = tokio::spawn(phases_until_gone(pods(&client), "polite".to_owned()));
    let begun = Instant::now();
    delete(&client, "polite").await?;
    check(begun.elapsed() < Duration::from_secs(10), "it ended when asked")?;
    let mut text = String::new();
    futures::AsyncReadExt::read_to_string(&mut stream, &mut text).await?;
    check(text == "hook\nasked\n", text)?;
    let phases = tokio::time::timeout(PATIENCE, phases).await??;
    check(
        phases.last().map(String::as_str) == Some("Succeeded"),
        format!("{phases:?}"),
    )?;
    create(
        &client,
        pod(
            "stubborn",
            json!({"command": ["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"]}),
        ),
    )
    .await?;
    until(&client, "stubborn", "Running", |pod| phase(pod) == "Running").await?;
    pods(&client)
        .delete("stubborn", &DeleteParams::default().grace_period(1))
        .await?;
    gone(&client, "stubborn").await
}

async fn a_job_like_pod_ends(client: Client) -> Outcome {
    let mut failing = pod(
        "once",
        json!({"command": ["sh", "-c", "echo bad > /dev/termination-log; exit 4"]}),
    );
    failing["spec"]["restartPolicy"] = json!("Never");
    create(&client, failing).await?;
    let done = until(&client, "once", "Failed", |pod| phase(pod) == "Failed").await?;
    let ended = status(&done)
        .and_then(|s| s.state)
        .and_then(|s| s.terminated)
        .ok_or("not terminated")?;
    check(
        ended.exit_code == 4 && ended.message.as_deref() == Some("bad\n"),
        format!("{ended:?}"),
    )?;
    let mut missing = pod("programless", json!({"command": ["/no/such/program"]}));
    missing["spec"]["restartPolicy"] = json!("Never");
    create(&client, missing).await?;
    let done = until(&client, "programless", "Failed", |pod| phase(pod) == "Failed").await?;
    let ended = status(&done)
        .and_then(|s| s.state)
        .and_then(|s| s.terminated)
        .ok_or("not terminated")?;
    check(
        ended.reason.as_deref() == Some("StartError") && ended.exit_code == 128,
        format!("{ended:?}"),
    )?;
    check(
        ended
            .message
            .clone()
            .unwrap_or_default()
            .contains("stat /no/such/program: no such file or directory"),
        format!("{ended:?}"),
    )
}

async fn what_is_not_supported_is_refused(client: Client) -> Outcome {
    // The API refuses most of it already; this is what only the node knows.
    create(
        &client,
        pod("terminal", json!({"command": ["sleep", "1"], "tty": true})),
    )
    .await?;
    let pod = until(&client, "terminal", "Failed", |pod| phase(pod) == "Failed").await?;
    let message = pod.status.and_then(|status| status.message).unwrap_or_default();
    check(
        message.contains("is not supported by the embedded cluster"),
        message,
    )
}

fn pods(client: &Client) -> Api<Pod> {
    Api::default_namespaced(client.clone())
}

/// A pod with one container `c`, which has these fields.
#[expect(clippy::needless_pass_by_value, reason = "every caller writes a literal")]
fn pod(name: &str, container: Value) -> Value {
    let mut full = json!({"name": "c", "image": host_image::NAME});
    for (key, value) in container.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": "embedded-node", "terminationGracePeriodSeconds": 2, "containers": [full]}})
}

async fn create(client: &Client, pod: Value) -> Outcome {
    pods(client)
        .create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    Ok(())
}

/// Watches the pod until it meets the condition.
async fn until(
    client: &Client,
    name: &str,
    what: &str,
    condition: impl Fn(&Pod) -> bool,
) -> Result<Pod, Failed> {
    let mut last = None;
    let wait = async {
        let mut stream = std::pin::pin!(watch_object(pods(client), name));
        while let Some(seen) = stream.try_next().await? {
            if let Some(pod) = seen {
                if condition(&pod) {
                    return Ok::<Pod, Failed>(pod);
                }
                last = Some(pod);
            }
        }
        Err("the watch ended".into())
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(result) => result,
        Err(_) => {
            let events = reasons(client, name).await.unwrap_or_default();
            let status = last.and_then(|pod| pod.status);
            Err(
                format!("pod {name} did not reach {what:?}; last seen: {status:#?}; events: {events:#?}")
                    .into(),
            )
        }
    }
}

async fn gone(client: &Client, name: &str) -> Outcome {
    let wait = async {
        let mut stream = std::pin::pin!(watch_object(pods(client), name));
        while let Some(seen) = stream.try_next().await? {
            if seen.is_none() {
                return Ok::<(), Failed>(());
            }
        }
        Err("the watch ended".into())
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .map_err(|_| format!("pod {name} is still there"))?
}

async fn delete(client: &Client, name: &str) -> Outcome {
    pods(client).delete(name, &DeleteParams::default()).await?;
    gone(client, name).await
}

async fn phases_until_gone(api: Api<Pod>, name: String) -> Vec<String> {
    let mut phases = Vec::new();
    let mut stream = std::pin::pin!(watch_object(api, &name));
    while let Ok(Some(Some(pod))) = stream.try_next().await {
        if phases.last() != Some(&phase(&pod)) {
            phases.push(phase(&pod));
        }
    }
    phases
}

async fn exec(client: &Client, name: &str, command: &[&str]) -> Result<(String, String), Failed> {
    let params = AttachParams::default().stdout(true).stderr(false);
    let mut process = pods(client).exec(name, command.iter().copied(), &params).await?;
    let status = process.take_status().ok_or("no status")?;
    let mut output = String::new();
    if let Some(mut stdout) = process.stdout() {
        tokio::time::timeout(PATIENCE, stdout.read_to_string(&mut output)).await??;
    }
    let status = tokio::time::timeout(PATIENCE, status)
        .await?
        .and_then(|status| status.message)
        .unwrap_or_default();
    Ok((output, status))
}

async fn reasons(client: &Client, name: &str) -> Result<Vec<(String, String)>, Failed> {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let all = events.list(&ListParams::default()).await?;
    let of_pod = all
        .items
        .into_iter()
        .filter(|event| event.involved_object.name.as_deref() == Some(name));
    Ok(of_pod
        .map(|event| {
            (
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
            )
        })
        .collect())
}

/// Waits for an event with this text, seen at least so often.
async fn event(client: &Client, name: &str, reason: &str, message: &str, count: i32) -> Outcome {
    let events: Api<Event> = Api::default_namespaced(client.clone());
    let wait = async {
        let stream = kube::runtime::watcher(events, kube::runtime::watcher::Config::default());
        let mut stream = std::pin::pin!(kube::runtime::WatchStreamExt::applied_objects(stream));
        while let Some(event) = stream.try_next().await? {
            if event.involved_object.name.as_deref() == Some(name)
                && event.reason.as_deref() == Some(reason)
                && event.message.as_deref() == Some(message)
                && event.count.unwrap_or(0) >= count
            {
                return Ok::<(), Failed>(());
            }
        }
        Err("the watch ended".into())
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "no event {reason} {message:?}; there are {:#?}",
            reasons(client, name).await?
        )
        .into()),
    }
}

fn phase(pod: &Pod) -> String {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.clone())
        .unwrap_or_default()
}

fn ip(pod: &Pod) -> Option<String> {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone())
}

fn status(pod: &Pod) -> Option<ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first().cloned()
}

fn status_restarts(pod: &Pod) -> i32 {
    status(pod).map_or(0, |status| status.restart_count)
}

fn waiting(pod: &Pod) -> Option<String> {
    status(pod)?.state?.waiting?.reason
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn summary(pod: &Pod) -> String {
    let ip = if ip(pod).is_some() { "+ip" } else { "" };
    let ready = if ready(pod) { "+ready" } else { "" };
    let phase = phase(pod);
    debug_assert!(!pod.name_any().is_empty());
    format!("{phase}{ip}{ready}")
}

fn check(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(otherwise.into().into())
    }
}
