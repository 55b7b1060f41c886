//! The most likely cause, in one sentence: the first rule of a table that recognises the evidence. A rule is a pure
//! function; it names the pod or object, and says what is wrong with it rather than what followed from it.

mod cluster;
mod operations;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use super::evidence::Evidence;
use super::unformed;
use crate::trial::observer::is_server;
use crate::wait::{conditions, doom};

/// Recognises one cause.
type Rule = fn(&Evidence) -> Option<String>;

/// Causes before their consequences: a server that crashes also leaves the init Job waiting.
const RULES: [Rule; 22] = [
    admission_refuses,
    image_cannot_be_had,
    container_cannot_be_made,
    server_crashes,
    pod_fits_nowhere,
    volume_claim_is_unbound,
    probe_needs_what_the_image_lacks,
    names_are_not_published,
    service_port_does_not_exist,
    job_pods_in_service,
    replicas_cannot_authenticate,
    announces_wrong_address,
    operations::server_cannot_write,
    operations::replica_has_a_stale_password,
    cluster::slots_are_uncovered,
    cluster::slots_are_unassigned,
    hook_waits,
    unformed::never_formed,
    operations::hook_hides_its_failure,
    operations::removed_nodes_are_not_forgotten,
    operations::primary_has_no_slots,
    operations::keys_are_gone,
];

/// The most likely cause of the failure, if any rule knows it.
pub fn triage(evidence: &Evidence) -> Option<String> {
    RULES.iter().find_map(|rule| rule(evidence))
}

fn admission_refuses(evidence: &Evidence) -> Option<String> {
    let refused = evidence.events.iter().find_map(doom::refusal)?;
    Some(format!("the API server does not take a pod: {refused}"))
}

fn image_cannot_be_had(evidence: &Evidence) -> Option<String> {
    waiting(
        evidence,
        &["ImagePullBackOff", "ErrImagePull", "InvalidImageName"],
    )
    .map(|(pod, container, message)| {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let image = containers
            .filter(|c| c.name == container)
            .find_map(|c| c.image.clone());
        format!(
            "pod {} cannot have its image {}: {message}",
            pod.name_any(),
            image.unwrap_or_default()
        )
    })
}

fn container_cannot_be_made(evidence: &Evidence) -> Option<String> {
    waiting(
        evidence,
        &[
            "CreateContainerConfigError",
            "CreateContainerError",
            "RunContainerError",
        ],
    )
    .map(|(pod, container, message)| {
        format!(
            "the container {container} of pod {} cannot be made: {message}",
            pod.name_any()
        )
    })
}

fn server_crashes(evidence: &Evidence) -> Option<String> {
    evidence.pods.iter().filter(|pod| is_server(pod)).find_map(|pod| {
        let status = conditions::container_statuses(pod).iter().find(|status| {
            let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
        })?;
        let ended = status
            .last_state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let code = ended.map_or_else(|| "unknown".to_owned(), |ended| ended.exit_code.to_string());
        let name = pod.name_any();
        let said = last_words(evidence, &name, &status.name);
        Some(format!(
            "the server of pod {name} crashes at start with exit code {code}{said}"
        ))
    })
}

fn pod_fits_nowhere(evidence: &Evidence) -> Option<String> {
    let doomed = evidence.pods.iter().filter_map(conditions::doom);
    doomed.into_iter().find(|doom| doom.contains("FailedScheduling"))
}

/// Not a doom: a claim may be bound any moment. Once the trial has failed, it is what was waited for.
fn volume_claim_is_unbound(evidence: &Evidence) -> Option<String> {
    let (name, message) = evidence.pods.iter().find_map(|pod| {
        let conditions = pod.status.as_ref()?.conditions.as_deref()?;
        let refused = conditions
            .iter()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
        let message = refused.message.as_deref()?;
        let about_claims = message.to_lowercase().contains("persistentvolumeclaim");
        about_claims.then(|| (pod.name_any(), message.to_owned()))
    })?;
    let waits = hook_of(evidence).map(|hook| format!("the hook {hook} waits for pod {name}"));
    let waits = waits.unwrap_or_else(|| format!("pod {name} does not start"));
    Some(format!("{waits}: its volume claim is unbound ({message})"))
}

/// The hook that the error is about.
fn hook_of(evidence: &Evidence) -> Option<&str> {
    evidence.error.split(" hook ").nth(1)?.split(' ').next()
}

fn probe_needs_what_the_image_lacks(evidence: &Evidence) -> Option<String> {
    evidence.events.iter().find_map(conditions::probe_without_program)
}

