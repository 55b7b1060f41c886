//! Causes of lost keys and refused writes: no persistence, full memory, or an owner that is gone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::super::cause::{Cause, Loss, Lost, Place};
use super::super::evidence::Evidence;
use crate::checks::server_container::server_container;
use crate::trial::observer::is_server;
use crate::valkey::ClusterObservation;
use crate::valkey::ledger::Class;
use crate::valkey::slots::SlotSet;

/// Working directory of Valkey's images.
const DEFAULT_DIRECTORY: &str = "/data";

/// Returns the pods that owned the lost keys when these were written.
fn lost(evidence: &Evidence) -> Option<&BTreeMap<String, SlotSet>> {
    evidence.keys.as_ref()?.former_owners.get(&Class::Lost)
}

/// Recognises a server with full memory and a policy that allows no eviction.
pub(super) fn maxmemory_refuses_writes(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    seen.answered().find_map(|(pod, view)| {
        let memory = view.memory.as_ref()?;
        memory.is_full().then(|| Cause::MaxmemoryRefusesWrites {
            pod: pod.to_owned(),
            used: memory.used,
            limit: memory.limit,
        })
    })
}

/// Recognises keys that servers evicted, if keys are missing.
pub(super) fn keys_were_evicted(evidence: &Evidence) -> Option<Cause> {
    lost(evidence)?;
    let seen = evidence.observation.as_ref()?;
    let memories = seen
        .answered()
        .filter_map(|(pod, view)| Some((pod, view.memory.as_ref()?)));
    let evicting: Vec<_> = memories.filter(|(_, memory)| memory.evicted_keys > 0).collect();
    let limit = evicting.first()?.1.limit;
    Some(Cause::KeysWereEvicted {
        pods: evicting.iter().map(|(pod, _)| (*pod).to_owned()).collect(),
        count: evicting.iter().map(|(_, memory)| memory.evicted_keys).sum(),
        limit,
    })
}

/// Recognises a server that lost its keys and has its directory outside of any claim.
pub(super) fn data_is_not_persistent(evidence: &Evidence) -> Option<Cause> {
    let lost = lost(evidence)?;
    let seen = evidence.observation.as_ref()?;
    let servers = evidence.pods.iter().filter(|pod| is_server(pod));
    let mut owners = servers.filter(|pod| {
        pod.metadata
            .name
            .as_ref()
            .is_some_and(|name| lost.contains_key(name))
    });
    owners.find_map(|pod| {
        let name = pod.metadata.name.clone()?;
        let view = seen.answered().find(|(viewer, _)| *viewer == name);
        let directory = view.and_then(|(_, view)| view.data_dir.clone());
        let directory = directory.unwrap_or_else(|| DEFAULT_DIRECTORY.to_owned());
        let place = place_of(pod, &directory)?;
        Some(Cause::DataIsNotPersistent {
            pod: name,
            directory,
            place,
        })
    })
}

/// Returns the place of `directory` in the server's container, or `None` if it is on a claim.
fn place_of(pod: &Pod, directory: &str) -> Option<Place> {
    let spec = pod.spec.as_ref()?;
    let container = server_container(pod)?;
    let mounts = container.volume_mounts.as_deref()?;
    let volume = |name: &str| spec.volumes.iter().flatten().find(|volume| volume.name == name);
    let is_claim = |volume: &Volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
    let covers = |path: &str| {
        let path = path.trim_end_matches('/');
        directory == path || directory.starts_with(&format!("{path}/"))
    };
    let covering = mounts.iter().filter(|mount| covers(&mount.mount_path));
    let nearest = covering.max_by_key(|mount| mount.mount_path.len());
    if let Some(mount) = nearest {
        let found = volume(&mount.name)?;
        let is_temporary = found.empty_dir.is_some();
        return is_temporary.then(|| Place::Volume("emptyDir".to_owned()));
    }
    let mut claims = mounts
        .iter()
        .filter(|mount| volume(&mount.name).is_some_and(is_claim));
    Some(claims.next().map_or(Place::Container, |mount| {
        Place::ClaimElsewhere(mount.mount_path.clone())
    }))
}

/// Recognises a server without an append-only file. If keys are missing, it must be one that had
/// some of them.
pub(super) fn persistence_is_off(evidence: &Evidence) -> Option<Cause> {
    let lost = lost(evidence);
    let seen = evidence.observation.as_ref()?;
    let mut off = seen.answered().filter(|(_, view)| !view.persistence.aof_enabled);
    let (pod, _) = off.find(|(pod, _)| lost.is_none_or(|lost| lost.contains_key(*pod)))?;
    Some(Cause::PersistenceIsOff {
        pod: pod.to_owned(),
        lost: lost.is_some(),
    })
}

/// Recognises acknowledged keys that are gone: deleted where they were, or lost with their pod.
pub(super) fn keys_are_gone(evidence: &Evidence) -> Option<Cause> {
    let lost = lost(evidence)?;
    let seen = evidence.observation.as_ref()?;
    let losses: Vec<Loss> = lost
        .iter()
        .map(|(owner, slots)| Loss {
            slots: slots.summary(),
            owner: owner.clone(),
            how: how(seen, owner, slots),
        })
        .collect();
    (!losses.is_empty()).then_some(Cause::KeysAreGone { losses })
}

