//! Pauses of deadlines while the cluster is busy. A slow registry is not the deployment's fault.
//! A deadline's clock stops, within limits:
//!
//! - while the cluster pulls an image, makes a volume, sets a pod up or restarts a container
//! - while the API server is unreachable

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::conditions::{container_statuses, is_terminating};
use super::{conditions, terminal_state, watch};

/// The longest pause of a wait. A published image of 200 MB takes minutes on a slow line. A longer
/// delay needs a person.
const LONGEST: Duration = Duration::from_secs(600);

/// The longest pause for one absence of the API server: more than any restart takes. A longer
/// absence needs a person soon.
const LONGEST_ABSENCE: Duration = Duration::from_secs(60);

/// Interval of the smallest request to the API server, which shows that it is there.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Time without an answer after which a server counts as away. Callers bridge shorter gaps.
const SILENCE: Duration = Duration::from_secs(5);

/// The times during which one namespace's cluster was busy or away. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct DeadlinePauses(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    busy: Vec<Busy>,
    absences: Vec<Busy>,
}

/// A period that allowed nothing but waiting.
#[derive(Debug, Clone)]
struct Busy {
    since: Instant,
    until: Option<Instant>,
}

impl Busy {
    /// Returns the part of this period after `start`, as known at `now`.
    fn after(&self, start: Instant, now: Instant) -> Duration {
        let until = self.until.unwrap_or(now);
        until.saturating_duration_since(self.since.max(start))
    }
}

impl DeadlinePauses {
    /// Returns the part of the time since `start` that does not count because the cluster was busy.
    pub fn excused(&self, start: Instant) -> Duration {
        self.excused_at(start, Instant::now())
    }

    fn excused_at(&self, start: Instant, now: Instant) -> Duration {
        let times = self.lock();
        let busy: Duration = times.busy.iter().map(|busy| busy.after(start, now)).sum();
        let absences = times.absences.iter();
        let absent: Duration = absences
            .map(|absence| absence.after(start, now).min(LONGEST_ABSENCE))
            .sum();
        (busy + absent).min(LONGEST)
    }

    /// Returns the total absence of the API server while the namespace was followed.
    pub fn absence(&self) -> Option<Duration> {
        let (times, now) = (self.lock(), Instant::now());
        let total: Duration = times
            .absences
            .iter()
            .map(|absence| absence.after(absence.since, now))
            .sum();
        (!total.is_zero()).then_some(total)
    }

    /// Records that the cluster is busy or idle from `now` on.
    fn note(&self, busy: bool, now: Instant) {
        note(&mut self.lock().busy, busy, now);
    }

    /// Records that the API server is away or back from `now` on.
    fn note_absence(&self, away: bool, now: Instant) {
        note(&mut self.lock().absences, away, now);
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock().expect("no code panics while it holds the times")
    }

    /// Polls the API server for its presence until the future is dropped.
    async fn listen(&self, client: &Client, tell: &impl Fn(&str)) {
        let mut ticker = tokio::time::interval(HEARTBEAT);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            let asked = Instant::now();
            if answers(client).await {
                continue;
            }
            self.note_absence(true, asked);
            tell("the API server is unreachable");
            while !answers(client).await {
                ticker.tick().await;
            }
            self.note_absence(false, Instant::now());
            tell("the API server is reachable again");
        }
    }

    /// Follows the cluster's work for `namespace` until the future is dropped. Calls `tell` on
    /// every change.
    pub async fn follow(self, client: Client, namespace: String, tell: impl Fn(&str)) {
        tokio::select! {
            () = self.listen(&client, &tell) => {}
            () = self.look(&client, &namespace, &tell) => {}
        }
    }

    async fn look(&self, client: &Client, namespace: &str, tell: &impl Fn(&str)) {
        let all = watcher::Config::default;
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
        let events = Api::<Event>::namespaced(client.clone(), namespace);
        let mut changes = stream::select(
            stream::select(
                watch(pods, all()).filter_map(pod_change).boxed(),
                watch(claims, all()).filter_map(claim_change).boxed(),
            ),
            watch(events, all()).filter_map(event_change).boxed(),
        );
        let mut seen = Seen::default();
        let mut before = None;
        while let Some(change) = changes.next().await {
            seen.apply(change);
            let busy = seen.busy();
            self.note(busy.is_some(), Instant::now());
            if busy != before {
                tell(busy.as_deref().unwrap_or("the cluster has no pending work"));
                before = busy;
            }
        }
    }
}

