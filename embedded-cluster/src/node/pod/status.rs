//! A pod's status, computed from the records of its containers. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::container_records::{Record, Role, RunState, Terminated};

/// Facts about a pod apart from those of its containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) host_ip: String,
    /// The pod's address, known once the sandbox has it.
    pub(crate) pod_ip: Option<String>,
    pub(crate) start_time: Option<Timestamp>,
    pub(crate) sandbox_ready: bool,
    /// True if nothing of the pod will run again.
    pub(crate) finished: bool,
    /// The reason why the whole pod failed, regardless of its containers: (reason, message).
    pub(crate) failure: Option<(String, String)>,
}

/// Computes the status to publish. `pod` provides the conditions set by others, and the earlier
/// ones to compare with.
pub(crate) fn compose(
    pod: &Pod,
    records: &BTreeMap<String, Record>,
    facts: &Facts,
    now: Timestamp,
) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let inits = statuses(spec.init_containers.as_deref().unwrap_or_default(), records);
    let mains = statuses(&spec.containers, records);
    let phase = phase(pod, records, facts);
    let anything_ran = mains
        .iter()
        .chain(&inits)
        .any(|status| status.container_id.is_some());
    PodStatus {
        host_ip: Some(facts.host_ip.clone()),
        host_ips: Some(vec![HostIP {
            ip: facts.host_ip.clone(),
        }]),
        // The kubelet reads the address from the runtime, with the first container.
        pod_ip: facts.pod_ip.clone().filter(|_| anything_ran),
        pod_ips: facts
            .pod_ip
            .clone()
            .filter(|_| anything_ran)
            .map(|ip| vec![PodIP { ip }]),
        start_time: facts.start_time.map(Time),
        conditions: Some(conditions(pod, records, facts, phase, now)),
        phase: Some(phase.to_owned()),
        reason: facts.failure.as_ref().map(|(reason, _)| reason.clone()),
        message: facts.failure.as_ref().map(|(_, message)| message.clone()),
        init_container_statuses: Some(inits).filter(|statuses| !statuses.is_empty()),
        container_statuses: Some(mains),
        qos_class: Some(
            pod.status
                .as_ref()
                .and_then(|status| status.qos_class.clone())
                .unwrap_or_else(|| qos(&spec.containers)),
        ),
        ..PodStatus::default()
    }
}

/// Returns the phase. It is final only once nothing runs any more, including sidecars.
pub(crate) fn phase(pod: &Pod, records: &BTreeMap<String, Record>, facts: &Facts) -> &'static str {
    let phase = phase_of_containers(pod, records, facts);
    let anything_runs = records.values().any(|record| record.running().is_some());
    if anything_runs && matches!(phase, "Succeeded" | "Failed") {
        "Running"
    } else {
        phase
    }
}

/// Computes the phase from the containers, like the kubelet's `getPhase`.
fn phase_of_containers(pod: &Pod, records: &BTreeMap<String, Record>, facts: &Facts) -> &'static str {
    if facts.failure.is_some() {
        return "Failed";
    }
    let policy = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref())
        .unwrap_or("Always");
    let (mut initializing, mut init_failed) = (false, false);
    let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for record in records.values() {
        let ended = record.terminated().or(record.last.as_ref());
        match (record.role, &record.state) {
            (Role::Init, RunState::Terminated(terminated)) => init_failed |= terminated.exit_code != 0,
            (Role::Init, _) => {
                initializing = true;
                init_failed |= ended.is_some_and(|ended| ended.exit_code != 0);
            }
            (Role::Sidecar, _) => initializing |= !record.started() && !facts.finished && ended.is_none(),
            (Role::Main, RunState::Running(_)) => running += 1,
            (Role::Main, RunState::Terminated(terminated)) => {
                stopped += 1;
                succeeded += i32::from(terminated.exit_code == 0);
            }
            (Role::Main, RunState::Waiting { .. }) if record.last.is_some() => stopped += 1,
            (Role::Main, RunState::Waiting { .. }) => waiting += 1,
        }
    }
    if init_failed && (policy == "Never" || facts.finished) {
        return "Failed";
    }
    if (initializing || waiting > 0) && !facts.finished {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    let all_succeeded = stopped > 0 && stopped == succeeded && waiting == 0;
    match policy {
        _ if facts.finished && all_succeeded => "Succeeded",
        _ if facts.finished => "Failed",
        "Always" => "Running",
        _ if all_succeeded => "Succeeded",
        "Never" => "Failed",
        _ => "Running",
    }
}

