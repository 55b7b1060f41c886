//! A guard that removes the container if its creation is abandoned halfway.

use testcontainers::core::client::docker_client_instance;
use testcontainers::core::error::ClientError;

use super::engine;

/// Removes the container of a run when dropped, at any stage of its creation.
///
/// testcontainers removes only containers that it has finished creating. This guard covers the time
/// before, including the copying of files into the container.
#[derive(Debug)]
pub(super) struct Net(Option<String>);

impl Net {
    /// Guards the container of this name, which need not exist yet.
    pub(super) fn under(name: &str) -> Self {
        Self(Some(name.to_owned()))
    }

    /// Disarms the guard: something else now removes the container.
    pub(super) fn discard(mut self) {
        self.0 = None;
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let Some(name) = self.0.take() else { return };
        // A separate runtime, on a separate thread: the present one may be about to end.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                // `sweep` finds a container that cannot be removed now.
                let _ = runtime.block_on(async {
                    engine::remove(&docker_client_instance().await?, &name)
                        .await
                        .map_err(ClientError::RemoveContainer)
                });
            }
        });
        let _ = removing.join();
    }
}