/// Begins a new period in `times`, or ends the last one.
fn note(times: &mut Vec<Busy>, on: bool, now: Instant) {
    let open = times.last_mut().filter(|last| last.until.is_none());
    match (open, on) {
        (Some(last), false) => last.until = Some(now),
        (None, true) => times.push(Busy {
            since: now,
            until: None,
        }),
        (Some(_), true) | (None, false) => {}
    }
}

/// Returns true if the API server answers soon. The content of the answer does not matter.
async fn answers(client: &Client) -> bool {
    let asked = tokio::time::timeout(SILENCE, client.apiserver_version()).await;
    matches!(asked, Ok(Ok(_) | Err(kube::Error::Api(_))))
}

/// The known state of a namespace.
#[derive(Debug, Default)]
struct Seen {
    pods: BTreeMap<String, Pod>,
    claims: BTreeMap<String, PersistentVolumeClaim>,
    /// The image that each pod is pulling, by the pod's uid.
    pulls: BTreeMap<String, String>,
    /// Claims that cannot get a volume.
    unprovisionable: BTreeSet<String>,
}

enum Change {
    Pod(String, Option<Box<Pod>>),
    Claim(String, Option<Box<PersistentVolumeClaim>>),
    Pull { pod: String, image: Option<String> },
    Unprovisionable { claim: String },
}

impl Seen {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Pod(name, Some(pod)) => drop(self.pods.insert(name, *pod)),
            Change::Pod(name, None) => drop(self.pods.remove(&name)),
            Change::Claim(name, Some(claim)) => drop(self.claims.insert(name, *claim)),
            Change::Claim(name, None) => drop(self.claims.remove(&name)),
            Change::Pull {
                pod,
                image: Some(image),
            } => drop(self.pulls.insert(pod, image)),
            Change::Pull { pod, image: None } => drop(self.pulls.remove(&pod)),
            Change::Unprovisionable { claim } => drop(self.unprovisionable.insert(claim)),
        }
    }

    /// Describes the cluster's current work, if any.
    fn busy(&self) -> Option<String> {
        let pods = self
            .pods
            .values()
            .filter(|pod| !is_terminating(pod) && terminal_state::terminal_state(pod).is_none());
        let pod = pods.into_iter().find_map(|pod| self.pod_is_made(pod));
        let mut claims = self
            .claims
            .iter()
            .filter(|(name, _)| !self.unprovisionable.contains(*name));
        pod.or_else(|| claims.find_map(|(_, claim)| claim_is_bound(claim)))
    }

    fn pod_is_made(&self, pod: &Pod) -> Option<String> {
        let name = pod.name_any();
        let pulling = self.pulls.get(&pod.uid().unwrap_or_default());
        container_statuses(pod).iter().find_map(|status| {
            let waiting = status.state.as_ref()?.waiting.as_ref()?;
            let message = waiting.message.as_deref().unwrap_or_default();
            match waiting.reason.as_deref()? {
                "ContainerCreating" | "PodInitializing" => match pulling {
                    Some(image) => Some(format!("pod {name}: image {image} is being pulled")),
                    // Until that condition is true, volumes are being mounted and the network is
                    // being set up.
                    None => conditions::has_condition(pod, "PodReadyToStartContainers", "False")
                        .then(|| format!("pod {name}: its volumes and network are being set up")),
                },
                "ErrImagePull" | "ImagePullBackOff" if terminal_state::pull_is_transient(message) => {
                    Some(format!("pod {name}: the image will be pulled again: {message}"))
                }
                "CrashLoopBackOff" => Some(format!(
                    "pod {name}: container {} is being restarted",
                    status.name
                )),
                _ => None,
            }
        })
    }
}