/// A headless Service that hides pods until they are ready deadlocks a cluster: no pod is ready before the cluster is formed,
/// and it cannot be formed without names.
fn names_are_not_published(evidence: &Evidence) -> Option<String> {
    let forms_a_cluster = evidence
        .jobs
        .iter()
        .any(|job| job.name_any().contains("cluster-init"));
    let headless = evidence.services.iter().find(|service| {
        let spec = service.spec.as_ref();
        spec.is_some_and(|spec| {
            spec.cluster_ip.as_deref() == Some("None") && spec.publish_not_ready_addresses != Some(true)
        })
    })?;
    forms_a_cluster.then(|| {
        format!(
            "the headless Service {} does not publish the addresses of pods that are not ready \
             (publishNotReadyAddresses), so no pod has a name before the cluster is formed",
            headless.name_any()
        )
    })
}

fn service_port_does_not_exist(evidence: &Evidence) -> Option<String> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    evidence.services.iter().find_map(|service| {
        let pods: Vec<&Pod> = evidence.pods.iter().filter(|pod| is_server(pod)).collect();
        let ports = service.spec.as_ref()?.ports.as_ref()?;
        ports.iter().find_map(|port| {
            let Some(IntOrString::String(target)) = &port.target_port else {
                return None;
            };
            let first = pods.first()?;
            let known: Vec<&str> = container_ports(first).collect();
            (!known.contains(&target.as_str())).then(|| {
                format!(
                    "Service {} sends clients to the port {target:?}, which pod {} does not have (it has {})",
                    service.name_any(),
                    first.name_any(),
                    known.join(", ")
                )
            })
        })
    })
}

fn job_pods_in_service(evidence: &Evidence) -> Option<String> {
    evidence.services.iter().find_map(|service| {
        let job = evidence
            .pods
            .iter()
            .find(|pod| !is_server(pod) && selects(service, pod));
        // The pod of a hook is often gone by now; its Job's template tells the same.
        let of_job = || {
            let template = |job: &&k8s_openapi::api::batch::v1::Job| {
                let labels = job
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
                let mut pod = Pod::default();
                pod.metadata.labels = labels;
                selects(service, &pod)
            };
            evidence.jobs.iter().find(template).map(ResourceExt::name_any)
        };
        let name = job.map(ResourceExt::name_any).or_else(of_job)?;
        Some(format!(
            "Service {} also sends clients to {name}, which is no server",
            service.name_any()
        ))
    })
}

fn replicas_cannot_authenticate(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    seen.answered().find_map(|(pod, view)| {
        view.is_locked_out().then(|| {
            format!(
                "replica {pod} cannot sync from its primary, which wants a password: masterauth is not set"
            )
        })
    })
}

fn announces_wrong_address(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    seen.node_tables().find_map(|(pod, nodes)| {
        let announced = nodes.myself()?.ip.clone();
        let facts = seen.pods.iter().find(|facts| facts.name == pod)?;
        let actual = facts.ip.clone()?;
        (!announced.is_empty() && announced != actual).then(|| {
            format!("the server of pod {pod} announces the address {announced}, but the pod has {actual}")
        })
    })
}

fn hook_waits(evidence: &Evidence) -> Option<String> {
    let hook = hook_of(evidence)?;
    let pod = evidence.error.split("while it waited for ").nth(1)?;
    let pod = pod.split([';', ':', ' ', '\n']).next()?;
    let found = evidence.pods.iter().find(|candidate| candidate.name_any() == pod);
    Some(format!(
        "the hook {hook} waits for pod {pod}, which is {}",
        conditions::describe(found)
    ))
}

/// The first container that waits for one of these reasons: its pod, its name and why.
fn waiting<'a>(evidence: &'a Evidence, reasons: &[&str]) -> Option<(&'a Pod, &'a str, String)> {
    evidence.pods.iter().find_map(|pod| {
        let (container, waiting) = conditions::container_statuses(pod)
            .iter()
            .filter_map(|status| Some((status.name.as_str(), status.state.as_ref()?.waiting.as_ref()?)))
            .find(|(_, waiting)| {
                waiting
                    .reason
                    .as_deref()
                    .is_some_and(|reason| reasons.contains(&reason))
            })?;
        Some((
            pod,
            container,
            waiting
                .message
                .clone()
                .or_else(|| waiting.reason.clone())
                .unwrap_or_default(),
        ))
    })
}

/// How many of a server's last lines are quoted: valkey-server says what it does not accept two lines before its last one.
const QUOTED_LINES: usize = 3;

fn last_words(evidence: &Evidence, pod: &str, container: &str) -> String {
    let key = format!("{pod}/{container}");
    let log = evidence
        .logs
        .get(&format!("{key} (previous)"))
        .or_else(|| evidence.logs.get(&key));
    let said = log
        .into_iter()
        .flat_map(|log| log.lines())
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let said: Vec<&str> = said.collect();
    let last = &said[said.len().saturating_sub(QUOTED_LINES)..];
    if last.is_empty() {
        String::new()
    } else {
        format!("; its last words: {}", last.join(" / "))
    }
}