fn how(seen: &ClusterObservation, owner: &str, slots: &SlotSet) -> Lost {
    let answered = seen.answered().find(|(pod, _)| *pod == owner);
    let is_there = seen.pods.iter().any(|pod| pod.name == owner);
    let Some((_, view)) = answered else {
        return if is_there {
            Lost::MovedAway
        } else {
            Lost::OwnerGone
        };
    };
    let Some(nodes) = &view.nodes else {
        // Without a cluster, no other node can have the keys.
        return Lost::NotBroughtBack;
    };
    let owned = nodes
        .myself()
        .map(|myself| myself.slots.clone())
        .unwrap_or_default();
    if owned.intersection(slots).is_empty() {
        Lost::MovedAway
    } else {
        Lost::Deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::fixture::Fixture;
    use crate::valkey::info::Memory;
    use crate::valkey::ledger::Verification;

    fn evidence(fixture: &Fixture, owner: &str, slots: &str) -> Evidence {
        let slots = SlotSet::try_from(slots.to_owned()).expect("slots");
        let mut keys = Verification::default();
        keys.former_owners
            .insert(Class::Lost, BTreeMap::from([(owner.to_owned(), slots)]));
        Evidence {
            observation: Some(fixture.observation()),
            keys: Some(keys),
            ..Evidence::default()
        }
    }

    fn with_memory(mut evidence: Evidence, memory: &Memory) -> Evidence {
        let seen = evidence.observation.as_mut().expect("it was just made");
        for view in seen.views.values_mut().flatten() {
            view.memory = Some(memory.clone());
        }
        evidence
    }

    #[test]
    fn deleted_keys_are_told_from_keys_lost_with_their_pod() {
        let cluster = Fixture::cluster(6, 1);
        let without = Evidence {
            observation: Some(cluster.observation()),
            ..Evidence::default()
        };
        assert_eq!(keys_are_gone(&without), None);
        assert_eq!(
            keys_are_gone(&evidence(&cluster, "valkey-0", "5"))
                .unwrap()
                .to_string(),
            "the keys of slots 5 were deleted on valkey-0, which had these slots when the keys were written and has them now"
        );
        let said = keys_are_gone(&evidence(&cluster, "valkey-6", "5-99"))
            .unwrap()
            .to_string();
        assert!(
            said.starts_with("the keys of slots 5-99 were lost: valkey-6 owned the slots")
                && said.contains("is gone"),
            "{said}"
        );
    }

    #[test]
    fn a_standalone_server_loses_keys_by_itself_and_on_no_way() {
        let said = keys_are_gone(&evidence(&Fixture::standalone(), "valkey-0", "5"))
            .unwrap()
            .to_string();
        assert_eq!(
            said,
            "the keys of slots 5 are gone: valkey-0 was restarted and came back without them"
        );
    }

    #[test]
    fn an_append_only_file_that_is_off_is_named() {
        let mut fixture = Fixture::standalone();
        assert_eq!(persistence_is_off(&evidence(&fixture, "valkey-0", "5")), None);
        fixture.edit_info("valkey-0", "aof_enabled:1", "aof_enabled:0");
        let said = persistence_is_off(&evidence(&fixture, "valkey-0", "5"))
            .unwrap()
            .to_string();
        assert!(
            said.contains("append-only file off") && said.contains("lost its keys"),
            "{said}"
        );
        let unread = Evidence {
            keys: None,
            ..evidence(&fixture, "valkey-0", "5")
        };
        let said = persistence_is_off(&unread).unwrap().to_string();
        assert!(said.ends_with("so writes do not survive a crash"), "{said}");
        assert_eq!(persistence_is_off(&evidence(&fixture, "valkey-9", "5")), None);
    }

    #[test]
    fn evicted_keys_and_a_full_memory_are_told_apart() {
        let memory = |policy: &str, evicted_keys, used| Memory {
            used,
            limit: 100,
            policy: policy.to_owned(),
            evicted_keys,
        };
        let lost = || evidence(&Fixture::standalone(), "valkey-0", "5");
        let evicting = with_memory(lost(), &memory("allkeys-lru", 7, 99));
        assert_eq!(
            keys_were_evicted(&evicting).unwrap().to_string(),
            "7 keys were evicted to stay below maxmemory (100 bytes): valkey-0"
        );
        assert_eq!(maxmemory_refuses_writes(&evicting), None);
        let full = with_memory(lost(), &memory("noeviction", 0, 120));
        assert!(
            maxmemory_refuses_writes(&full)
                .unwrap()
                .to_string()
                .contains("refuses writes")
        );
        assert_eq!(keys_were_evicted(&full), None);
    }

    #[test]
    fn a_directory_beside_its_volume_is_named_with_both_paths() {
        let pod = |mount: &str, volume: &str| -> Pod {
            serde_yaml::from_str(&format!(
                "{{metadata: {{name: valkey-0, ownerReferences: [{{kind: StatefulSet, name: v, uid: u, apiVersion: apps/v1}}]}},
                   spec: {{volumes: [{{name: data, {volume}}}],
                     containers: [{{name: valkey, volumeMounts: [{{name: data, mountPath: {mount}}}]}}]}}}}"
            ))
            .expect("the test's own YAML is a pod")
        };
        let claim = "persistentVolumeClaim: {claimName: data-valkey-0}";
        let place = |mount: &str, volume: &str| place_of(&pod(mount, volume), "/data");
        assert_eq!(place("/data", claim), None);
        assert_eq!(place("/", claim), None);
        assert_eq!(
            place("/data", "emptyDir: {}"),
            Some(Place::Volume("emptyDir".to_owned()))
        );
        assert_eq!(
            place("/var/lib/valkey", claim),
            Some(Place::ClaimElsewhere("/var/lib/valkey".to_owned()))
        );
        let mut evidence = evidence(&Fixture::standalone(), "valkey-0", "5");
        evidence.pods = vec![pod("/var/lib/valkey", claim)];
        let said = data_is_not_persistent(&evidence).unwrap().to_string();
        assert!(said.contains("mounted at /var/lib/valkey"), "{said}");
    }
}
