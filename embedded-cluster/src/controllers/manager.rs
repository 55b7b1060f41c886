//! Starts the controllers, all on the shared hub.

use futures::future::{BoxFuture, FutureExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::ControllersConfig;
use super::error::ControllerError;
use super::hub::Hub;
use super::{bootstrap, claims, disruption, endpoints, garbage, job, namespaces, scheduler, stateful_set};

/// Creates what a fresh cluster has, then runs every controller until cancelled.
///
/// # Errors
/// When the bootstrap objects cannot be created. Failures after that are logged and tried again.
pub async fn run(config: ControllersConfig, cancel: CancellationToken) -> Result<(), ControllerError> {
    bootstrap::run(&config.client).await?;
    let (hub, watches) = Hub::new(config);
    let controllers: Vec<BoxFuture<'static, ()>> = vec![
        watches,
        scheduler::run(hub.clone()).boxed(),
        stateful_set::run(hub.clone()).boxed(),
        job::run(hub.clone()).boxed(),
        endpoints::run(hub.clone()).boxed(),
        claims::run(hub.clone()).boxed(),
        disruption::run(hub.clone()).boxed(),
        namespaces::run(hub.clone()).boxed(),
        garbage::run(hub).boxed(),
    ];
    // A task each, so that one controller's work does not wait for another's; the set aborts them when dropped.
    let mut tasks: JoinSet<()> = controllers.into_iter().collect();
    if let Some(Some(Err(error))) = cancel.run_until_cancelled(tasks.join_next()).await {
        std::panic::resume_unwind(error.into_panic());
    }
    Ok(())
}