/// Returns the claim that gets no volume according to the event. Its storage class does not exist,
/// or it sets none.
fn unprovisionable_claim(event: &Event) -> Option<String> {
    let object = &event.involved_object;
    let message = event.message.as_deref()?;
    let absent = message.contains("storageclass.storage.k8s.io") && message.contains("not found");
    let of_claim = object.kind.as_deref() == Some("PersistentVolumeClaim");
    let nobody = absent || message.contains("no storage class is set");
    (of_claim && nobody).then(|| object.name.clone())?
}

fn claim_is_bound(claim: &PersistentVolumeClaim) -> Option<String> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let going = claim.metadata.deletion_timestamp.is_some();
    (phase == Some("Pending") && !going)
        .then(|| format!("claim {}: its volume is being made", claim.name_any()))
}

async fn pod_change(event: Result<watcher::Event<Pod>, watcher::Error>) -> Option<Change> {
    match event.ok()? {
        watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
            Some(Change::Pod(pod.name_any(), Some(Box::new(pod))))
        }
        watcher::Event::Delete(pod) => Some(Change::Pod(pod.name_any(), None)),
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

async fn claim_change(
    event: Result<watcher::Event<PersistentVolumeClaim>, watcher::Error>,
) -> Option<Change> {
    match event.ok()? {
        watcher::Event::Apply(claim) | watcher::Event::InitApply(claim) => {
            Some(Change::Claim(claim.name_any(), Some(Box::new(claim))))
        }
        watcher::Event::Delete(claim) => Some(Change::Claim(claim.name_any(), None)),
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

async fn event_change(event: Result<watcher::Event<Event>, watcher::Error>) -> Option<Change> {
    let (watcher::Event::Apply(event) | watcher::Event::InitApply(event)) = event.ok()? else {
        return None;
    };
    if let Some(claim) = unprovisionable_claim(&event) {
        return Some(Change::Unprovisionable { claim });
    }
    let pod = event.involved_object.uid.clone()?;
    match event.reason.as_deref()? {
        "Pulling" => {
            let message = event.message.unwrap_or_default();
            let image = message.split('"').nth(1).unwrap_or("of its container").to_owned();
            Some(Change::Pull {
                pod,
                image: Some(image),
            })
        }
        "Pulled" | "Failed" => Some(Change::Pull { pod, image: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn pod(conditions: &str, waiting: &str, restarts: i32) -> Pod {
        serde_yaml::from_str(&format!(
            "{{metadata: {{name: vk-0, uid: u}}, status: {{conditions: {conditions}, containerStatuses: [{{name: valkey,
               ready: false, image: x, imageID: x, restartCount: {restarts}, state: {{waiting: {waiting}}}}}]}}}}"
        ))
        .expect("the test's own YAML is a pod")
    }

    const NOT_SET_UP: &str = "[{type: PodReadyToStartContainers, status: 'False'}]";

    #[rstest]
    #[case("[]", "{reason: ContainerCreating}", 0, None)]
    #[case(
        NOT_SET_UP,
        "{reason: ContainerCreating}",
        0,
        Some("pod vk-0: its volumes and network are being set up")
    )]
    #[case(
        "[]",
        "{reason: CrashLoopBackOff}",
        1,
        Some("pod vk-0: container valkey is being restarted")
    )]
    #[case("[]", "{reason: CrashLoopBackOff}", 5, None)]
    #[case("[]", "{reason: ImagePullBackOff, message: 'v:0: not found'}", 0, None)]
    #[case(
        "[]",
        "{reason: ImagePullBackOff, message: i/o timeout}",
        0,
        Some("pod vk-0: the image will be pulled again: i/o timeout")
    )]
    fn what_merely_takes_time_is_waited_for(
        #[case] conditions: &str,
        #[case] waiting: &str,
        #[case] restarts: i32,
        #[case] expected: Option<&str>,
    ) {
        let mut seen = Seen::default();
        seen.apply(Change::Pod(
            "vk-0".into(),
            Some(Box::new(pod(conditions, waiting, restarts))),
        ));
        assert_eq!(seen.busy().as_deref(), expected);
    }

    fn claim_event(message: &str) -> Event {
        let mut event: Event = serde_yaml::from_str(
            "{metadata: {}, involvedObject: {kind: PersistentVolumeClaim, name: data-vk-3}, reason: ProvisioningFailed}",
        )
        .expect("an event");
        event.message = Some(message.to_owned());
        event
    }

    #[rstest]
    #[case::unknown_class("storageclass.storage.k8s.io \"none\" not found")]
    #[case::no_class("no persistent volumes available for this claim and no storage class is set")]
    fn a_claim_is_waited_for_unless_nobody_makes_its_volume(#[case] message: &str) {
        let claim: PersistentVolumeClaim =
            serde_yaml::from_str("{metadata: {name: data-vk-3}, status: {phase: Pending}}").expect("a claim");
        let mut seen = Seen::default();
        seen.apply(Change::Claim("data-vk-3".into(), Some(Box::new(claim))));
        assert_eq!(seen.busy().unwrap(), "claim data-vk-3: its volume is being made");
        let claim = unprovisionable_claim(&claim_event(message)).expect("recognised");
        seen.apply(Change::Unprovisionable { claim });
        assert_eq!(seen.busy(), None);
    }

    #[test]
    fn a_pull_is_waited_for_until_it_has_ended() {
        let mut seen = Seen::default();
        let creating = pod("[]", "{reason: ContainerCreating}", 0);
        seen.apply(Change::Pod("vk-0".into(), Some(Box::new(creating))));
        seen.apply(Change::Pull {
            pod: "u".into(),
            image: Some("p/v:9".into()),
        });
        assert_eq!(seen.busy().unwrap(), "pod vk-0: image p/v:9 is being pulled");
        seen.apply(Change::Pull {
            pod: "u".into(),
            image: None,
        });
        assert_eq!(seen.busy(), None);
    }

    #[test]
    fn a_claim_is_waited_for_until_it_is_bound() {
        let claim = |phase: &str| -> PersistentVolumeClaim {
            serde_yaml::from_str(&format!(
                "{{metadata: {{name: data-vk-0}}, status: {{phase: {phase}}}}}"
            ))
            .unwrap()
        };
        let mut seen = Seen::default();
        seen.apply(Change::Claim("c".into(), Some(Box::new(claim("Pending")))));
        assert_eq!(seen.busy().unwrap(), "claim data-vk-0: its volume is being made");
        seen.apply(Change::Claim("c".into(), Some(Box::new(claim("Bound")))));
        assert_eq!(seen.busy(), None);
    }

    #[test]
    fn only_busy_time_after_the_start_is_excused_up_to_a_limit() {
        let (pauses, origin) = (DeadlinePauses::default(), Instant::now());
        let at = |seconds: u64| origin + Duration::from_secs(seconds);
        let excused = |now: u64| pauses.excused_at(at(20), at(now)).as_secs();
        pauses.note(true, at(0));
        pauses.note(true, at(24));
        assert_eq!(excused(25), 5);
        pauses.note(false, at(25));
        assert_eq!(excused(75), 5);
        pauses.note(true, at(80));
        assert_eq!(excused(90), 15);
        assert_eq!(excused(10_000), LONGEST.as_secs());
    }

    #[test]
    fn an_absence_is_reported_and_excused_up_to_a_limit() {
        let (pauses, origin) = (DeadlinePauses::default(), Instant::now());
        let at = |seconds: u64| origin + Duration::from_secs(seconds);
        let excused = |now: u64| pauses.excused_at(at(0), at(now)).as_secs();
        pauses.note(true, at(10));
        pauses.note(false, at(15));
        assert_eq!(pauses.absence(), None);
        pauses.note_absence(true, at(15));
        assert_eq!(excused(20), 10);
        assert_eq!(excused(500), 5 + LONGEST_ABSENCE.as_secs());
        pauses.note_absence(false, at(25));
        assert_eq!(excused(500), 15);
        assert_eq!(pauses.absence(), Some(Duration::from_secs(10)));
    }
}
