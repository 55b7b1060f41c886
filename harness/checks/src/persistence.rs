//! The append-only file is on and written to, and the data directory is the claimed volume.

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::Violation;
use super::server_container::server_container;
use valkey::observation::ClusterObservation;
use valkey::view::NodeView;

/// The check's name.
pub const NAME: &str = "persistence";

/// The expectation that the append-only file is on.
pub const APPENDS: &str = "the append-only file to be on";

/// The data directory of a server pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// The pod.
    pub pod: String,
    /// The volume mounted at `/data`.
    pub data: DataVolume,
}

/// The kinds of volume that a data directory can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataVolume {
    /// A PersistentVolumeClaim of this name.
    Claim(String),
    /// An emptyDir: gone with the pod.
    EmptyDir,
    /// Something else.
    Other,
    /// Nothing is mounted there.
    None,
}

impl VolumeFacts {
    /// Where the chart keeps data.
    const DATA_DIR: &str = "/data";

    /// Reads from a pod object the volume that its server mounts at `/data`.
    pub fn from_pod(pod: &Pod) -> Self {
        Self {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            data: data_volume(pod),
        }
    }
}

fn data_volume(pod: &Pod) -> DataVolume {
    let Some(spec) = &pod.spec else {
        return DataVolume::None;
    };
    // A sidecar may have the volume instead of the server, and may precede it.
    let server = server_container(pod);
    let others = spec
        .containers
        .iter()
        .filter(|container| Some(*container) != server);
    let mut mounts = server
        .into_iter()
        .chain(others)
        .flat_map(|container| container.volume_mounts.iter().flatten());
    let mount = mounts.find(|mount| mount.mount_path.trim_end_matches('/') == VolumeFacts::DATA_DIR);
    let Some(mount) = mount else {
        return DataVolume::None;
    };
    let volume = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == mount.name);
    match volume {
        None => DataVolume::None,
        Some(volume) => match (&volume.persistent_volume_claim, &volume.empty_dir) {
            (Some(claim), _) => DataVolume::Claim(claim.claim_name.clone()),
            (None, Some(_)) => DataVolume::EmptyDir,
            (None, None) => DataVolume::Other,
        },
    }
}

/// Finds servers that would lose data, and data directories that contradict `persistence.enabled`.
pub fn check(observation: &ClusterObservation, volumes: &[VolumeFacts], enabled: bool) -> Vec<Violation> {
    let mut violations: Vec<Violation> = observation
        .answered()
        .flat_map(|(pod, view)| server_state(pod, view))
        .collect();
    for pod in &observation.pods {
        let facts = volumes.iter().find(|facts| facts.pod == pod.name);
        violations.extend(facts.and_then(|facts| wrong_volume(facts, enabled)));
    }
    violations
}

fn server_state(pod: &str, view: &NodeView) -> Vec<Violation> {
    let state = &view.persistence;
    let promises = [
        (APPENDS, state.aof_enabled, "aof_enabled:0"),
        (
            "the last append-only write to succeed",
            state.aof_last_write_ok,
            "aof_last_write_status:err",
        ),
        (
            "the last append-only rewrite to succeed",
            state.aof_last_rewrite_ok,
            "aof_last_bgrewrite_status:err",
        ),
        (
            "the last background save to succeed",
            state.rdb_last_bgsave_ok,
            "rdb_last_bgsave_status:err",
        ),
    ];
    let broken = promises.into_iter().filter(|promise| !promise.1);
    let mut violations: Vec<Violation> = broken
        .map(|(expected, _, seen)| Violation::new(NAME, pod, expected, seen).from_pod(pod))
        .collect();
    if let Some(dir) = view
        .data_dir
        .as_deref()
        .filter(|dir| *dir != VolumeFacts::DATA_DIR)
    {
        violations.push(Violation::new(NAME, pod, "dir /data", format!("dir {dir}")).from_pod(pod));
    }
    violations
}

fn wrong_volume(facts: &VolumeFacts, enabled: bool) -> Option<Violation> {
    let claim = format!("data-{}", facts.pod);
    let right = match &facts.data {
        DataVolume::Claim(name) => enabled && *name == claim,
        DataVolume::EmptyDir => !enabled,
        DataVolume::Other | DataVolume::None => false,
    };
    let expected = if enabled {
        format!("claim {claim} at /data")
    } else {
        "an emptyDir at /data".to_owned()
    };
    (!right).then(|| Violation::new(NAME, &facts.pod, expected, format!("{:?}", facts.data)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn volumes(kind: impl Fn(&str) -> DataVolume) -> Vec<VolumeFacts> {
        (0..6)
            .map(|ordinal| format!("valkey-{ordinal}"))
            .map(|pod| VolumeFacts {
                data: kind(&pod),
                pod,
            })
            .collect()
    }

    fn claims() -> Vec<VolumeFacts> {
        volumes(|pod| DataVolume::Claim(format!("data-{pod}")))
    }

    #[test]
    fn claimed_volumes_and_a_working_append_only_file_are_fine() {
        assert_eq!(check(&Fixture::cluster(6, 1).observation(), &claims(), true), []);
        assert_eq!(
            check(
                &Fixture::cluster(6, 1).observation(),
                &volumes(|_| DataVolume::EmptyDir),
                false
            ),
            []
        );
    }

    #[test]
    fn each_thing_that_loses_data_is_named() {
        for (from, to, expected) in [
            ("aof_enabled:1", "aof_enabled:0", "the append-only file to be on"),
            (
                "aof_last_write_status:ok",
                "aof_last_write_status:err",
                "the last append-only write to succeed",
            ),
            (
                "rdb_last_bgsave_status:ok",
                "rdb_last_bgsave_status:err",
                "the last background save to succeed",
            ),
        ] {
            let mut fixture = Fixture::cluster(6, 1);
            fixture.edit_info("valkey-4", from, to);
            let violations = check(&fixture.observation(), &claims(), true);
            assert_eq!(violations.len(), 1);
            assert_eq!(
                (violations[0].subject.as_str(), violations[0].expected.as_str()),
                ("valkey-4", expected)
            );
        }
    }

    #[test]
    fn data_on_an_empty_dir_is_named() {
        let mut facts = claims();
        facts[2].data = DataVolume::EmptyDir;
        let violations = check(&Fixture::cluster(6, 1).observation(), &facts, true);
        assert_eq!(violations.len(), 1);
        assert_eq!(
            violations[0].to_string(),
            "persistence: valkey-2: expected claim data-valkey-2 at /data, saw EmptyDir"
        );
    }

    #[test]
    fn a_sidecar_before_the_server_is_not_taken_for_it() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "valkey-0"},
            "spec": {
                "containers": [
                    {"name": "agent", "volumeMounts": [{"name": "scratch", "mountPath": "/data"}]},
                    {"name": "valkey", "volumeMounts": [{"name": "data", "mountPath": "/data/"}]},
                ],
                "volumes": [
                    {"name": "scratch", "emptyDir": {}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data-valkey-0"}},
                ],
            },
        }))
        .expect("a pod");
        let claim = DataVolume::Claim("data-valkey-0".to_owned());
        assert_eq!(VolumeFacts::from_pod(&pod).data, claim);
    }

    #[test]
    fn a_pod_object_is_read() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "valkey-0"},
            "spec": {
                "containers": [{"name": "valkey", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-valkey-0"}}],
            },
        }))
        .expect("a pod");
        assert_eq!(
            VolumeFacts::from_pod(&pod).data,
            DataVolume::Claim("data-valkey-0".to_owned())
        );
    }
}
