//! The most likely cause, in one sentence: the first rule of a table that recognises the evidence. A rule is a pure
//! function; it names the pod or object, and says what is wrong with it rather than what followed from it.

mod claims;
mod cluster;
mod operations;
mod services;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::evidence::Evidence;
use super::unformed;
use crate::trial::hopeless::NEVER_READY;
use crate::trial::observer::is_server;
use crate::valkey::view::ViewErrorKind;
use crate::wait::{conditions, doom};

/// Recognises one cause.
type Rule = fn(&Evidence) -> Option<String>;

/// A rule by its function's name.
macro_rules! rules {
    ($($rule:path),* $(,)?) => { [$((stringify!($rule), $rule as Rule)),*] };
}

/// Causes before their consequences: a server that crashes also leaves the init Job waiting.
const RULES: [(&str, Rule); 29] = rules![
    admission_refuses,
    something_is_missing,
    image_cannot_be_had,
    container_cannot_be_made,
    server_crashes,
    pod_fits_nowhere,
    claims::volume_claim_is_unbound,
    probe_needs_what_the_image_lacks,
    server_never_starts,
    services::names_are_not_published,
    cluster_cannot_be_formed,
    services::service_port_does_not_exist,
    services::service_selects_no_server,
    services::job_pods_in_service,
    replicas_cannot_authenticate,
    password_is_refused,
    announces_wrong_address,
    operations::server_cannot_write,
    operations::replica_has_a_stale_password,
    cluster::slots_are_uncovered,
    cluster::slots_are_unassigned,
    hook_waits,
    unformed::never_formed,
    readiness_probe_fails,
    hook_fails,
    operations::hook_hides_its_failure,
    operations::removed_nodes_are_not_forgotten,
    operations::primary_has_no_slots,
    operations::keys_are_gone,
];

/// The most likely cause of the failure, if any rule knows it.
pub fn triage(evidence: &Evidence) -> Option<String> {
    recognised(evidence).map(|(_, cause)| cause)
}

/// The same with the name of the rule that knows it.
pub fn recognised(evidence: &Evidence) -> Option<(&'static str, String)> {
    RULES
        .iter()
        .find_map(|(path, rule)| rule(evidence).map(|cause| (name_of(path), cause)))
}

/// The names of all rules, in the order in which they are asked.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(path, _)| name_of(path))
}