fn conditions(
    pod: &Pod,
    records: &BTreeMap<String, Record>,
    facts: &Facts,
    phase: &str,
    now: Timestamp,
) -> Vec<PodCondition> {
    let unready = names(pod, records, |record| {
        record.role != Role::Init && !record.ready()
    });
    let uninitialized = names(pod, records, |record| match record.role {
        Role::Init => !record.ready(),
        Role::Sidecar => !record.started() && !facts.finished,
        Role::Main => false,
    });
    let completed = phase == "Succeeded";
    let failed = phase == "Failed";
    let containers_ready = if completed {
        condition("ContainersReady", Err(("PodCompleted", String::new())))
    } else if failed {
        condition("ContainersReady", Err(("PodFailed", String::new())))
    } else {
        listed(
            "ContainersReady",
            "ContainersNotReady",
            "containers with unready status",
            &unready,
        )
    };
    let mut ready = PodCondition {
        type_: "Ready".to_owned(),
        ..containers_ready.clone()
    };
    if let Some(message) = missing_gates(pod).filter(|_| ready.status == "True") {
        ready = condition("Ready", Err(("ReadinessGatesNotReady", message)));
    }
    let mut initialized = if uninitialized.is_empty() || completed {
        condition("Initialized", Ok(()))
    } else {
        listed(
            "Initialized",
            "ContainersNotInitialized",
            "containers with incomplete status",
            &uninitialized,
        )
    };
    if completed {
        initialized.reason = Some("PodCompleted".to_owned());
    }
    let sandbox = if facts.sandbox_ready {
        Ok(())
    } else {
        Err(("", String::new()))
    };
    let mut scheduled = condition("PodScheduled", Ok(()));
    scheduled.last_transition_time = None;
    let ours = [
        condition("PodReadyToStartContainers", sandbox),
        initialized,
        ready,
        containers_ready,
        scheduled,
    ];
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    ours.into_iter()
        .map(|mut condition| {
            let before = known
                .into_iter()
                .flatten()
                .find(|known| known.type_ == condition.type_);
            condition.last_transition_time = match before {
                Some(before) if before.status == condition.status => before.last_transition_time.clone(),
                _ => Some(Time(now)),
            };
            condition
        })
        .collect()
}

fn missing_gates(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    gates.iter().find_map(|gate| {
        match known
            .into_iter()
            .flatten()
            .find(|known| known.type_ == gate.condition_type)
        {
            Some(condition) if condition.status == "True" => None,
            Some(_) => Some(format!(
                "the status of pod readiness gate {:?} is not \"True\", but False",
                gate.condition_type
            )),
            None => Some(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
        }
    })
}

fn condition(name: &str, status: Result<(), (&str, String)>) -> PodCondition {
    let (status, reason, message) = match status {
        Ok(()) => ("True", "", String::new()),
        Err((reason, message)) => ("False", reason, message),
    };
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        ..PodCondition::default()
    }
}

fn listed(name: &str, reason: &str, message: &str, containers: &[String]) -> PodCondition {
    if containers.is_empty() {
        return condition(name, Ok(()));
    }
    condition(
        name,
        Err((reason, format!("{message}: [{}]", containers.join(" ")))),
    )
}

