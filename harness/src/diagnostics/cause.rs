//! Causes as values: the rule that recognised one, and the facts that describe it. The cause
//! renders its own sentence, and no code parses that sentence. The module
//! [`explains`](super::explains) says which violations a cause explains.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::wait::terminal_state::lacking;

/// The most likely cause of a failure. Its serialised form is its id and its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "id", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the sentences below say what each field is")]
pub enum Cause {
    /// Admission refuses a controller's pods.
    AdmissionRefuses {
        kind: String,
        name: String,
        message: String,
    },
    /// A name or label exceeds Kubernetes' length limit.
    NameTooLong {
        object: String,
        value: String,
        length: usize,
        limit: usize,
    },
    /// A pod or a claim refers to an object that nothing creates.
    SomethingIsMissing {
        kind: String,
        name: String,
        needed_by: String,
    },
    /// An image cannot be pulled.
    ImageCannotBeHad {
        pod: String,
        container: String,
        image: String,
        message: String,
    },
    /// A container cannot be created.
    ContainerCannotBeMade {
        pod: String,
        container: String,
        message: String,
    },
    /// A container's program is not in its image.
    ProgramIsMissing {
        pod: String,
        container: String,
        program: String,
    },
    /// The kernel ends a container that needs more memory than its limit.
    OutOfMemory {
        pod: String,
        container: String,
        restarts: i32,
    },
    /// A server exits right after its start, again and again.
    ServerCrashes {
        pod: String,
        exit_code: Option<i32>,
        last_words: Vec<String>,
    },
    /// A container next to the server exits right after its start, again and again.
    SidecarCrashes {
        pod: String,
        container: String,
        exit_code: Option<i32>,
        last_words: Vec<String>,
    },
    /// A pod fits on no node.
    PodFitsNowhere { pod: String, message: String },
    /// A pod waits for storage that is not provided.
    VolumeClaimIsUnbound {
        pod: String,
        hook: Option<String>,
        message: String,
    },
    /// A probe's program is not in the image.
    ProbeNeedsWhatTheImageLacks {
        pod: String,
        probe: String,
        program: String,
    },
    /// A server does not start within the time that its startup probe allows.
    ServerNeverStarts { pod: String, said: String },
    /// A headless Service hides pods until they are ready.
    NamesAreNotPublished { service: String, unformed: bool },
    /// The rendered objects cannot form a cluster.
    ClusterCannotBeFormed { why: String },
    /// Pods start one at a time, and the first waits for the others.
    PodsStartOneAtATime { pod: String, wanted: u32 },
    /// A Service targets a port that the servers do not have.
    ServicePortDoesNotExist {
        service: String,
        port: String,
        pod: String,
        known: Vec<String>,
    },
    /// A Service sends its clients to a port of the servers that no container declares and where
    /// nothing answers.
    ServicePortIsClosed {
        service: String,
        port: i32,
        declared: Vec<i32>,
    },
    /// A Service's selector matches no server.
    ServiceSelectsNoServer { service: String, label: String },
    /// Services select a pod that is not a server.
    JobPodsInService {
        services: Vec<String>,
        pod: String,
        /// True if clients can be sent there at the end of the trial.
        ready: bool,
    },
    /// A replica has no password for its primary.
    ReplicasCannotAuthenticate { replica: String },
    /// The password in a Secret ends with a line break, which no client sends.
    PasswordEndsWithNewline {
        secret: String,
        key: String,
        pod: String,
    },
    /// A server has another password than the release, or none.
    PasswordIsRefused { pod: String, said: String },
    /// A server announces an address that is not its pod's.
    AnnouncesWrongAddress {
        pod: String,
        announced: String,
        actual: String,
    },
    /// A server cannot write to its disk.
    ServerCannotWrite { pod: String, file: String },
    /// A server at its memory limit refuses writes.
    MaxmemoryRefusesWrites { pod: String, used: u64, limit: u64 },
    /// A replica offers its primary a password that is not the primary's.
    ReplicaHasAStalePassword {
        replica: String,
        primary: String,
        said: Option<String>,
    },
    /// A pod has come back as another node.
    NodeIdentityIsLost {
        pod: String,
        before: String,
        now: String,
        slots: String,
    },
    /// Slots have lost their owner, and no replica took over.
    SlotsAreUncovered {
        slots: String,
        owner: String,
        fate: String,
        replicas: String,
    },
    /// Slots have no owner.
    SlotsAreUnassigned { slots: String },
    /// A hook waits for a pod.
    HookWaits {
        hook: String,
        pod: String,
        state: String,
    },
    /// The servers never became a cluster.
    NeverFormed { why: Unformed },
    /// A readiness probe fails although its server serves.
    ReadinessProbeFails { pod: String, said: String },
    /// An upgrade changes a field that Kubernetes treats as immutable.
    FieldIsImmutable {
        verb: String,
        object: String,
        field: Option<String>,
        reason: String,
    },
    /// The API server or `helm` refuses what is deployed.
    DeploymentIsRefused {
        verb: String,
        object: Option<String>,
        reason: String,
    },
    /// A hook failed for a reason that only its own log states.
    HookFails { hook: String, said: String },
    /// A hook reported success although its work failed.
    HookHidesItsFailure { hook: String, said: String },
    /// Nodes that were removed are still remembered.
    RemovedNodesAreNotForgotten { nodes: Vec<Remembered> },
    /// A primary owns no slots.
    PrimaryHasNoSlots { pods: Vec<String> },
    /// Keys were evicted to make room.
    KeysWereEvicted {
        pods: Vec<String>,
        count: u64,
        limit: u64,
    },
    /// The data of a server is not on a volume that outlives its pod.
    DataIsNotPersistent {
        pod: String,
        directory: String,
        place: Place,
    },
    /// A server writes nothing to its disk.
    PersistenceIsOff { pod: String, lost: bool },
    /// Keys that were acknowledged are gone.
    KeysAreGone { losses: Vec<Loss> },
}

