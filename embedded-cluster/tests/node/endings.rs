//! Tests of the ends of containers and their restarts: crashes, probes, deletion, refusal.

use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{DeleteParams, LogParams};
use serde_json::json;

use crate::pods::{
    DEADLINE, Outcome, check, create, delete, event, exec, gone, ip, phase, phases_until_gone, pod, pods,
    ready, status, status_restarts, until, waiting,
};

pub(crate) async fn a_crashing_container_restarts_at_once_and_then_backs_off(client: Client) -> Outcome {
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

pub(crate) async fn a_probe_that_cannot_run_counts_for_nothing(client: Client) -> Outcome {
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

pub(crate) async fn startup_comes_before_readiness(client: Client) -> Outcome {
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

pub(crate) async fn a_failed_liveness_probe_restarts_the_container(client: Client) -> Outcome {
    create(&client, pod("live", json!({"command": ["sh", "-c", "trap 'exit 0' TERM; touch /tmp/up; while true; do sleep 0.1; done"],
        "readinessProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1},
            "livenessProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}}))).await?;
    // Ready means that the file exists and can be removed.
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

pub(crate) async fn an_image_that_is_not_there_is_said_so(client: Client) -> Outcome {
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

pub(crate) async fn deletion_asks_before_it_kills(client: Client) -> Outcome {
    let script = "trap 'echo asked; exit 0' TERM; touch /tmp/up; while true; do sleep 0.1; done";
    create(&client, pod("polite", json!({"command": ["sh", "-c", script], "readinessProbe": {"exec": {"command": ["cat", "/tmp/up"]}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}}))).await?;
    // Ready means that the trap is set: PID 1 ignores signals without a handler.
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
    let phases = tokio::time::timeout(DEADLINE, phases).await??;
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

pub(crate) async fn a_job_like_pod_ends(client: Client) -> Outcome {
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