/// Returns the names of the containers that meet a condition, in the order of the spec.
fn names(pod: &Pod, records: &BTreeMap<String, Record>, matches: impl Fn(&Record) -> bool) -> Vec<String> {
    let spec = pod.spec.as_ref();
    let all = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    all.filter(|container| records.get(&container.name).is_some_and(&matches))
        .map(|c| c.name.clone())
        .collect()
}

fn statuses(containers: &[Container], records: &BTreeMap<String, Record>) -> Vec<ContainerStatus> {
    containers
        .iter()
        .filter_map(|container| Some(status(&container.name, records.get(&container.name)?)))
        .collect()
}

fn status(name: &str, record: &Record) -> ContainerStatus {
    let id = match &record.state {
        RunState::Running(running) => Some(&running.id),
        RunState::Terminated(terminated) => Some(&terminated.id),
        RunState::Waiting { .. } => record.last.as_ref().map(|last| &last.id),
    };
    ContainerStatus {
        name: name.to_owned(),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        container_id: id
            .filter(|id| !id.is_empty())
            .map(|id| format!("embedded://{id}")),
        ready: record.ready(),
        started: Some(record.started()),
        restart_count: record.restarts,
        state: Some(state(&record.state)),
        last_state: Some(ContainerState {
            terminated: record.last.as_ref().map(terminated),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

fn state(state: &RunState) -> ContainerState {
    match state {
        RunState::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: Some(message.clone()).filter(|message| !message.is_empty()),
            }),
            ..ContainerState::default()
        },
        RunState::Running(running) => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(running.started_at)),
            }),
            ..ContainerState::default()
        },
        RunState::Terminated(ended) => ContainerState {
            terminated: Some(terminated(ended)),
            ..ContainerState::default()
        },
    }
}

fn terminated(ended: &Terminated) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: Some(format!("embedded://{}", ended.id)).filter(|_| !ended.id.is_empty()),
        exit_code: ended.exit_code,
        reason: Some(ended.reason.clone()),
        message: Some(ended.message.clone()).filter(|message| !message.is_empty()),
        started_at: ended.started_at.map(Time),
        finished_at: Some(Time(ended.finished_at)),
        ..ContainerStateTerminated::default()
    }
}

