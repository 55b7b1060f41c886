//! The most likely cause of a failure, found by a table of rules over the evidence, one for each
//! cause. A rule is a pure function. It names the faulty pod or object, and the defect rather than
//! its consequences.

mod claims;
mod cluster;
mod data;
mod operations;
mod pods;
mod services;

use std::collections::BTreeSet;

use super::cause::Cause;
use super::evidence::Evidence;
use super::failure::Failure;
use super::unformed;
use crate::trial::terminal_servers::LastingState;
use crate::valkey::ClusterObservation;
use crate::valkey::view::ViewErrorKind;
use crate::wait::conditions;

/// Recognises one cause.
type Rule = fn(&Evidence) -> Option<Cause>;

/// A rule by its function's name.
macro_rules! rules {
    ($($rule:path),* $(,)?) => { [$((stringify!($rule), $rule as Rule)),*] };
}

/// Causes before their consequences: a server that crashes also leaves the init Job waiting.
const RULES: [(&str, Rule); 43] = rules![
    pods::name_too_long,
    pods::admission_refuses,
    pods::something_is_missing,
    pods::image_cannot_be_had,
    pods::program_is_missing,
    pods::container_cannot_be_made,
    pods::out_of_memory,
    pods::server_crashes,
    pods::sidecar_crashes,
    pods::pod_fits_nowhere,
    claims::volume_claim_is_unbound,
    pods::probe_needs_what_the_image_lacks,
    pods::server_never_starts,
    pods_start_one_at_a_time,
    services::names_are_not_published,
    cluster_cannot_be_formed,
    services::service_port_does_not_exist,
    services::service_port_is_closed,
    services::service_selects_no_server,
    services::job_pods_in_service,
    replicas_cannot_authenticate,
    password_ends_with_newline,
    password_is_refused,
    announces_wrong_address,
    operations::server_cannot_write,
    data::maxmemory_refuses_writes,
    operations::replica_has_a_stale_password,
    cluster::node_identity_is_lost,
    cluster::slots_are_uncovered,
    cluster::slots_are_unassigned,
    field_is_immutable,
    deployment_is_refused,
    hook_waits,
    unformed::never_formed,
    pods::readiness_probe_fails,
    hook_fails,
    operations::hook_hides_its_failure,
    operations::removed_nodes_are_not_forgotten,
    operations::primary_has_no_slots,
    data::keys_were_evicted,
    data::data_is_not_persistent,
    data::persistence_is_off,
    data::keys_are_gone,
];

/// Rules that an observation of an earlier moment satisfies as well. Other rules compare it with
/// pods, logs or objects, which are those of the trial's end.
const OF_AN_OBSERVATION: [&str; 3] = [
    "replicas_cannot_authenticate",
    "removed_nodes_are_not_forgotten",
    "primary_has_no_slots",
];

/// A cause that holds, and the violations of the failure that it explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// The name of the rule that recognised it.
    pub rule: &'static str,
    /// The cause.
    pub cause: Cause,
    /// The violations that the cause explains, by their places in [`Evidence::violations`].
    pub explained: Vec<usize>,
}

