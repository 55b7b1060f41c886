//! Tests of running containers: states and events, identity, logs, commands, forwarded ports.

use std::time::Instant;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{AttachParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use libtest_mimic::Failed;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::host_image;
use crate::pods::{
    DEADLINE, Outcome, check, create, delete, exec, ip, phase, pod, pods, ready, reasons, status, summary,
    until, waiting,
};

pub(crate) async fn a_pod_goes_through_the_kubelets_states_and_events(client: Client) -> Outcome {
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
        let seen = tokio::time::timeout(DEADLINE, seen).await??;
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

pub(crate) async fn the_container_is_who_the_spec_says(client: Client) -> Outcome {
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

pub(crate) async fn logs_can_be_followed_to_their_end(client: Client) -> Outcome {
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
    tokio::time::timeout(DEADLINE, all).await??;
    check(text == "one\ntwo\n", format!("{text:?}"))?;
    let last = LogParams {
        tail_lines: Some(1),
        timestamps: true,
        ..LogParams::default()
    };
    let text = pods(&client).logs("talker", &last).await?;
    check(text.ends_with("Z two\n") && text.starts_with("20"), text)
}

pub(crate) async fn commands_run_inside_the_container(client: Client) -> Outcome {
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
        DEADLINE,
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
        DEADLINE,
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

pub(crate) async fn a_port_of_the_pods_loopback_is_forwarded(client: Client) -> Outcome {
    create(&client, pod("forward", json!({"command": ["perl", "-e",
        "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 7000, Listen => 5, ReuseAddr => 1); while ($c = $s->accept) { print $c 'hello'; close $c }"],
        "readinessProbe": {"periodSeconds": 1, "exec": {"command": ["perl", "-e", "use IO::Socket::INET; exit !IO::Socket::INET->new('127.0.0.1:7000')"]}}}))).await?;
    until(&client, "forward", "Ready", ready).await?;
    let mut forward = pods(&client).portforward("forward", &[7000]).await?;
    let mut stream = forward.take_stream(7000).ok_or("no stream")?;
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text)).await??;
    check(text == "hello", text)
}

pub(crate) async fn init_containers_and_sidecars_keep_their_order(client: Client) -> Outcome {
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

pub(crate) async fn a_missing_secret_is_waited_for_and_a_mounted_one_follows(client: Client) -> Outcome {
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
    tokio::time::timeout(DEADLINE, follows).await??;
    let (env, _) = exec(&client, "late", &["sh", "-c", "echo $P"]).await?;
    check(
        env == "one\n",
        format!("the environment is that of the start: {env:?}"),
    )
}
