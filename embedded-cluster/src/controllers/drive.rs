//! A work queue that turns changes into reconciliations. It runs one at a time per object and
//! retries failures.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use kube::Resource;
use kube::runtime::controller::{self, Action, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio_stream::wrappers::BroadcastStream;

use super::error::ControllerError;
use super::hub::{Change, Hub};

/// The retry delay after a conflict: the newer version only needs to be read.
const RETRY_CONFLICT: Duration = Duration::from_millis(20);
/// The retry delay after any other failure, like the first noticeable back-off steps of
/// controller-runtime.
const RETRY_FAILURE: Duration = Duration::from_secs(1);

/// The result of a reconciliation.
pub(crate) type Reconciled = Result<Action, ControllerError>;

/// Runs one controller. `concerns` returns the objects of kind `K` that a change affects;
/// `reconcile` reconciles one object. Starts with every existing object. Never returns by itself.
pub(crate) async fn drive<K>(
    hub: Arc<Hub>,
    store: Store<K>,
    concerns: impl Fn(&Change, &Hub) -> Vec<ObjectRef<K>> + Send + 'static,
    reconcile: fn(Arc<K>, Arc<Hub>) -> BoxFuture<'static, Reconciled>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let changes = BroadcastStream::new(hub.subscribe());
    hub.wait_until_ready().await;
    let everything = {
        let store = store.clone();
        move || {
            store
                .state()
                .iter()
                .map(|object| ObjectRef::from_obj(object.as_ref()))
                .collect()
        }
    };
    let beginning: Vec<ObjectRef<K>> = everything();
    let queue_hub = hub.clone();
    let queue = stream::iter(beginning).chain(changes.flat_map(move |change| {
        stream::iter(match change {
            Ok(change) => concerns(&change, &queue_hub),
            Err(_lagged) => everything(),
        })
    }));
    applier(
        reconcile,
        |_, error: &ControllerError, _| {
            Action::requeue(if error.is_conflict() {
                RETRY_CONFLICT
            } else {
                RETRY_FAILURE
            })
        },
        hub,
        store,
        queue.map(Ok::<_, Infallible>),
        controller::Config::default(),
    )
    .for_each(|result| {
        log(result);
        ready(())
    })
    .await;
}

fn log<K: Resource<DynamicType = ()>>(
    result: Result<(ObjectRef<K>, Action), controller::Error<ControllerError, Infallible>>,
) {
    match result {
        Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
        Err(controller::Error::ReconcilerFailed(error, object)) if error.is_conflict() => {
            tracing::debug!(%object, "changed meanwhile, reconciling again");
        }
        Err(controller::Error::ReconcilerFailed(error, object)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(kind = %K::kind(&()), %object, cause, "failed to {error}");
        }
        Err(error) => tracing::error!(%error, "a controller's queue failed"),
    }
}
