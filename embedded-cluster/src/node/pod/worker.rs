//! The life of a pod on the node, in order: volumes, sandbox, init containers, containers, end,
//! deletion.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, Preconditions};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::PodContext;
use super::container::ContainerTask;
use super::container_records::Role;
use super::{probe, sync};
use crate::api::unsupported;
use crate::node::removal::remove_in_background;
use crate::node::sandbox::Sandbox;
use crate::node::{chain, etc};
use crate::seconds::bounded;

/// The first wait between attempts to set up a pod. The kubelet's volume manager starts at half a
/// second and ends at two minutes. Changes of ConfigMaps and Secrets cut a wait short.
const SET_UP_RETRY: Duration = Duration::from_millis(500);
const SET_UP_RETRY_MAX: Duration = Duration::from_secs(122);

/// The grace period of a pod that has vanished from the API (the kubelet's minimum).
const VANISHED_GRACE: Duration = Duration::from_secs(1);

type StopSender = watch::Sender<Option<Instant>>;

/// Runs the pod from admission until it is gone from the API.
pub(crate) async fn run(pod: Arc<PodContext>) {
    let publisher = tokio::spawn(publish_changes(Arc::clone(&pod)));
    let phase = pod
        .latest()
        .status
        .as_ref()
        .and_then(|status| status.phase.clone())
        .unwrap_or_default();
    if !matches!(phase.as_str(), "Succeeded" | "Failed") {
        live(&pod).await;
        take_down(&pod).await;
        pod.change_facts(|facts| {
            facts.finished = true;
            facts.sandbox_ready = false;
        });
        pod.publish().await;
    }
    pod.done.cancel();
    // The publisher ends early only when it panics, which is a bug here and already reported.
    let _ = publisher.await;
    let mut latest = pod.latest.subscribe();
    // The sender is in the context, so this cannot fail.
    let _ = latest
        .wait_for(|latest| latest.gone || latest.pod.metadata.deletion_timestamp.is_some())
        .await;
    remove(&pod).await;
}

async fn publish_changes(pod: Arc<PodContext>) {
    let mut changes = pod.records.watch();
    loop {
        changes.borrow_and_update();
        pod.publish().await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = pod.done.cancelled() => return,
        }
    }
}

/// Returns the settings of the pod that have no effect.
fn unenforced(pod: &Pod) -> Option<String> {
    unsupported::unenforced(&serde_json::to_value(pod).ok()?)
}

async fn live(pod: &Arc<PodContext>) {
    if let Some(message) = unenforced(&pod.latest()) {
        // No warning: the pod has no error.
        pod.normal(None, "Unenforced", message);
    }
    let stop = Arc::new(StopSender::new(None));
    let stopper = tokio::spawn(stop_when_asked(Arc::clone(pod), Arc::clone(&stop)));
    let mut stopped = stop.subscribe();
    let ready = tokio::select! {
        () = set_up(pod) => true,
        _ = stopped.wait_for(Option::is_some) => false,
    };
    if ready {
        let following = tokio::spawn(sync::follow_objects(Arc::clone(pod)));
        run_containers(pod, &stop).await;
        following.abort();
    }
    stopper.abort();
}

/// Combines deletion, disappearance and the active deadline into one deadline for the containers.
async fn stop_when_asked(pod: Arc<PodContext>, stop: Arc<StopSender>) {
    let mut latest = pod.latest.subscribe();
    let active = pod
        .latest()
        .spec
        .as_ref()
        .and_then(|spec| spec.active_deadline_seconds);
    let active = active.map(|seconds| Instant::now() + bounded(seconds));
    let mut known_grace = None;
    loop {
        let now = latest.borrow_and_update().clone();
        if now.gone {
            bring_forward(&stop, Instant::now() + VANISHED_GRACE);
        } else if now.pod.metadata.deletion_timestamp.is_some() {
            let grace = now
                .pod
                .metadata
                .deletion_grace_period_seconds
                .unwrap_or_else(|| pod.grace_seconds())
                .max(1);
            if known_grace != Some(grace) {
                known_grace = Some(grace);
                bring_forward(&stop, Instant::now() + bounded(grace));
            }
        }
        let overdue = async {
            match active {
                // This wait is the pod's active deadline.
                Some(active) if stop.borrow().is_none() => sleep_until(active).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            () = overdue => {
                let message = "Pod was active on the node longer than the specified deadline";
                pod.normal(None, "DeadlineExceeded", message);
                pod.change_facts(|facts| facts.failure = Some(("DeadlineExceeded".to_owned(), message.to_owned())));
                let grace = bounded(pod.grace_seconds().max(1));
                bring_forward(&stop, Instant::now() + grace);
            }
        }
    }
}

fn bring_forward(stop: &StopSender, deadline: Instant) {
    stop.send_if_modified(|current| {
        let sooner = current.is_none_or(|current| deadline < current);
        if sooner {
            *current = Some(deadline);
        }
        sooner
    });
}

/// Retries until volumes and sandbox exist.
async fn set_up(pod: &Arc<PodContext>) {
    let mut retry = SET_UP_RETRY;
    let mut objects = pod.objects_changed.subscribe();
    loop {
        objects.borrow_and_update();
        match try_set_up(pod).await {
            Ok(()) => return,
            Err((reason, message)) => {
                pod.node.health.notice("setting up a pod", &message);
                pod.warning(None, reason, message);
            }
        }
        tokio::select! {
            // This wait is a back-off.
            () = sleep_until(Instant::now() + retry) => retry = (retry * 2).min(SET_UP_RETRY_MAX),
            changed = objects.changed() => if changed.is_err() { return },
        }
    }
}

async fn try_set_up(pod: &Arc<PodContext>) -> Result<(), (&'static str, String)> {
    let latest = pod.latest();
    let volumes = pod
        .node
        .volumes
        .prepare(&latest, &pod.dir)
        .await
        .map_err(|error| ("FailedMount", chain(&error)))?;
    *pod.volumes() = volumes;
    let failed = |error: &(dyn std::error::Error + 'static)| {
        (
            "FailedCreatePodSandBox",
            format!("Failed to create pod sandbox: {}", chain(error)),
        )
    };
    let sandbox = Sandbox::create(&etc::hostname(&latest)).map_err(|error| failed(&error))?;
    let address = pod
        .node
        .network
        .attach(&pod.key, sandbox.network())
        .await
        .map_err(|error| failed(&error))?;
    *pod.sandbox
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(sandbox));
    write_shared_files(pod, address.ip, address.dns).map_err(|error| failed(&error))?;
    pod.set_address(address.ip);
    Ok(())
}

