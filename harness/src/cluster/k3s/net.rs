//! What catches a container whose creation was given up halfway.

use testcontainers::core::client::docker_client_instance;
use testcontainers::core::error::ClientError;

use super::engine;

/// Removes the container of a run when it is dropped, in whatever state its creation was given up.
///
/// testcontainers removes what it has finished creating; between the creation and that, and while files are copied into
/// the container, nobody else does.
#[derive(Debug)]
pub(super) struct Net(Option<String>);

impl Net {
    /// For the container of this name, which need not exist yet.
    pub(super) fn under(name: &str) -> Self {
        Self(Some(name.to_owned()))
    }

    /// The container has somebody else who removes it.
    pub(super) fn discard(mut self) {
        self.0 = None;
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let Some(name) = self.0.take() else { return };
        // A runtime of its own, on a thread of its own: the present one may be about to end.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                // What cannot be removed now is found by `sweep`.
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