/// The place of a server's data directory where that is not on a volume claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the container itself.
    Container,
    /// On a volume that is deleted with the pod.
    Volume(String),
    /// In the container; the claim is mounted at another path.
    ClaimElsewhere(String),
}

/// The reason that the servers never became a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the sentences below say what each field is")]
pub enum Unformed {
    /// The chart has no hook that would form the cluster.
    NoHook,
    /// The hook has not ended.
    HookRuns {
        hook: String,
        restarts: i32,
        last_words: Option<String>,
    },
    /// The hook has succeeded without forming a cluster.
    HookHides { hook: String },
    /// The hook runs at other events than an installation.
    HookAtOtherTime { hook: String, events: Vec<String> },
}

/// A removed node, and the pods that still remember it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remembered {
    /// The pod that the node ran in, if it is known.
    pub pod: Option<String>,
    /// The node's ID.
    pub id: String,
    /// The pods that still remember the node.
    pub by: Vec<String>,
}

/// Keys of some slots that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The slots.
    pub slots: String,
    /// The pod that owned the slots when the keys were written.
    pub owner: String,
    /// The fate of the owner.
    pub how: Lost,
}

/// The way in which keys were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// The owner still has the slots.
    Deleted,
    /// The owner's pod was replaced and came back without the keys.
    NotBroughtBack,
    /// The owner gave the slots away.
    MovedAway,
    /// The owner is gone.
    OwnerGone,
}

impl Cause {
    /// Returns the stable identifier of this kind of cause.
    pub fn id(&self) -> String {
        match self.to_map().remove("id") {
            Some(Value::String(id)) => id,
            _ => unreachable!("the tag is a text"),
        }
    }

