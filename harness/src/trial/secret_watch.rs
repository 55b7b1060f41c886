//! A watch of the passwords in a trial's namespace. A chart may generate a password, and a new one
//! at each upgrade. The redaction learns each password when its Secret is written, before any
//! output.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;

use crate::secret::{Password, passwords_in};
use crate::wait;

/// Deadline of the last list request.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Collects passwords until it is dropped.
#[derive(Debug)]
pub(crate) struct SecretWatch {
    secrets: Api<Secret>,
    seen: Arc<Mutex<Vec<Password>>>,
    _task: JoinSet<()>,
}

impl SecretWatch {
    /// Starts to watch the Secrets of `namespace`.
    pub(crate) fn start(client: &Client, namespace: &str) -> Self {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let seen = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(collect(secrets.clone(), Arc::clone(&seen)));
        Self {
            secrets,
            seen,
            _task: task,
        }
    }

    /// Returns the passwords seen so far and those that exist now, because the watch may lag
    /// behind.
    pub(crate) async fn passwords(&self) -> Vec<Password> {
        let params = ListParams::default();
        let listed = tokio::time::timeout(LAST_LOOK, self.secrets.list(&params)).await;
        for secret in listed.into_iter().flatten().flatten() {
            remember(&self.seen, &secret);
        }
        self.seen_so_far()
    }

    /// Returns the passwords seen so far, without a request to the API server.
    pub(crate) fn seen_so_far(&self) -> Vec<Password> {
        self.seen
            .lock()
            .expect("no code panics while it holds the passwords")
            .clone()
    }
}

async fn collect(secrets: Api<Secret>, seen: Arc<Mutex<Vec<Password>>>) {
    let mut events = wait::watch(secrets, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        if let Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) = event {
            remember(&seen, &secret);
        }
    }
}

fn remember(seen: &Mutex<Vec<Password>>, secret: &Secret) {
    let mut object = serde_json::to_value(secret).expect("a Secret is plain JSON");
    // Items of a list lack their kind.
    object["kind"] = "Secret".into();
    let mut seen = seen.lock().expect("no code panics while it holds the passwords");
    for password in passwords_in(&object) {
        if !seen.contains(&password) {
            seen.push(password);
        }
    }
}