/// Returns the causes that explain a violation, in the order of the rules. Causes of the trial's
/// final error come first, causes that stand alone last.
pub fn diagnose(evidence: &Evidence) -> Vec<Recognised> {
    let at = |seen: &ClusterObservation| Evidence {
        observation: Some(seen.clone()),
        ..evidence.clone()
    };
    let earlier: Vec<Evidence> = evidence.earlier.iter().map(at).collect();
    let of_earlier = |path, rule: &Rule| {
        let applies = OF_AN_OBSERVATION.contains(&name_of(path));
        earlier.iter().filter(|_| applies).find_map(rule)
    };
    let explained_by = |cause: &Cause| -> Vec<usize> {
        let violations = evidence.violations.iter().enumerate();
        let explained = violations.filter(|(_, violation)| cause.explains(violation));
        explained.map(|(place, _)| place).collect()
    };
    let known_before: BTreeSet<usize> = RULES
        .iter()
        .filter_map(|(path, rule)| of_earlier(path, rule))
        .flat_map(|cause| explained_by(&cause))
        .collect();
    let recognised = RULES.iter().filter_map(|(path, rule)| {
        let before = of_earlier(path, rule);
        let is_new = before.is_none();
        let cause = rule(evidence).or(before)?;
        let found = Recognised {
            rule: name_of(path),
            explained: explained_by(&cause),
            cause,
        };
        // The trial's end may look like another cause of what had an earlier one.
        let has_earlier = |place: &usize| known_before.contains(place) && !evidence.is_decisive(*place);
        let is_late = is_new && !found.explained.is_empty() && found.explained.iter().all(has_earlier);
        (!is_late || found.cause.stands_alone()).then_some(found)
    });
    let (mut explaining, others): (Vec<_>, Vec<_>) =
        recognised.partition(|found| !found.explained.is_empty());
    // A symptom is no separate defect where a cause explains it.
    let roots = explaining.iter().filter(|found| !found.cause.is_symptom());
    let rooted: BTreeSet<usize> = roots.flat_map(|found| found.explained.clone()).collect();
    explaining.retain(|found| {
        !found.cause.is_symptom() || found.explained.iter().any(|place| !rooted.contains(place))
    });
    explaining.sort_by_key(|found| !found.is_decisive(evidence));
    explaining.extend(others.into_iter().filter(|found| found.cause.stands_alone()));
    explaining
}

/// Returns the headline of the failure: the first cause that explains the trial's final error.
pub fn recognised(evidence: &Evidence) -> Option<Recognised> {
    let first = diagnose(evidence).into_iter().next();
    first.filter(|found| found.is_decisive(evidence))
}

impl Recognised {
    /// Returns true if the cause explains a violation of the error that the trial ended with.
    pub fn is_decisive(&self, evidence: &Evidence) -> bool {
        self.explained.iter().any(|place| evidence.is_decisive(*place))
    }
}

/// Returns the names of all rules, in the order in which they are evaluated.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(path, _)| name_of(path))
}