fn container_ports(pod: &Pod) -> impl Iterator<Item = &str> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| port.name.as_deref())
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
        return false;
    };
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Event;
    use serde::de::DeserializeOwned;

    use super::*;

    fn parse<T: DeserializeOwned>(yaml: &str) -> T {
        serde_yaml::from_str(yaml).expect("the test's own YAML is what it says")
    }

    fn server(status: &str) -> Pod {
        parse(&format!(
            "{{metadata: {{name: vk-0, labels: {{app: vk}}, ownerReferences:
                 [{{kind: StatefulSet, name: vk, uid: u, apiVersion: apps/v1}}]}},
               spec: {{containers: [{{name: valkey, image: example/valkey:1, ports: [{{name: valkey, containerPort: 6379}}]}}]}},
               status: {status}}}"
        ))
    }

    fn crashing() -> Pod {
        server(
            "{containerStatuses: [{name: valkey, ready: false, restartCount: 2, image: x, imageID: x,
               state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1}}}]}",
        )
    }

    #[test]
    fn a_claim_that_is_unbound_is_what_the_hook_waits_for() {
        let pending = server(
            "{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable,
               message: '0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.'}]}",
        );
        let evidence = Evidence {
            error: "post-install hook vk-cluster-init failed while it waited for vk-0; x".to_owned(),
            pods: vec![pending],
            ..Evidence::default()
        };
        assert_eq!(
            triage(&evidence).unwrap(),
            "the hook vk-cluster-init waits for pod vk-0: its volume claim is unbound \
             (0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.)"
        );
    }

    #[test]
    fn nothing_found_is_no_cause() {
        assert_eq!(triage(&Evidence::default()), None);
    }

    #[test]
    fn a_crash_is_the_cause_and_the_waiting_hook_its_consequence() {
        let error =
            "post-install hook vk-cluster-init failed while it waited for vk-0; its last words were: x";
        let mut evidence = Evidence {
            error: error.to_owned(),
            pods: vec![server("{}")],
            ..Evidence::default()
        };
        assert_eq!(
            triage(&evidence).unwrap(),
            "the hook vk-cluster-init waits for pod vk-0, which is Pending 0/1"
        );
        evidence.pods = vec![crashing()];
        evidence.logs.insert(
            "vk-0/valkey (previous)".into(),
            "starting\n\nbad directive\n".into(),
        );
        assert_eq!(
            triage(&evidence).unwrap(),
            "the server of pod vk-0 crashes at start with exit code 1; its last words: starting / bad directive"
        );
    }

    #[test]
    fn a_probe_that_needs_a_shell_is_told_from_one_that_fails() {
        let event = |message: &str| -> Event {
            parse(&format!(
                "{{metadata: {{}}, involvedObject: {{kind: Pod, name: vk-0}}, reason: Unhealthy, message: '{message}'}}"
            ))
        };
        let errored =
            "Readiness probe errored and resulted in unknown state: exec: \"sh\": executable file not found";
        let evidence = Evidence {
            events: vec![event(errored)],
            ..Evidence::default()
        };
        assert_eq!(
            triage(&evidence).unwrap(),
            "the readiness probe of pod vk-0 cannot run \"sh\": the image has no shell"
        );
        let evidence = Evidence {
            events: vec![event("Readiness probe failed: not ok")],
            ..Evidence::default()
        };
        assert_eq!(triage(&evidence), None);
    }

    #[test]
    fn services_that_lead_nowhere_or_to_the_wrong_pods_are_named() {
        let service = |port: &str| -> Service {
            parse(&format!(
                "{{metadata: {{name: vk}}, spec: {{selector: {{app: vk}}, ports: [{{port: 6379, targetPort: {port}}}]}}}}"
            ))
        };
        let mut evidence = Evidence {
            pods: vec![server("{}")],
            services: vec![service("valkey")],
            ..Evidence::default()
        };
        assert_eq!(triage(&evidence), None);
        evidence.services = vec![service("redis")];
        assert!(
            triage(&evidence)
                .unwrap()
                .contains("the port \"redis\", which pod vk-0 does not have")
        );
        evidence.services = vec![service("valkey")];
        evidence
            .pods
            .push(parse("{metadata: {name: init-x, labels: {app: vk}}}"));
        assert_eq!(
            triage(&evidence).unwrap(),
            "Service vk also sends clients to init-x, which is no server"
        );
    }

    #[test]
    fn a_headless_service_that_hides_pods_matters_only_to_a_cluster() {
        let headless: Service = parse(
            "{metadata: {name: vk-headless}, spec: {clusterIP: None, publishNotReadyAddresses: false}}",
        );
        let mut evidence = Evidence {
            services: vec![headless],
            ..Evidence::default()
        };
        assert_eq!(triage(&evidence), None);
        evidence.jobs.push(parse("{metadata: {name: vk-cluster-init}}"));
        assert!(triage(&evidence).unwrap().contains("publishNotReadyAddresses"));
    }
}