/// Returns the quality of service class, as in Kubernetes.
fn qos(containers: &[Container]) -> String {
    let resources = |container: &Container| container.resources.clone().unwrap_or_default();
    let none = containers.iter().all(|container| {
        let resources = resources(container);
        resources.limits.unwrap_or_default().is_empty() && resources.requests.unwrap_or_default().is_empty()
    });
    let guaranteed = containers.iter().all(|container| {
        let resources = resources(container);
        let limits = resources.limits.unwrap_or_default();
        let requests = resources.requests.unwrap_or_default();
        ["cpu", "memory"].iter().all(|name| {
            limits
                .get(*name)
                .is_some_and(|limit| requests.get(*name).is_none_or(|request| request == limit))
        })
    });
    if none {
        "BestEffort"
    } else if guaranteed {
        "Guaranteed"
    } else {
        "Burstable"
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": policy, "containers": [{"name": "c"}]}})).unwrap()
    }

    fn ended(code: i32) -> Terminated {
        Terminated {
            id: "x".to_owned(),
            exit_code: code,
            reason: String::new(),
            message: String::new(),
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn with(state: RunState, last: Option<Terminated>) -> BTreeMap<String, Record> {
        let mut record = Record::new(Role::Main, "i".to_owned(), "");
        record.state = state;
        record.last = last;
        BTreeMap::from([("c".to_owned(), record)])
    }

    fn waiting() -> RunState {
        RunState::Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn phases_are_those_of_the_kubelet() {
        let unfinished = Facts::default();
        let finished = Facts {
            finished: true,
            ..Facts::default()
        };
        assert_eq!(
            phase(&pod("Always"), &with(waiting(), None), &unfinished),
            "Pending"
        );
        assert_eq!(
            phase(&pod("Always"), &with(waiting(), Some(ended(1))), &unfinished),
            "Running"
        );
        assert_eq!(
            phase(
                &pod("Always"),
                &with(RunState::Terminated(ended(0)), None),
                &unfinished
            ),
            "Running"
        );
        assert_eq!(
            phase(
                &pod("Never"),
                &with(RunState::Terminated(ended(0)), None),
                &unfinished
            ),
            "Succeeded"
        );
        assert_eq!(
            phase(
                &pod("Never"),
                &with(RunState::Terminated(ended(1)), None),
                &unfinished
            ),
            "Failed"
        );
        assert_eq!(
            phase(
                &pod("OnFailure"),
                &with(RunState::Terminated(ended(1)), None),
                &unfinished
            ),
            "Running"
        );
        assert_eq!(
            phase(
                &pod("Always"),
                &with(RunState::Terminated(ended(0)), None),
                &finished
            ),
            "Succeeded"
        );
        assert_eq!(
            phase(
                &pod("Always"),
                &with(RunState::Terminated(ended(137)), None),
                &finished
            ),
            "Failed"
        );
        let failed = Facts {
            failure: Some(("DeadlineExceeded".to_owned(), String::new())),
            ..Facts::default()
        };
        assert_eq!(phase(&pod("Always"), &with(waiting(), None), &failed), "Failed");
    }

    #[test]
    fn a_phase_is_not_final_while_a_sidecar_runs() {
        let mut records = with(RunState::Terminated(ended(0)), None);
        let mut sidecar = Record::new(Role::Sidecar, "i".to_owned(), "");
        let (kill, _) = tokio::sync::mpsc::channel(1);
        sidecar.state = RunState::Running(crate::node::pod::Running {
            id: "s".to_owned(),
            pid: 1,
            bundle: "/b".into(),
            started_at: Timestamp::UNIX_EPOCH,
            kill,
        });
        records.insert("s".to_owned(), sidecar);
        assert_eq!(phase(&pod("Never"), &records, &Facts::default()), "Running");
    }

    #[test]
    fn unready_containers_are_listed_and_transition_times_kept() {
        let mut pod = pod("Always");
        let then = Timestamp::UNIX_EPOCH;
        let status = compose(&pod, &with(waiting(), None), &Facts::default(), then);
        let find = |status: &PodStatus, name: &str| {
            status
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == name)
                .cloned()
                .unwrap()
        };
        assert_eq!(
            find(&status, "Ready").message.as_deref(),
            Some("containers with unready status: [c]")
        );
        assert_eq!(find(&status, "Initialized").status, "True");
        assert_eq!(find(&status, "PodReadyToStartContainers").status, "False");
        pod.status = Some(status);
        let later = compose(
            &pod,
            &with(waiting(), None),
            &Facts {
                sandbox_ready: true,
                ..Facts::default()
            },
            Timestamp::MAX,
        );
        assert_eq!(find(&later, "Ready").last_transition_time, Some(Time(then)));
        assert_eq!(
            find(&later, "PodReadyToStartContainers").last_transition_time,
            Some(Time(Timestamp::MAX))
        );
    }

    #[test]
    fn the_pod_address_shows_with_the_first_container() {
        let facts = Facts {
            pod_ip: Some("10.244.0.2".to_owned()),
            ..Facts::default()
        };
        assert_eq!(
            compose(
                &pod("Always"),
                &with(waiting(), None),
                &facts,
                Timestamp::UNIX_EPOCH
            )
            .pod_ip,
            None
        );
        let crashed = with(waiting(), Some(ended(1)));
        assert!(
            compose(&pod("Always"), &crashed, &facts, Timestamp::UNIX_EPOCH)
                .pod_ip
                .is_some()
        );
    }

    #[test]
    fn quality_of_service() {
        let of = |resources: serde_json::Value| {
            qos(&[serde_json::from_value(json!({"name": "c", "resources": resources})).unwrap()])
        };
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
    }
}
