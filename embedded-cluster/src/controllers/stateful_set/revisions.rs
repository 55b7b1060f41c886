//! ControllerRevisions: every pod template that a StatefulSet has had, and the one that is wanted
//! now.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::identity::revision_of;
use super::status::Revisions;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::hub::Hub;
use crate::controllers::owners::{controller_reference, is_controlled_by};

/// The API server's default for `revisionHistoryLimit`.
pub(super) const DEFAULT_HISTORY: i32 = 10;
/// Number of distinct hashes tried before giving up; even a second collision in a row is very
/// unlikely.
const COLLISIONS_TRIED: i32 = 16;

/// The set's revisions, oldest first.
pub(crate) struct History {
    all: Vec<ControllerRevision>,
    pub(crate) revisions: Revisions,
}

impl History {
    /// Reads the set's revisions. Creates the one of the current template if it does not exist yet.
    pub(crate) async fn observe(hub: &Hub, set: &StatefulSet) -> Result<Self, ControllerError> {
        let api = hub.api::<ControllerRevision>(&set.namespace().unwrap_or_default());
        let name = set.name_any();
        let listed = api
            .list(&ListParams::default())
            .await
            .during(|| format!("list revisions of {name}"))?;
        let mut all: Vec<_> = listed
            .items
            .into_iter()
            .filter(|found| is_controlled_by(&found.metadata, set))
            .collect();
        all.sort_by_key(|revision| (revision.revision, revision.name_any()));
        let status = set.status.clone().unwrap_or_default();
        let mut collision_count = status.collision_count.unwrap_or(0);
        let data = data_of(set)?;
        let next = all
            .last()
            .and_then(|revision| revision.revision)
            .unwrap_or(0)
            .saturating_add(1);
        let update = match all.iter().rposition(|revision| revision.data.0 == data) {
            Some(index) if index + 1 == all.len() => all[index].name_any(),
            Some(index) => {
                // A roll-back: the old revision becomes the newest again.
                let mut found = all.remove(index);
                found.revision = Some(next);
                let patch = Patch::Merge(json!({ "revision": next }));
                let renewed = api
                    .patch(&found.name_any(), &PatchParams::default(), &patch)
                    .await;
                renewed.during(|| format!("renew revision {}", found.name_any()))?;
                let name = found.name_any();
                all.push(found);
                name
            }
            None => {
                let made = create(hub, set, &data, next, &mut collision_count).await?;
                let name = made.name_any();
                all.push(made);
                name
            }
        };
        let current = status
            .current_revision
            .filter(|current| all.iter().any(|revision| revision.name_any() == *current))
            .unwrap_or_else(|| update.clone());
        Ok(Self {
            all,
            revisions: Revisions {
                current,
                update,
                collision_count,
            },
        })
    }

    /// Returns the pod template of a revision.
    pub(crate) fn template(&self, name: &str) -> Result<PodTemplateSpec, ControllerError> {
        let found = self.all.iter().find(|revision| revision.name_any() == name);
        let mut template = found
            .map(|found| found.data.0["spec"]["template"].clone())
            .unwrap_or_default();
        if let Some(template) = template.as_object_mut() {
            template.remove("$patch");
        }
        serde_json::from_value(template)
            .map_err(|source| ControllerError::malformed(format!("revision {name}"), source))
    }

    /// Deletes the oldest revisions beyond the limit, except those that a pod or a status field
    /// refers to.
    pub(crate) async fn truncate(
        &self,
        hub: &Hub,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
    ) -> Result<(), ControllerError> {
        let limit = set.spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY);
        let live = |name: &str| {
            name == self.revisions.current
                || name == self.revisions.update
                || pods.iter().any(|pod| revision_of(pod) == Some(name))
        };
        let old: Vec<_> = self
            .all
            .iter()
            .map(ResourceExt::name_any)
            .filter(|name| !live(name))
            .collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let api = hub.api::<ControllerRevision>(&set.namespace().unwrap_or_default());
        for name in old.iter().take(surplus) {
            let deleted = api.delete(name, &DeleteParams::default()).await;
            deleted
                .unless_gone()
                .during(|| format!("delete revision {name}"))?;
        }
        Ok(())
    }
}

