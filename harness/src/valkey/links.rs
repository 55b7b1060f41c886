//! Connections for looking, kept from one look to the next: opening one through the Kubernetes API costs more than all that
//! a server has to say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::connection::{Connection, dial_with_any};
use super::dialer::Dialer;
use super::observation::PodFacts;
use super::view::{NodeView, ViewError, ViewErrorKind, observe_node};
use crate::secret::Passwords;

/// A connection to each server that was looked at.
pub struct Links {
    dialer: Arc<dyn Dialer>,
    /// By the UID of the pod: another pod of the same name is another server.
    open: Mutex<BTreeMap<String, Connection>>,
}

impl Links {
    /// None yet; they are opened as they are needed.
    pub fn new(dialer: Arc<dyn Dialer>) -> Self {
        Self {
            dialer,
            open: Mutex::default(),
        }
    }

    /// Asks a pod for everything the checks read. A connection that has broken since the last look is replaced; only what
    /// the new one meets is an error.
    pub(super) async fn view(&self, pod: &PodFacts, passwords: &Passwords) -> Result<NodeView, ViewError> {
        let kept = self.open().get(&pod.uid).cloned();
        if let Some(mut connection) = kept {
            let view = observe_node(&pod.name, &mut connection).await;
            if !matches!(&view, Err(error) if error.kind == ViewErrorKind::Unreachable) {
                return view;
            }
            self.open().remove(&pod.uid);
        }
        let mut connection = dial_with_any(self.dialer.as_ref(), &pod.name, passwords).await?;
        let view = observe_node(&pod.name, &mut connection).await;
        if view.is_ok() {
            self.open().insert(pod.uid.clone(), connection);
        }
        view
    }

    /// Closes all of them: the next look asks over new ones, which a server that admits nobody any more refuses.
    pub fn close(&self) {
        self.open().clear();
    }

    /// Closes those to pods that are not there any more.
    pub(super) fn keep_only(&self, pods: &[PodFacts]) {
        self.open()
            .retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Connection>> {
        self.open
            .lock()
            .expect("no code panics while it holds the connections")
    }
}
