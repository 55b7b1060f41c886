//! Start of the controllers, all on the shared hub.

use std::panic::AssertUnwindSafe;

use futures::future::{BoxFuture, FutureExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::ControllersConfig;
use super::error::ControllerError;
use super::hub::Hub;
use super::{
    bootstrap, claims, deployment, disruption, endpoints, garbage, job, namespaces, replica_set, scheduler,
    stateful_set, taints,
};

/// Creates the objects of a fresh cluster, then runs every controller until cancelled.
///
/// # Errors
/// Fails if the bootstrap objects cannot be created, or if a controller panics. With a stopped
/// controller, the cluster's behaviour says nothing about a chart. Failed requests are logged and
/// retried.
pub async fn run(config: ControllersConfig, cancel: CancellationToken) -> Result<(), ControllerError> {
    bootstrap::run(&config.client).await?;
    let (hub, watches) = Hub::new(config);
    let controllers: Vec<(&'static str, BoxFuture<'static, ()>)> = vec![
        ("shared watches", watches),
        ("scheduler", scheduler::run(hub.clone()).boxed()),
        ("StatefulSet controller", stateful_set::run(hub.clone()).boxed()),
        ("Job controller", job::run(hub.clone()).boxed()),
        ("endpoints controller", endpoints::run(hub.clone()).boxed()),
        ("claims controller", claims::run(hub.clone()).boxed()),
        ("disruption controller", disruption::run(hub.clone()).boxed()),
        ("namespace controller", namespaces::run(hub.clone()).boxed()),
        ("Deployment controller", deployment::run(hub.clone()).boxed()),
        ("ReplicaSet controller", replica_set::run(hub.clone()).boxed()),
        ("taint eviction controller", taints::run(hub.clone()).boxed()),
        ("garbage collector", garbage::run(hub).boxed()),
    ];
    supervise(controllers, &cancel).await
}

/// Runs each controller in its own task, so that none waits for another's work. Ends when the first
/// of them ends.
async fn supervise(
    controllers: Vec<(&'static str, BoxFuture<'static, ()>)>,
    cancel: &CancellationToken,
) -> Result<(), ControllerError> {
    // The set aborts its tasks when it is dropped.
    let mut tasks: JoinSet<ControllerError> = controllers
        .into_iter()
        .map(|(name, controller)| async move {
            let why = match AssertUnwindSafe(controller).catch_unwind().await {
                Ok(()) => "it ended".to_owned(),
                Err(panic) => format!("it panicked: {}", crate::api::panic_text(panic.as_ref())),
            };
            ControllerError::Stopped { name, why }
        })
        .collect();
    match cancel.run_until_cancelled(tasks.join_next()).await {
        Some(Some(Ok(stopped))) => Err(stopped),
        // The task was cancelled, or aborted with the runtime.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_one_controller_ends_all_and_is_named() {
        let controllers = vec![
            ("good controller", std::future::pending().boxed()),
            ("bad controller", async { panic!("its words") }.boxed()),
        ];
        let stopped = supervise(controllers, &CancellationToken::new()).await;
        let text = stopped.expect_err("one panicked").to_string();
        assert_eq!(text, "keep the bad controller running: it panicked: its words");
    }
}