/// A rule's name, without the module that it is in.
fn name_of(path: &'static str) -> &'static str {
    path.rsplit("::").next().unwrap_or(path)
}

fn admission_refuses(evidence: &Evidence) -> Option<String> {
    let refused = evidence.events.iter().find_map(doom::refusal)?;
    Some(format!("the API server does not take a pod: {refused}"))
}

/// Events tell of what is missing for a moment, too: only what ended the trial is meant.
fn something_is_missing(evidence: &Evidence) -> Option<String> {
    let missing = evidence
        .events
        .iter()
        .filter_map(doom::missing)
        .map(|missing| missing.to_string());
    missing
        .into_iter()
        .find(|missing| evidence.error.contains(missing))
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

/// The hook that the error is about.
fn hook_of(evidence: &Evidence) -> Option<&str> {
    evidence.error.split(" hook ").nth(1)?.split(' ').next()
}

fn probe_needs_what_the_image_lacks(evidence: &Evidence) -> Option<String> {
    evidence.events.iter().find_map(conditions::probe_without_program)
}

/// The error has the pod, and the probe's own words say why. The event that ends the waiting, a normal one, is not kept.
fn server_never_starts(evidence: &Evidence) -> Option<String> {
    let (_, rest) = evidence.error.split_once("the startup probe of pod ")?;
    let (pod, _) = rest.split_once(" has never succeeded")?;
    let said = evidence.events.iter().rev().find_map(|event| {
        let message = event.message.as_deref()?.strip_prefix("Startup probe failed: ")?;
        (event.involved_object.name.as_deref() == Some(pod)).then(|| message.trim())
    });
    said.map(|said| format!("the startup probe of pod {pod} has never succeeded: {said}"))
}

/// The manifests are such that the Job which forms the cluster waits in vain; the error says why.
fn cluster_cannot_be_formed(evidence: &Evidence) -> Option<String> {
    let (_, why) = evidence.error.split_once("no cluster can be formed: ")?;
    let why = why.lines().next()?;
    Some(format!("no cluster can be formed: {why}"))
}

fn replicas_cannot_authenticate(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    seen.answered().find_map(|(pod, view)| {
        view.is_locked_out()
            .then(|| format!("replica {pod} never synced: primary refuses its password (masterauth missing)"))
    })
}

/// The server has another password than the release, or none.
fn password_is_refused(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    seen.views.iter().find_map(|(pod, view)| {
        let error = view.as_ref().err()?;
        (error.kind == ViewErrorKind::Authentication).then(|| {
            format!(
                "the server of pod {pod} does not have the release's password: {}",
                error.message
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

/// A hook's own last words, when nothing else tells why it failed.
fn hook_fails(evidence: &Evidence) -> Option<String> {
    let hook = hook_of(evidence)?;
    let mut logs = evidence.logs.iter().filter(|(name, _)| name.starts_with(hook));
    let last = logs.find_map(|(_, log)| log.lines().rfind(|line| !line.trim().is_empty()))?;
    Some(format!("the hook {hook} failed; its last words: {}", last.trim()))
}

/// Until everything else holds, a probe has every right to fail.
fn readiness_probe_fails(evidence: &Evidence) -> Option<String> {
    if !evidence.error.contains(NEVER_READY.what) {
        return None;
    }
    evidence.events.iter().rev().find_map(|event| {
        let said = event
            .message
            .as_deref()?
            .strip_prefix("Readiness probe failed: ")?;
        let pod = event.involved_object.name.as_deref()?;
        Some(format!(
            "the readiness probe of pod {pod} fails although its server serves: {}",
            said.trim()
        ))
    })
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Event, Service};
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
            "init Job waits for pod 0: its volume claim is unbound \
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

    fn of(error: &str, events: &[(&str, &str, &str)]) -> Evidence {
        let event = |(reason, pod, message): &(&str, &str, &str)| {
            let mut event: Event = parse("{metadata: {}, involvedObject: {kind: Pod}}");
            (event.reason, event.message) = (Some((*reason).to_owned()), Some((*message).to_owned()));
            event.involved_object.name = Some((*pod).to_owned());
            event
        };
        Evidence {
            error: error.to_owned(),
            events: events.iter().map(event).collect(),
            ..Evidence::default()
        }
    }

    #[test]
    fn what_is_missing_is_the_cause_only_where_it_ended_the_trial() {
        let events = [(
            "FailedMount",
            "vk-0",
            "MountVolume.SetUp failed for volume \"c\" : configmap \"c\" not found",
        )];
        let why = "Pod vk-0 needs the ConfigMap c, which does not exist";
        assert_eq!(triage(&of(why, &events)).as_deref(), Some(why));
        assert_eq!(triage(&of("something else", &events)), None);
    }

    #[test]
    fn a_probe_that_never_succeeds_says_why() {
        let events = [
            ("Unhealthy", "vk-0", "Startup probe failed: Connection refused\n"),
            ("Unhealthy", "vk-1", "Startup probe failed: another pod"),
        ];
        assert_eq!(
            triage(&of("the startup probe of pod vk-0 has never succeeded", &events)).unwrap(),
            "the startup probe of pod vk-0 has never succeeded: Connection refused"
        );
        let events = [("Unhealthy", "vk-0", "Readiness probe failed: Connection refused")];
        assert_eq!(triage(&of("something else", &events)), None);
        assert_eq!(
            triage(&of(NEVER_READY.what, &events)).unwrap(),
            "the readiness probe of pod vk-0 fails although its server serves: Connection refused"
        );
    }

    #[test]
    fn a_service_that_selects_no_server_is_named_with_the_label() {
        let mut evidence = of("x", &[]);
        evidence.pods = vec![server("{}")];
        let service = |label: &str| {
            parse(&format!(
                "{{metadata: {{name: vk}}, spec: {{selector: {{app: vk{label}}}}}}}"
            ))
        };
        evidence.services = vec![service(", role: primary")];
        assert_eq!(
            triage(&evidence).unwrap(),
            "Service vk selects pods with role=primary, which no server has"
        );
        evidence.services = vec![service("")];
        assert_eq!(triage(&evidence), None);
    }

    #[test]
    fn a_hook_that_fails_says_its_last_words() {
        let mut evidence = of("test hook vk-test failed; its last words were: x", &[]);
        evidence.logs = [(
            "vk-test/test".to_owned(),
            "asking\nFAILED: no answer\n\n".to_owned(),
        )]
        .into();
        assert_eq!(
            triage(&evidence).unwrap(),
            "the hook vk-test failed; its last words: FAILED: no answer"
        );
    }
}