    /// Returns the facts that describe the cause, by name.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = self.to_map();
        fields.remove("id");
        fields
    }

    fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => unreachable!("a cause is a tagged map"),
        }
    }

    /// Returns a name for this kind of defect, without the objects of this trial.
    pub fn title(&self) -> &'static str {
        match self {
            Self::AdmissionRefuses { .. } => "The API server refuses pods",
            Self::NameTooLong { .. } => "A name is too long for Kubernetes",
            Self::SomethingIsMissing { .. } => "An object is needed and does not exist",
            Self::ImageCannotBeHad { .. } => "An image cannot be pulled",
            Self::ContainerCannotBeMade { .. } => "A container cannot be created",
            Self::ProgramIsMissing { .. } => "A container's program is not in its image",
            Self::OutOfMemory { .. } => "A container runs out of memory (OOMKilled)",
            Self::ServerCrashes { .. } => "The server crashes at start",
            Self::SidecarCrashes { .. } => "A container next to the server crashes",
            Self::PodFitsNowhere { .. } => "A pod fits on no node",
            Self::VolumeClaimIsUnbound { .. } => "A volume claim stays unbound",
            Self::ProbeNeedsWhatTheImageLacks { .. } => "A probe cannot run in this image",
            Self::ServerNeverStarts { .. } => "A startup probe never succeeds",
            Self::NamesAreNotPublished { .. } => "The headless Service hides pods until they are ready",
            Self::ClusterCannotBeFormed { .. } => "The manifests cannot form a cluster",
            Self::PodsStartOneAtATime { .. } => "Cluster pods are started one at a time",
            Self::ServicePortDoesNotExist { .. } | Self::ServicePortIsClosed { .. } => {
                "A Service leads to a port that no server has"
            }
            Self::ServiceSelectsNoServer { .. } => "A Service selects no server",
            Self::JobPodsInService { .. } => "Services also select pods that are not servers",
            Self::ReplicasCannotAuthenticate { .. } => "Replicas have no password for their primary",
            Self::PasswordEndsWithNewline { .. } => "The password ends with a line break",
            Self::PasswordIsRefused { .. } => "A server refuses the release's password",
            Self::AnnouncesWrongAddress { .. } => "A server announces a wrong address",
            Self::ServerCannotWrite { .. } => "A server cannot write to its disk",
            Self::MaxmemoryRefusesWrites { .. } => "A server at maxmemory refuses writes",
            Self::ReplicaHasAStalePassword { .. } => "Replicas offer their primary a wrong password",
            Self::NodeIdentityIsLost { .. } => "A restarted pod comes back as another node",
            Self::SlotsAreUncovered { .. } => "Slots have lost their owner",
            Self::SlotsAreUnassigned { .. } => "Slots are unassigned",
            Self::HookWaits { .. } => "A hook waits for an unavailable pod",
            Self::NeverFormed { .. } => "The cluster is never formed",
            Self::ReadinessProbeFails { .. } => "A readiness probe fails although the server serves",
            Self::FieldIsImmutable { .. } => "An upgrade changes an immutable field",
            Self::DeploymentIsRefused { .. } => "The deployment is refused",
            Self::HookFails { .. } => "A hook fails",
            Self::HookHidesItsFailure { .. } => "A hook hides its failure",
            Self::RemovedNodesAreNotForgotten { .. } => "Removed nodes are not forgotten",
            Self::PrimaryHasNoSlots { .. } => "A primary has no slots",
            Self::KeysWereEvicted { .. } => "Keys were evicted",
            Self::DataIsNotPersistent { .. } => "Data is not on a persistent volume",
            Self::PersistenceIsOff { .. } => "Persistence is off",
            Self::KeysAreGone { .. } => "Acknowledged keys are gone",
        }
    }

    /// Returns the part that distinguishes two defects of this kind, such as the faulty Service.
    /// Pods do not count: a StatefulSet's defect shows in each pod.
    pub fn distinction(&self) -> String {
        match self {
            Self::AdmissionRefuses { kind, name, .. } | Self::SomethingIsMissing { kind, name, .. } => {
                format!("{kind} {name}")
            }
            Self::NameTooLong { object, .. } => object.clone(),
            Self::ImageCannotBeHad { image, .. } => image.clone(),
            Self::ContainerCannotBeMade {
                container, message, ..
            } => format!("{container} {message}"),
            Self::ProgramIsMissing {
                container, program, ..
            } => format!("{container} {program}"),
            Self::OutOfMemory { container, .. } => container.clone(),
            Self::ServerCrashes { last_words, .. } => last_words.last().cloned().unwrap_or_default(),
            Self::SidecarCrashes { container, .. } => container.clone(),
            Self::PodFitsNowhere { message, .. } | Self::VolumeClaimIsUnbound { message, .. } => {
                message.clone()
            }
            Self::ProbeNeedsWhatTheImageLacks { probe, program, .. } => format!("{probe} {program}"),
            Self::NamesAreNotPublished { service, .. } => service.clone(),
            Self::ClusterCannotBeFormed { why } => why.clone(),
            Self::ServicePortDoesNotExist { service, port, .. } => format!("{service} {port}"),
            Self::ServicePortIsClosed { service, port, .. } => format!("{service} {port}"),
            Self::ServiceSelectsNoServer { service, label } => format!("{service} {label}"),
            Self::ServerCannotWrite { file, .. } => file.clone(),
            Self::HookWaits { hook, .. } => hook.clone(),
            Self::NeverFormed { why } => match why {
                Unformed::NoHook => String::new(),
                Unformed::HookRuns { hook, .. }
                | Unformed::HookHides { hook }
                | Unformed::HookAtOtherTime { hook, .. } => hook.clone(),
            },
            Self::FieldIsImmutable { object, field, .. } => {
                format!("{object} {}", field.as_deref().unwrap_or_default())
            }
            Self::DeploymentIsRefused { reason, .. } => reason.clone(),
            Self::HookFails { hook, said } | Self::HookHidesItsFailure { hook, said } => {
                format!("{hook} {said}")
            }
            Self::PasswordEndsWithNewline { secret, .. } => secret.clone(),
            Self::DataIsNotPersistent { directory, .. } => directory.clone(),
            Self::ServerNeverStarts { .. }
            | Self::PodsStartOneAtATime { .. }
            | Self::JobPodsInService { .. }
            | Self::ReplicasCannotAuthenticate { .. }
            | Self::PasswordIsRefused { .. }
            | Self::AnnouncesWrongAddress { .. }
            | Self::MaxmemoryRefusesWrites { .. }
            | Self::ReplicaHasAStalePassword { .. }
            | Self::NodeIdentityIsLost { .. }
            | Self::SlotsAreUncovered { .. }
            | Self::SlotsAreUnassigned { .. }
            | Self::ReadinessProbeFails { .. }
            | Self::RemovedNodesAreNotForgotten { .. }
            | Self::PrimaryHasNoSlots { .. }
            | Self::KeysWereEvicted { .. }
            | Self::PersistenceIsOff { .. }
            | Self::KeysAreGone { .. } => String::new(),
        }
    }
}