/// Creates a revision. If other data already uses the name, counts a hash collision, as Kubernetes
/// does.
async fn create(
    hub: &Hub,
    set: &StatefulSet,
    data: &Value,
    revision: i64,
    collision_count: &mut i32,
) -> Result<ControllerRevision, ControllerError> {
    let api = hub.api::<ControllerRevision>(&set.namespace().unwrap_or_default());
    for _ in 0..COLLISIONS_TRIED {
        let wanted = object(set, data, revision, *collision_count);
        let name = wanted.name_any();
        let created = api.create(&PostParams::default(), &wanted).await;
        if let Some(made) = created
            .unless_there()
            .during(|| format!("create revision {name}"))?
        {
            return Ok(made);
        }
        let found = api.get(&name).await.during(|| format!("read revision {name}"))?;
        if found.data.0 == *data && is_controlled_by(&found.metadata, set) {
            return Ok(found);
        }
        *collision_count = collision_count.saturating_add(1);
    }
    Err(ControllerError::malformed(
        format!("the revisions of {}", set.name_any()),
        "hash collision: every name that was tried has other data",
    ))
}

fn object(set: &StatefulSet, data: &Value, revision: i64, collision_count: i32) -> ControllerRevision {
    let hash = hash(data, collision_count);
    let template = set.spec.template.metadata.clone().unwrap_or_default();
    let mut labels = template.labels.unwrap_or_default();
    labels.insert("controller.kubernetes.io/hash".to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", set.name_any())),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: set.metadata.annotations.clone(),
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data.clone()),
        revision: Some(revision),
    }
}

/// Returns the patch that a revision stores: the pod template, to be replaced as a whole. Empty
/// maps in its metadata are left out, as Go's `omitempty` does. Removing the last annotation is
/// then a roll-back and not a new template.
fn data_of(set: &StatefulSet) -> Result<Value, ControllerError> {
    let mut template = set.spec.template.clone();
    if let Some(meta) = &mut template.metadata {
        meta.annotations = meta.annotations.take().filter(|map| !map.is_empty());
        meta.labels = meta.labels.take().filter(|map| !map.is_empty());
    }
    let mut template = serde_json::to_value(&template).map_err(|source| {
        ControllerError::malformed(format!("the template of {}", set.name_any()), source)
    })?;
    if let Some(template) = template.as_object_mut() {
        template.insert("$patch".to_owned(), json!("replace"));
    }
    Ok(json!({ "spec": { "template": template } }))
}

/// Returns the FNV-1a hash in Kubernetes' vowel-free alphabet, so that names look like real ones.
pub(crate) fn hash(data: &Value, collision_count: i32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = data.to_string();
    let bytes = text.bytes().chain(collision_count.to_le_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let digits = hash.to_string();
    digits
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_depends_on_the_template_and_nothing_else() {
        let mut set: StatefulSet = serde_yaml::from_str(
            "{metadata: {name: v}, spec: {replicas: 1, selector: {}, template: {metadata: {labels: {a: b}}}}}",
        )
        .expect("a StatefulSet");
        let before = data_of(&set).expect("data");
        set.spec.replicas = Some(5);
        assert_eq!(data_of(&set).expect("data"), before);
        set.spec.template.metadata.get_or_insert_default().annotations =
            Some([("x".into(), "y".into())].into());
        assert_ne!(data_of(&set).expect("data"), before);
    }

    #[test]
    fn hashes_are_names_and_a_collision_changes_them() {
        let data = json!({"spec": 1});
        let hash_0 = hash(&data, 0);
        assert!(
            hash_0
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()),
            "{hash_0}"
        );
        assert_ne!(hash_0, hash(&data, 1));
    }
}
