//! Connections that are kept between observations. Opening one through the Kubernetes API costs
//! more than reading all of a server's answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::connection::{Connection, dial_with_any};
use super::dialer::Dialer;
use super::observation::PodFacts;
use super::view::{NodeView, ViewError, ViewErrorKind, observe_node};
use secret::Passwords;

/// One connection to each observed server.
pub struct Links {
    dialer: Arc<dyn Dialer>,
    /// Connections by the UID of the pod: another pod of the same name is another server.
    open: Mutex<BTreeMap<String, Connection>>,
}

impl Links {
    /// Starts without connections; each is opened on first use.
    pub fn new(dialer: Arc<dyn Dialer>) -> Self {
        Self {
            dialer,
            open: Mutex::default(),
        }
    }

    /// Asks a pod for everything the checks read. Replaces a connection that broke since the last
    /// call. Reports only errors of the new connection.
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

    /// Closes all connections. The next observation uses new ones, which a server may refuse.
    pub fn close(&self) {
        self.open().clear();
    }

    /// Closes connections to pods that no longer exist.
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