impl fmt::Display for Cause {
    #[expect(clippy::too_many_lines, reason = "one sentence for each cause, side by side")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdmissionRefuses { kind, name, message } => {
                write!(
                    f,
                    "the API server refuses a pod: {kind} {name}: FailedCreate: {message}"
                )
            }
            Self::NameTooLong {
                object,
                value,
                length,
                limit,
            } => write!(
                f,
                "{object} cannot be created: {value:?} has {length} characters, and Kubernetes allows {limit}"
            ),
            Self::SomethingIsMissing {
                kind,
                name,
                needed_by,
            } => {
                write!(f, "{needed_by} needs the {kind} {name}, which does not exist")
            }
            Self::ImageCannotBeHad {
                pod, image, message, ..
            } => {
                write!(f, "pod {pod} cannot pull its image {image}: {message}")
            }
            Self::ContainerCannotBeMade {
                pod,
                container,
                message,
            } => {
                write!(
                    f,
                    "the container {container} of pod {pod} cannot be created: {message}"
                )
            }
            Self::ProgramIsMissing {
                pod,
                container,
                program,
            } => write!(
                f,
                "the container {container} of pod {pod} cannot run {program:?}: {}",
                lacking(program)
            ),
            Self::OutOfMemory {
                pod,
                container,
                restarts,
            } => write!(
                f,
                "the container {container} of pod {pod} needs more memory than its limit: OOMKilled, {restarts} restarts"
            ),
            Self::ServerCrashes {
                pod,
                exit_code,
                last_words,
            } => {
                write!(
                    f,
                    "the server of pod {pod} crashes at start with exit code {}{}",
                    code(*exit_code),
                    words(last_words)
                )
            }
            Self::SidecarCrashes {
                pod,
                container,
                exit_code,
                last_words,
            } => write!(
                f,
                "the container {container} of pod {pod}, which is not the server, crashes with exit code {}{}",
                code(*exit_code),
                words(last_words)
            ),
            Self::PodFitsNowhere { pod, message } => write!(f, "pod {pod}: FailedScheduling: {message}"),
            Self::VolumeClaimIsUnbound {
                pod,
                hook: Some(hook),
                message,
            } => write!(
                f,
                "{} waits for {}: its volume claim is unbound ({message})",
                job_called(hook),
                pod_called(pod)
            ),
            Self::VolumeClaimIsUnbound {
                pod,
                hook: None,
                message,
            } => {
                write!(
                    f,
                    "pod {pod} does not start: its volume claim is unbound ({message})"
                )
            }
            Self::ProbeNeedsWhatTheImageLacks { pod, probe, program } => {
                write!(
                    f,
                    "the {probe} probe of pod {pod} cannot run {program:?}: {}",
                    lacking(program)
                )
            }
            Self::ServerNeverStarts { pod, said } => {
                write!(f, "the startup probe of pod {pod} has never succeeded: {said}")
            }
            Self::NamesAreNotPublished { service, .. } => write!(
                f,
                "the headless Service {service} does not publish the addresses of pods that are not ready \
                 (publishNotReadyAddresses), so no pod has a name before the cluster is formed"
            ),
            Self::ClusterCannotBeFormed { why } => write!(f, "no cluster can be formed: {why}"),
            Self::PodsStartOneAtATime { pod, wanted } => write!(
                f,
                "pod {pod} is the only one of {wanted} and cannot become ready alone: the StatefulSet starts its pods one \
                 after the other (podManagementPolicy OrderedReady), and the cluster needs all of them"
            ),
            Self::ServicePortDoesNotExist {
                service,
                port,
                pod,
                known,
            } => write!(
                f,
                "Service {service} sends clients to the port {port:?}, which pod {pod} does not have (it has {})",
                known.join(", ")
            ),
            Self::ServicePortIsClosed {
                service,
                port,
                declared,
            } => {
                let declared: Vec<String> = declared.iter().map(i32::to_string).collect();
                write!(
                    f,
                    "Service {service} sends clients to port {port}, where no server answers (their containers declare \
                     {})",
                    declared.join(", ")
                )
            }
            Self::ServiceSelectsNoServer { service, label } => {
                write!(
                    f,
                    "Service {service} selects pods with {label}, which no server has"
                )
            }
            Self::JobPodsInService { services, pod, .. } => match services.as_slice() {
                [service] => write!(
                    f,
                    "Service {service} also sends clients to {pod}, which is not a server"
                ),
                several => write!(
                    f,
                    "Services {} also send clients to {pod}, which is not a server",
                    several.join(" and ")
                ),
            },
            Self::ReplicasCannotAuthenticate { replica } => write!(
                f,
                "replica {replica} never synced: primary refuses its password (masterauth missing)"
            ),
            Self::PasswordEndsWithNewline { secret, key, pod } => write!(
                f,
                "the server of pod {pod} refuses the password: {key} of Secret {secret} ends with a line break, which \
                 clients do not send"
            ),
            Self::PasswordIsRefused { pod, said } => {
                write!(
                    f,
                    "the server of pod {pod} does not have the release's password: {said}"
                )
            }
            Self::AnnouncesWrongAddress {
                pod,
                announced,
                actual,
            } => write!(
                f,
                "the server of pod {pod} announces the address {announced}, but the pod has {actual}"
            ),
            Self::ServerCannotWrite { pod, file } => write!(
                f,
                "the server of pod {pod} cannot write {file} (is its volume full?), and refuses writes with MISCONF"
            ),
            Self::MaxmemoryRefusesWrites { pod, used, limit } => write!(
                f,
                "the server of pod {pod} uses {used} of its maxmemory of {limit} bytes and refuses writes (maxmemory-policy \
                 noeviction)"
            ),
            Self::ReplicaHasAStalePassword {
                replica,
                primary,
                said,
            } => {
                write!(
                    f,
                    "replica {replica} cannot sync from {primary}, which does not accept its password: masterauth was not \
                     rotated together with the password"
                )?;
                said.as_ref().map_or(Ok(()), |said| write!(f, " ({said})"))
            }
            Self::NodeIdentityIsLost {
                pod,
                before,
                now,
                slots,
            } => write!(
                f,
                "pod {pod} came back as another node ({}, it was {}), and slots {slots} have no owner: its nodes.conf is not \
                 on a volume that outlives the pod",
                short(now),
                short(before)
            ),
            Self::SlotsAreUncovered {
                slots,
                owner,
                fate,
                replicas,
            } => {
                write!(f, "slot {slots} uncovered: owner {owner} {fate}{replicas}")
            }
            Self::SlotsAreUnassigned { slots } => {
                write!(f, "slots {slots} are unassigned: no node that answered owns them")
            }
            Self::HookWaits { hook, pod, state } => {
                write!(f, "the hook {hook} waits for pod {pod}, which is {state}")
            }
            Self::NeverFormed { why } => write!(f, "no server knows any other{why}"),
            Self::ReadinessProbeFails { pod, said } => {
                write!(
                    f,
                    "the readiness probe of pod {pod} fails although its server serves: {said}"
                )
            }
            Self::FieldIsImmutable {
                verb,
                object,
                field,
                reason,
            } => match field {
                Some(field) => write!(
                    f,
                    "{verb} is refused: {object}: the field {field} is immutable ({reason})"
                ),
                None => write!(f, "{verb} is refused: {object}: a field is immutable ({reason})"),
            },
            Self::DeploymentIsRefused {
                verb,
                object: Some(object),
                reason,
            } => {
                write!(f, "{verb} is refused: {object}: {reason}")
            }
            Self::DeploymentIsRefused {
                verb,
                object: None,
                reason,
            } => write!(f, "{verb} is refused: {reason}"),
            Self::HookFails { hook, said } => write!(f, "the hook {hook} failed; its last output: {said}"),
            Self::HookHidesItsFailure { hook, said } => write!(
                f,
                "the hook {hook} reported success although its work failed; its last output: {said}"
            ),
            Self::RemovedNodesAreNotForgotten { nodes } => {
                let nodes: Vec<String> = nodes.iter().map(Remembered::to_string).collect();
                write!(
                    f,
                    "removed nodes were not forgotten (CLUSTER FORGET): {}",
                    nodes.join("; ")
                )
            }
            Self::PrimaryHasNoSlots { pods } => write!(
                f,
                "primary without slots: {}; it joined the cluster, but no slots were moved to it",
                pods.join(", ")
            ),
            Self::KeysWereEvicted { pods, count, limit } => write!(
                f,
                "{count} keys were evicted to stay below maxmemory ({limit} bytes): {}",
                pods.join(", ")
            ),
            Self::DataIsNotPersistent {
                pod,
                directory,
                place,
            } => {
                write!(
                    f,
                    "the server of pod {pod} writes to {directory}, which {place}: its keys are lost with the pod"
                )
            }
            Self::PersistenceIsOff { pod, lost } => {
                let consequence = if *lost {
                    "and lost its keys when it restarted"
                } else {
                    "so writes do not survive a crash"
                };
                write!(
                    f,
                    "the server of pod {pod} has its append-only file off (appendonly no), {consequence}"
                )
            }
            Self::KeysAreGone { losses } => {
                let losses: Vec<String> = losses.iter().map(Loss::to_string).collect();
                write!(f, "{}", losses.join("; "))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container => write!(f, "is in the container and on no volume"),
            Self::Volume(kind) => write!(f, "is on a volume of kind {kind} and on no volume claim"),
            Self::ClaimElsewhere(path) => {
                write!(
                    f,
                    "is in the container, while the volume claim is mounted at {path}"
                )
            }
        }
    }
}