fn write_shared_files(pod: &PodContext, ip: std::net::Ipv4Addr, dns: std::net::Ipv4Addr) -> io::Result<()> {
    let shm = pod.dir.join("shm");
    fs::create_dir_all(&shm)?;
    fs::set_permissions(&shm, fs::Permissions::from_mode(0o1777))?;
    etc::write(&pod.dir.join("etc"), &pod.latest(), ip, dns)
}

struct Sidecar {
    task: JoinHandle<()>,
    stop: StopSender,
}

async fn run_containers(pod: &Arc<PodContext>, stop: &Arc<StopSender>) {
    let spec = pod.latest().spec.clone().unwrap_or_default();
    let inits = spec.init_containers.unwrap_or_default();
    start_probes(pod, inits.iter().chain(&spec.containers));
    let mut sidecars = Vec::new();
    if initialize(pod, &inits, stop, &mut sidecars).await {
        let mains: Vec<JoinHandle<()>> = spec
            .containers
            .into_iter()
            .map(|container| tokio::spawn(task(pod, container, Role::Main, stop).run()))
            .collect();
        for main in mains {
            // The task fails only when it panicked, which is a bug here and already reported.
            let _ = main.await;
        }
    }
    // Sidecars outlive the containers they serve, and end in the reverse order of their start.
    let deadline = stop
        .borrow()
        .unwrap_or_else(|| Instant::now() + bounded(pod.grace_seconds().max(1)));
    for sidecar in sidecars.into_iter().rev() {
        bring_forward(&sidecar.stop, deadline);
        // An error is a panic here, too, which is already reported.
        let _ = sidecar.task.await;
    }
}

/// Runs the init containers in order; returns true if the others may start.
async fn initialize(
    pod: &Arc<PodContext>,
    inits: &[Container],
    stop: &Arc<StopSender>,
    sidecars: &mut Vec<Sidecar>,
) -> bool {
    let mut stopped = stop.subscribe();
    for container in inits {
        let name = container.name.clone();
        if container.restart_policy.as_deref() == Some("Always") {
            let own_stop = StopSender::new(None);
            let task = ContainerTask {
                pod: Arc::clone(pod),
                container: container.clone(),
                role: Role::Sidecar,
                stop: own_stop.subscribe(),
            };
            sidecars.push(Sidecar {
                task: tokio::spawn(task.run()),
                stop: own_stop,
            });
            let started = async {
                let mut changes = pod.records.watch();
                while pod.records.look(&name, super::container_records::Record::started) != Some(true) {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = started => {}
                _ = stopped.wait_for(Option::is_some) => return false,
            }
        } else {
            Box::pin(task(pod, container.clone(), Role::Init, stop).run()).await;
            if stop.borrow().is_some()
                || pod.records.look(&name, super::container_records::Record::ready) != Some(true)
            {
                return false;
            }
        }
    }
    true
}

fn task(pod: &Arc<PodContext>, container: Container, role: Role, stop: &Arc<StopSender>) -> ContainerTask {
    ContainerTask {
        pod: Arc::clone(pod),
        container,
        role,
        stop: stop.subscribe(),
    }
}

fn start_probes<'a>(pod: &Arc<PodContext>, containers: impl Iterator<Item = &'a Container>) {
    for container in containers {
        for kind in probe::ProbeKind::ALL {
            if let Some(wanted) = kind.of(container) {
                tokio::spawn(probe::run(
                    Arc::clone(pod),
                    container.clone(),
                    kind,
                    wanted.clone(),
                ));
            }
        }
    }
}

/// Releases the resources of the pod's sandbox. Its logs stay until the pod is deleted.
async fn take_down(pod: &PodContext) {
    *pod.sandbox
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    if let Err(error) = pod.node.network.release(&pod.key).await {
        tracing::warn!(pod = pod.key.name, %error, "the pod's network was not released");
    }
    pod.volumes().unmount(&pod.dir);
}

async fn remove(pod: &PodContext) {
    remove_in_background(&pod.dir);
    if pod.latest.borrow().gone {
        return;
    }
    let preconditions = Preconditions {
        uid: Some(pod.key.uid.clone()),
        resource_version: None,
    };
    let now = DeleteParams::default()
        .grace_period(0)
        .preconditions(preconditions);
    match pod.api().delete(&pod.key.name, &now).await {
        Ok(_) => {}
        // Another client deleted it first, or a successor already has its name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => {
            tracing::warn!(pod = pod.key.name, %error, "a terminated pod could not be deleted from the API");
        }
    }
}
