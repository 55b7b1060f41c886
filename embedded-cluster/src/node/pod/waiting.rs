//! Reasons that keep a container from running: a missing image, a wrong configuration, an unusable
//! program, a back-off.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::backoff::render;
use super::container::{ContainerTask, NotStarted};
use super::container_records::{RunState, Terminated};
use super::ending::stop_requested;
use crate::delays::spread;
use crate::images::Image;
use crate::node::chain;
use crate::node::security::describe;

/// The time between two checks of a container with a wrong configuration, similar to the kubelet's.
/// A change of the ConfigMap or Secret it needs is noticed at once.
const CONFIG_RETRY: Duration = Duration::from_secs(10);
/// The kubelet's back-off for images.
pub(super) const IMAGE_RETRY: Duration = Duration::from_secs(10);
pub(super) const IMAGE_RETRY_MAX: Duration = Duration::from_secs(300);

impl ContainerTask {
    pub(super) fn never_started(&self, message: String) -> Terminated {
        self.pod
            .warning(Some(&self.container.name), "Failed", format!("Error: {message}"));
        self.pod.records.update(&self.container.name, |record| {
            if let RunState::Terminated(ended) = &record.state {
                record.last = Some(ended.clone());
                record.restarts += 1;
            }
        });
        Terminated {
            id: format!(
                "{}{}",
                uuid::Uuid::new_v4().simple(),
                uuid::Uuid::new_v4().simple()
            ),
            exit_code: 128,
            reason: "StartError".to_owned(),
            message,
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: Timestamp::now(),
        }
    }

    pub(super) async fn back_off(&mut self, wait: Duration) {
        let name = self.container.name.clone();
        let place = describe(&self.pod.latest());
        self.pod.warning(
            Some(&name),
            "BackOff",
            format!("Back-off restarting failed container {name} in pod {place}"),
        );
        let message = format!(
            "back-off {} restarting failed container={name} pod={place}",
            render(wait)
        );
        self.waiting("CrashLoopBackOff", message);
        // The kubelet checks again when it next syncs the pod, regardless of the remaining
        // back-off.
        let mut syncs = self.pod.sync.subscribe();
        syncs.borrow_and_update();
        tokio::select! {
            () = self.pause(spread(self.pod.node.delays.back_off_sync), false) => {}
            _ = syncs.changed() => {}
        }
    }

    pub(super) fn waiting(&self, reason: &str, message: String) {
        self.pod.records.update(&self.container.name, |record| {
            if let RunState::Terminated(ended) = &record.state {
                record.last = Some(ended.clone());
            }
            record.state = RunState::Waiting {
                reason: reason.to_owned(),
                message,
            };
        });
    }

    pub(super) async fn wait_for_configuration(&mut self, message: String) {
        self.pod
            .warning(Some(&self.container.name), "Failed", format!("Error: {message}"));
        self.waiting("CreateContainerConfigError", message);
        self.pause(CONFIG_RETRY, true).await;
    }

    pub(super) async fn wait_for_image(&mut self, reason: &'static str, message: String, wait: Duration) {
        let (name, image) = (
            self.container.name.clone(),
            self.container.image.clone().unwrap_or_default(),
        );
        self.waiting(reason, message.clone());
        if reason == "ErrImagePull" {
            self.pod.warning(
                Some(&name),
                "Failed",
                format!("Failed to pull image {image:?}: {message}"),
            );
            self.pod.warning(Some(&name), "Failed", "Error: ErrImagePull");
            // The status is published before it is replaced, as at the kubelet's next sync.
            self.pod.publish().await;
            self.pod.normal(
                Some(&name),
                "BackOff",
                format!("Back-off pulling image {image:?}"),
            );
            self.pod.warning(Some(&name), "Failed", "Error: ImagePullBackOff");
            self.waiting(
                "ImagePullBackOff",
                format!("Back-off pulling image {image:?}: ErrImagePull: {message}"),
            );
        } else {
            self.pod
                .warning(Some(&name), "Failed", format!("Error: {reason}: {message}"));
        }
        self.pause(wait, false).await;
    }

    /// Waits until the time is over or the pod is stopped. With `for_objects`, also ends the wait
    /// when an object that the container refers to changes.
    pub(super) async fn pause(&mut self, wait: Duration, for_objects: bool) {
        let mut objects = self.pod.objects_changed.subscribe();
        let until = Instant::now() + wait;
        tokio::select! {
            // This wait is the back-off.
            () = sleep_until(until) => {}
            () = stop_requested(&mut self.stop) => {}
            _ = objects.changed(), if for_objects => {}
        }
    }

    pub(super) async fn image(&self) -> Result<Image, NotStarted> {
        let reference = self.container.image.clone().unwrap_or_default();
        let store = self.pod.node.images.clone();
        let wanted = reference.clone();
        let found = tokio::task::spawn_blocking(move || store.get(&wanted)).await;
        let missing = |message: String| {
            if self.container.image_pull_policy.as_deref() == Some("Never") {
                let message =
                    format!("Container image {reference:?} is not present with pull policy of Never");
                return NotStarted::Image {
                    reason: "ErrImageNeverPull",
                    message,
                };
            }
            NotStarted::Image {
                reason: "ErrImagePull",
                message,
            }
        };
        match found {
            Ok(Ok(Some(image))) => {
                let message = format!("Container image {reference:?} already present on machine");
                self.pod.normal(Some(&self.container.name), "Pulled", message);
                Ok(image)
            }
            Ok(Ok(None)) => Err(missing(format!(
                "image {reference:?} is not in the embedded cluster's image store, and its nodes have no network to pull from"
            ))),
            Ok(Err(error)) => {
                let text = chain(&error);
                self.pod.node.health.notice("reading an image", &text);
                Err(missing(text))
            }
            Err(error) => Err(missing(format!("image store failed: {error}"))),
        }
    }
}

/// Returns the image ID as runtimes report it: `docker.io/perconalab/valkey@sha256:…`.
pub(super) fn image_id(image: &Image) -> String {
    let name = image.reference.split('@').next().unwrap_or_default();
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    format!("{repository}@{}", image.digest)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_image_id_is_the_repository_with_the_digest() {
        let image = |reference: &str| Image {
            reference: reference.to_owned(),
            digest: "sha256:ab".to_owned(),
            config: oci_spec::image::ImageConfiguration::default(),
            rootfs: PathBuf::new(),
        };
        assert_eq!(
            image_id(&image("docker.io/perconalab/valkey:9.0.3")),
            "docker.io/perconalab/valkey@sha256:ab"
        );
        assert_eq!(image_id(&image("localhost:5000/v")), "localhost:5000/v@sha256:ab");
    }
}
