//! The images that ran on a cluster which obtains them itself. They are read from the status of its
//! pods while the pods exist.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use embedded_cluster::images::{Image, ImageStore, full_name};
use k8s_openapi::api::core::v1::Pod;

use super::prepare::STAND_IN_REGISTRY;
use super::provenance::{Origin, Provenance, is_stand_in};

/// Image references, and the digests that ran under each. Clones share the records.
#[derive(Debug, Clone, Default)]
pub struct SeenImages(Arc<Mutex<BTreeSet<(String, String)>>>);

impl SeenImages {
    /// Records the images of a pod's containers.
    pub fn record(&self, pod: &Pod) {
        let declared = pod.spec.iter().flat_map(|spec| &spec.containers);
        let statuses = wait::conditions::container_statuses(pod);
        let mut seen = self.0.lock().expect("no code panics while it holds the images");
        for container in declared {
            let status = statuses.iter().find(|status| status.name == container.name);
            if let (Some(image), Some(status)) = (&container.image, status)
                && !status.image_id.is_empty()
            {
                seen.insert((image.clone(), digest(&status.image_id).to_owned()));
            }
        }
    }

    /// Returns the images that ran. `store` is this machine's own and identifies the stand-ins that
    /// were built here.
    pub fn provenance(&self, store: Option<&ImageStore>) -> Vec<Provenance> {
        let seen = self.0.lock().expect("no code panics while it holds the images");
        seen.iter()
            .map(|(reference, digest)| {
                let known = store.and_then(|store| stand_in(store, reference, digest));
                known.map_or_else(
                    || unknown(reference, digest),
                    |image| Provenance::new(reference, &image, Origin::Cluster),
                )
            })
            .collect()
    }
}

fn unknown(reference: &str, digest: &str) -> Provenance {
    Provenance {
        reference: reference.to_owned(),
        digest: digest.to_owned(),
        source: Origin::Cluster,
        stand_in: false,
        server_version: None,
        built_from: None,
        reason: None,
    }
}

/// Extracts the digest from a container runtime's `docker.io/perconalab/valkey@sha256:…` or
/// `sha256:…`.
fn digest(image_id: &str) -> &str {
    image_id.rsplit_once('@').map_or(image_id, |(_, digest)| digest)
}

/// Returns this machine's stand-in with this digest, if there is one.
fn stand_in(store: &ImageStore, reference: &str, digest: &str) -> Option<Image> {
    let full = full_name(reference).ok()?;
    let (_, path) = full.split_once('/')?;
    let names = [full.clone(), format!("{STAND_IN_REGISTRY}/{path}")];
    let stored = names.iter().filter_map(|name| store.get(name).ok()?);
    stored
        .into_iter()
        .find(|image| image.digest == digest && is_stand_in(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_read_from_the_status_of_pods_once() {
        let pod = |id: &str| -> Pod {
            serde_yaml::from_str(&format!(
                "{{metadata: {{name: vk-0}}, spec: {{containers: [{{name: valkey, image: 'p/v:9'}}]}},
                   status: {{containerStatuses: [{{name: valkey, ready: true, restartCount: 0, image: x,
                     imageID: '{id}'}}]}}}}"
            ))
            .expect("the test's own YAML is a pod")
        };
        let seen = SeenImages::default();
        for id in [
            "docker.io/p/v@sha256:ab",
            "docker.io/p/v@sha256:ab",
            "sha256:cd",
            "",
        ] {
            seen.record(&pod(id));
        }
        let ran = seen.provenance(None);
        let digests: Vec<&str> = ran.iter().map(|image| image.digest.as_str()).collect();
        assert_eq!(digests, ["sha256:ab", "sha256:cd"]);
        assert!(
            ran.iter()
                .all(|image| image.reference == "p/v:9" && image.source == Origin::Cluster)
        );
    }
}