impl fmt::Display for Unformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHook => write!(
                f,
                ": the chart has no hook cluster-init that would form the cluster"
            ),
            Self::HookRuns {
                hook,
                restarts,
                last_words,
            } => {
                write!(f, ": the hook {hook}, which forms the cluster, ")?;
                match restarts {
                    0 => write!(f, "has not ended")?,
                    count => write!(f, "keeps crashing ({count} restarts)")?,
                }
                let said = last_words.as_ref();
                said.map_or(Ok(()), |said| write!(f, "; its last output: {said}"))
            }
            Self::HookHides { hook } => {
                write!(
                    f,
                    ", although the hook {hook} has succeeded: it hides its failure"
                )
            }
            Self::HookAtOtherTime { hook, events } => write!(
                f,
                ": the hook {hook}, which forms the cluster, runs at {} and not at post-install",
                events.join(", ")
            ),
        }
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, by) = (short(&self.id), self.by.join(", "));
        match &self.pod {
            Some(pod) => write!(f, "{pod} (node {id}) by {by}"),
            None => write!(f, "node {id} by {by}"),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slots, owner, how } = self;
        let whereabouts = match how {
            Lost::Deleted => {
                return write!(
                    f,
                    "the keys of slots {slots} were deleted on {owner}, which had these slots when the keys were written and \
                     has them now"
                );
            }
            Lost::NotBroughtBack => {
                return write!(
                    f,
                    "the keys of slots {slots} are gone: {owner} was restarted and came back without them"
                );
            }
            Lost::MovedAway => "does not own them any more",
            Lost::OwnerGone => "is gone",
        };
        write!(
            f,
            "the keys of slots {slots} were lost: {owner} owned the slots when the keys were written and {whereabouts}, \
             and the present owner received the slots without the keys"
        )
    }
}

fn code(code: Option<i32>) -> String {
    code.map_or_else(|| "unknown".to_owned(), |code| code.to_string())
}

fn words(last: &[String]) -> String {
    match last {
        [] => String::new(),
        last => format!("; its last output: {}", last.join(" / ")),
    }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// Returns the short name of a hook's Job: `init Job` for `my-valkey-cluster-init`.
fn job_called(hook: &str) -> String {
    match hook.rsplit_once("-cluster-") {
        Some((_, job)) => format!("{job} Job"),
        None => format!("hook {hook}"),
    }
}

/// Returns a pod's number: a trial has one release.
fn pod_called(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((_, number)) if number.parse::<u32>().is_ok() => format!("pod {number}"),
        _ => format!("pod {name}"),
    }
}