/// Returns a rule's name without its module.
fn name_of(path: &'static str) -> &'static str {
    path.rsplit("::").next().unwrap_or(path)
}

fn pods_start_one_at_a_time(evidence: &Evidence) -> Option<Cause> {
    if !evidence.failure.lasted(LastingState::OneAtATime) {
        return None;
    }
    let seen = evidence.observation.as_ref()?;
    let pod = seen.pods.first()?.name.clone();
    let wanted = seen.expected.pods;
    Some(Cause::PodsStartOneAtATime { pod, wanted })
}

/// Recognises manifests with which the Job that forms the cluster cannot succeed.
fn cluster_cannot_be_formed(evidence: &Evidence) -> Option<Cause> {
    match &evidence.failure {
        Failure::Unformable { why } => Some(Cause::ClusterCannotBeFormed { why: why.clone() }),
        _ => None,
    }
}

fn replicas_cannot_authenticate(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    let (replica, _) = seen.answered().find(|(_, view)| view.is_locked_out())?;
    let replica = replica.to_owned();
    Some(Cause::ReplicasCannotAuthenticate { replica })
}

/// Returns the first server that refuses the passwords of the release, and its error message.
fn refusing(evidence: &Evidence) -> Option<(&str, &str)> {
    let seen = evidence.observation.as_ref()?;
    seen.views.iter().find_map(|(pod, view)| {
        let error = view.as_ref().err()?;
        let refuses = error.kind == ViewErrorKind::Authentication;
        refuses.then_some((pod.as_str(), error.message.as_str()))
    })
}

/// Recognises a password that ends with a line break. Most clients cannot send it, and in a Secret
/// it is invisible. Certificates and configuration files end with one too, so only keys named after
/// a password count.
fn password_ends_with_newline(evidence: &Evidence) -> Option<Cause> {
    let (pod, _) = refusing(evidence)?;
    let is_password = |key: &str| key.to_ascii_lowercase().contains("pass");
    let mut passwords = evidence.secrets.iter().filter(|entry| is_password(&entry.key));
    let found = passwords.find(|entry| entry.ends_with_newline)?;
    Some(Cause::PasswordEndsWithNewline {
        secret: found.secret.clone(),
        key: found.key.clone(),
        pod: pod.to_owned(),
    })
}

/// Recognises a server that has another password than the release, or none.
fn password_is_refused(evidence: &Evidence) -> Option<Cause> {
    let (pod, said) = refusing(evidence)?;
    let (pod, said) = (pod.to_owned(), said.to_owned());
    Some(Cause::PasswordIsRefused { pod, said })
}

fn announces_wrong_address(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    seen.node_tables().find_map(|(pod, nodes)| {
        let announced = nodes.myself()?.ip.clone();
        let facts = seen.pods.iter().find(|facts| facts.name == pod)?;
        let actual = facts.ip.clone()?;
        let wrong = !announced.is_empty() && announced != actual;
        wrong.then(|| Cause::AnnouncesWrongAddress {
            pod: pod.to_owned(),
            announced,
            actual,
        })
    })
}

fn field_is_immutable(evidence: &Evidence) -> Option<Cause> {
    let Failure::Refused { verb, refusal } = &evidence.failure else {
        return None;
    };
    refusal.immutable.then(|| Cause::FieldIsImmutable {
        verb: verb.clone(),
        object: refusal.object.clone().unwrap_or_else(|| "an object".to_owned()),
        field: refusal.field.clone(),
        reason: refusal.reason.clone(),
    })
}

fn deployment_is_refused(evidence: &Evidence) -> Option<Cause> {
    let Failure::Refused { verb, refusal } = &evidence.failure else {
        return None;
    };
    Some(Cause::DeploymentIsRefused {
        verb: verb.clone(),
        object: refusal.object.clone(),
        reason: refusal.reason.clone(),
    })
}

fn hook_waits(evidence: &Evidence) -> Option<Cause> {
    let Failure::Hook {
        hook,
        waits_for: Some(pod),
    } = &evidence.failure
    else {
        return None;
    };
    let found = evidence
        .pods
        .iter()
        .find(|candidate| candidate.metadata.name.as_ref() == Some(pod));
    Some(Cause::HookWaits {
        hook: hook.clone(),
        pod: pod.clone(),
        state: conditions::describe(found),
    })
}

/// Returns a hook's last log line when no other rule knows why the hook failed.
fn hook_fails(evidence: &Evidence) -> Option<Cause> {
    let hook = evidence.failure.hook()?;
    let mut logs = evidence.logs.iter().filter(|(name, _)| name.starts_with(hook));
    let last = logs.find_map(|(_, log)| log.lines().rfind(|line| !line.trim().is_empty()))?;
    Some(Cause::HookFails {
        hook: hook.to_owned(),
        said: last.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Event, Pod, Service};
    use serde::de::DeserializeOwned;

    use super::super::failure::{HOOKS, PODS};
    use super::*;
    use crate::checks::fixture::Fixture;
    use crate::checks::{Violation, readiness, services, topology};
    use crate::trial::outage::NOWHERE;
    use crate::wait::terminal_state::{Missing, TerminalState};

    /// Returns the headline's sentence.
    fn triage(evidence: &Evidence) -> Option<String> {
        recognised(evidence).map(|found| found.cause.to_string())
    }

    fn broken(promise: &str, subject: &str) -> Vec<Violation> {
        vec![Violation::new(promise, subject, "x", "y")]
    }

    /// Returns the failure of a hook that waits for a pod.
    fn hook_failed(hook: &str, waits_for: Option<&str>) -> Evidence {
        Evidence {
            failure: Failure::Hook {
                hook: hook.to_owned(),
                waits_for: waits_for.map(str::to_owned),
            },
            violations: broken(HOOKS, hook),
            ..Evidence::default()
        }
    }

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
            pods: vec![pending],
            ..hook_failed("vk-cluster-init", Some("vk-0"))
        };
        assert_eq!(
            triage(&evidence).unwrap(),
            "init Job waits for pod 0: its volume claim is unbound \
             (0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.)"
        );
    }

    #[test]
    fn what_was_mended_before_the_end_still_has_its_cause() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_all(" connected 0-5460", " connected");
        let mended = Evidence {
            violations: broken(topology::NAME, "the cluster"),
            observation: Some(Fixture::cluster(6, 1).observation()),
            ..Evidence::default()
        };
        assert_eq!(triage(&mended), None);
        let evidence = Evidence {
            earlier: vec![fixture.observation()],
            ..mended
        };
        assert_eq!(
            recognised(&evidence).map(|found| found.rule),
            Some("primary_has_no_slots")
        );
        assert!(
            OF_AN_OBSERVATION
                .iter()
                .all(|name| rules().any(|rule| rule == *name))
        );
    }

    #[test]
    fn what_had_a_cause_before_gets_no_second_one_at_the_end() {
        let mut fixture = Fixture::cluster(6, 1);
        fixture.edit_info("valkey-3", "master_link_status:up", "master_link_status:down");
        fixture.stale_primary_auth.insert("valkey-3".to_owned());
        let observation = Some(fixture.observation());
        fixture.primary_auth_set.insert("valkey-3".to_owned(), false);
        let mut evidence = Evidence {
            violations: [broken("password", "Secret vk"), broken("replication", "valkey-3")].concat(),
            decisive: 1,
            observation,
            ..Evidence::default()
        };
        let found = |evidence: &Evidence| -> Vec<&str> {
            diagnose(evidence).iter().map(|found| found.rule).collect()
        };
        assert_eq!(found(&evidence), ["replica_has_a_stale_password"]);
        evidence.earlier = vec![fixture.observation()];
        assert_eq!(found(&evidence), ["replicas_cannot_authenticate"]);
    }

    #[test]
    fn a_failed_hook_is_a_symptom_where_a_cause_explains_it() {
        let mut hook = hook_failed("vk-cluster-scale", None);
        hook.logs
            .insert("vk-cluster-scale-x/job".into(), "FAILED\n".into());
        let found = |evidence: &Evidence| -> Vec<&str> {
            diagnose(evidence).iter().map(|found| found.rule).collect()
        };
        assert_eq!(found(&hook), ["hook_fails"]);
        let mut fixture = Fixture::cluster(6, 1);
        fixture.primary_auth_set.insert("valkey-3".to_owned(), false);
        fixture.edit_info("valkey-3", "master_link_status:up", "master_link_status:down");
        let explained = Evidence {
            observation: Some(fixture.observation()),
            ..hook
        };
        assert_eq!(found(&explained), ["replicas_cannot_authenticate"]);
    }

    #[test]
    fn a_pod_that_the_trial_keeps_away_is_no_defect() {
        let mut pending = server(
            "{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable,
               message: '0/1 nodes are available'}]}",
        );
        let fits_nowhere = |pod: &Pod| {
            let evidence = Evidence {
                pods: vec![pod.clone()],
                violations: broken(PODS, "vk-0"),
                ..Evidence::default()
            };
            triage(&evidence).is_some()
        };
        assert!(fits_nowhere(&pending));
        let spec = pending.spec.as_mut().expect("a server has a spec");
        spec.node_selector = Some([(NOWHERE.to_owned(), "true".to_owned())].into());
        assert!(!fits_nowhere(&pending));
    }

    #[test]
    fn nothing_found_is_no_cause() {
        assert_eq!(triage(&Evidence::default()), None);
    }

    #[test]
    fn a_crash_is_the_cause_and_the_waiting_hook_its_consequence() {
        let mut evidence = Evidence {
            pods: vec![server("{}")],
            ..hook_failed("vk-cluster-init", Some("vk-0"))
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
            "the server of pod vk-0 crashes at start with exit code 1; its last output: starting / bad directive"
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
            violations: broken(readiness::NAME, "vk-0"),
            events: vec![event(errored)],
            ..Evidence::default()
        };
        assert_eq!(
            triage(&evidence).unwrap(),
            "the readiness probe of pod vk-0 cannot run \"sh\": the image has no shell"
        );
        let evidence = Evidence {
            violations: broken(readiness::NAME, "vk-0"),
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
            violations: broken(services::NAME, "Service vk"),
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
            "Service vk also sends clients to init-x, which is not a server"
        );
    }

    #[test]
    fn a_headless_service_that_hides_pods_matters_only_to_a_cluster() {
        let headless: Service = parse(
            "{metadata: {name: vk-headless}, spec: {clusterIP: None, publishNotReadyAddresses: false}}",
        );
        let mut evidence = Evidence {
            violations: broken(HOOKS, "vk-cluster-init"),
            services: vec![headless],
            ..Evidence::default()
        };
        assert_eq!(triage(&evidence), None);
        evidence.jobs.push(parse("{metadata: {name: vk-cluster-init}}"));
        assert!(triage(&evidence).unwrap().contains("publishNotReadyAddresses"));
    }

    fn of(failure: Failure, violations: Vec<Violation>, events: &[(&str, &str, &str)]) -> Evidence {
        let event = |(reason, pod, message): &(&str, &str, &str)| {
            let mut event: Event = parse("{metadata: {}, involvedObject: {kind: Pod}}");
            (event.reason, event.message) = (Some((*reason).to_owned()), Some((*message).to_owned()));
            event.involved_object.name = Some((*pod).to_owned());
            event
        };
        Evidence {
            failure,
            violations,
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
        let missing = Missing {
            kind: "ConfigMap".to_owned(),
            name: "c".to_owned(),
            for_whom: "Pod vk-0".to_owned(),
        };
        let ended = Failure::Terminal {
            state: TerminalState::Missing(missing),
        };
        let broken = broken(PODS, "Pod vk-0");
        assert_eq!(triage(&of(ended, broken.clone(), &events)).as_deref(), Some(why));
        assert_eq!(triage(&of(Failure::Other, broken, &events)), None);
    }

    #[test]
    fn a_probe_that_never_succeeds_says_why() {
        let events = [
            ("Unhealthy", "vk-0", "Startup probe failed: Connection refused\n"),
            ("Unhealthy", "vk-1", "Startup probe failed: another pod"),
        ];
        let ended = Failure::Terminal {
            state: TerminalState::NeverStarted {
                pod: "vk-0".to_owned(),
            },
        };
        let unready = || broken(readiness::NAME, "vk-0");
        assert_eq!(
            triage(&of(ended, unready(), &events)).unwrap(),
            "the startup probe of pod vk-0 has never succeeded: Connection refused"
        );
        let events = [("Unhealthy", "vk-0", "Readiness probe failed: Connection refused")];
        assert_eq!(triage(&of(Failure::Other, unready(), &events)), None);
        let lasting = Failure::Promises {
            lasting: Some(LastingState::NeverReady),
        };
        assert_eq!(
            triage(&of(lasting, unready(), &events)).unwrap(),
            "the readiness probe of pod vk-0 fails although its server serves: Connection refused"
        );
    }

    #[test]
    fn a_service_that_selects_no_server_is_named_with_the_label() {
        let mut evidence = of(Failure::Other, broken(services::NAME, "Service vk"), &[]);
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
        let mut evidence = hook_failed("vk-test", None);
        evidence.logs = [(
            "vk-test/test".to_owned(),
            "asking\nFAILED: no answer\n\n".to_owned(),
        )]
        .into();
        assert_eq!(
            triage(&evidence).unwrap(),
            "the hook vk-test failed; its last output: FAILED: no answer"
        );
    }

    #[test]
    fn a_true_cause_that_explains_nothing_is_no_headline() {
        let service = "{metadata: {name: vk}, spec: {selector: {app: vk}}}";
        let evidence = Evidence {
            violations: broken("replication", "vk-4"),
            pods: vec![
                server("{}"),
                parse("{metadata: {name: init-x, labels: {app: vk}}}"),
            ],
            services: vec![parse(service)],
            ..Evidence::default()
        };
        assert_eq!(recognised(&evidence), None);
        let found = diagnose(&evidence);
        let rules: Vec<&str> = found.iter().map(|found| found.rule).collect();
        assert_eq!(rules, ["job_pods_in_service"], "it is a finding all the same");
    }

    #[test]
    fn a_sidecar_that_crashes_is_not_the_server() {
        let pod = server(
            "{containerStatuses: [
               {name: valkey, ready: true, restartCount: 0, image: x, imageID: x, state: {running: {}}},
               {name: exporter, ready: false, restartCount: 4, image: x, imageID: x,
                state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 2}}}]}",
        );
        let mut evidence = of(Failure::Other, broken(PODS, "vk-0"), &[]);
        evidence.pods = vec![pod];
        assert_eq!(
            triage(&evidence).unwrap(),
            "the container exporter of pod vk-0, which is not the server, crashes with exit code 2"
        );
    }

    #[test]
    fn a_container_that_is_killed_for_its_memory_is_named_so() {
        let mut evidence = of(Failure::Other, broken(PODS, "vk-0"), &[]);
        evidence.pods = vec![server(
            "{containerStatuses: [{name: valkey, ready: false, restartCount: 3, image: x, imageID: x,
               state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]}",
        )];
        evidence.logs.insert(
            "vk-0/valkey (previous)".into(),
            "Ready to accept connections\n".into(),
        );
        assert_eq!(
            triage(&evidence).unwrap(),
            "the container valkey of pod vk-0 needs more memory than its limit: OOMKilled, 3 restarts"
        );
    }

    #[test]
    fn a_refusal_is_told_with_its_own_reason_first() {
        let refused = |said: &str| {
            let (verb, refusal) = ("helm upgrade".to_owned(), crate::release::Refusal::read(said));
            triage(&of(
                Failure::Refused { verb, refusal },
                broken("deployment", "helm upgrade"),
                &[],
            ))
            .unwrap()
        };
        let immutable = "Error: UPGRADE FAILED: cannot patch \"vk\" with kind Service: Service \"vk\" is invalid: \
                         spec.clusterIP: Invalid value: \"None\": field is immutable";
        assert!(
            refused(immutable)
                .starts_with("helm upgrade is refused: Service vk: the field spec.clusterIP is immutable"),
            "{}",
            refused(immutable)
        );
        assert_eq!(
            refused(
                "Error: INSTALLATION FAILED: execution error at (v/templates/x.yaml:1:2): a password is needed"
            ),
            "helm upgrade is refused: INSTALLATION FAILED: execution error at (v/templates/x.yaml:1:2): a password is needed"
        );
    }

    #[test]
    fn a_password_with_a_line_break_is_told_from_a_wrong_one() {
        use crate::diagnostics::evidence::SecretEntry;
        use crate::valkey::view::ViewError;
        let mut seen = crate::checks::fixture::Fixture::standalone().observation();
        let refused = ViewError {
            kind: ViewErrorKind::Authentication,
            message: "WRONGPASS".to_owned(),
        };
        for view in seen.views.values_mut() {
            *view = Err(refused.clone());
        }
        let mut evidence = of(Failure::Other, broken("reachability", "valkey-0"), &[]);
        evidence.observation = Some(seen);
        assert_eq!(
            triage(&evidence).unwrap(),
            "the server of pod valkey-0 does not have the release's password: WRONGPASS"
        );
        evidence.secrets.push(SecretEntry {
            secret: "vk".to_owned(),
            key: "password".to_owned(),
            ends_with_newline: true,
        });
        assert_eq!(
            triage(&evidence).unwrap(),
            "the server of pod valkey-0 refuses the password: password of Secret vk ends with a line break, which clients do \
             not send"
        );
    }

    #[test]
    fn what_was_noted_on_the_way_is_no_headline_of_what_came_later() {
        let mut violations = broken("scenario", "the scenario");
        violations.extend(broken(services::NAME, "Service vk"));
        let evidence = Evidence {
            violations,
            decisive: 1,
            pods: vec![
                server("{}"),
                parse("{metadata: {name: init-x, labels: {app: vk}}}"),
            ],
            services: vec![parse("{metadata: {name: vk}, spec: {selector: {app: vk}}}")],
            ..Evidence::default()
        };
        assert_eq!(recognised(&evidence), None);
        let defects = crate::diagnostics::defects::defects(&evidence, "ns");
        let ids: Vec<&str> = defects.iter().map(|defect| defect.id.as_str()).collect();
        assert_eq!(ids, ["scenario:the-scenario:x", "job_pods_in_service"]);
    }
}
