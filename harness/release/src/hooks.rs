//! Runs one hook: deletes the earlier one, creates it, reads its output while it runs, and waits
//! for its end.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;

use super::bundle::{Hook, HookEvent};
use super::error::ReleaseError;
use super::follow::{self, HookOutput};
use super::{Release, apply};
use wait::{self, Expectation, Verdict, WaitError, conditions};

/// Number of a failed hook's last lines that its error repeats.
const LAST_LINES: usize = 12;

/// Runs one hook to its end.
pub(super) async fn run(
    release: &Release,
    hook: &Hook,
    event: HookEvent,
) -> Result<HookOutput, ReleaseError> {
    if hook.delete.before_creation {
        remove_earlier(release, hook).await?;
    }
    let api = apply::api(&release.client, &release.namespace, &hook.object);
    let params = PostParams::default();
    let created = apply::settled(|| api.create(&params, &hook.object.content)).await;
    created.map_err(|source| apply::error("create", &hook.object, source))?;

    let follower = follow::Follower::start(release, hook.object.kind(), hook.object.name());
    let ended = wait_for_end(release, hook).await;
    let output = follower.finish(ended.is_ok()).await;
    match ended {
        Ok(()) => Ok(output),
        Err(source) => {
            if hook.delete.on_failure {
                apply::delete(&release.client, &release.namespace, &hook.object).await?;
            }
            Err(failure(hook, event, &output, source))
        }
    }
}

async fn remove_earlier(release: &Release, hook: &Hook) -> Result<(), ReleaseError> {
    apply::delete(&release.client, &release.namespace, &hook.object).await?;
    let api = apply::api(&release.client, &release.namespace, &hook.object);
    let what = Expectation::new(hook.object.name(), "to be gone", release.timeout);
    let name = hook.object.name();
    let gone = wait::poll(what, GONE_INTERVAL, || async {
        match api.get_opt(name).await {
            Ok(None) => Verdict::Ready(()),
            Ok(Some(_)) => Verdict::NotYet("it is being deleted".to_owned()),
            Err(error) => Verdict::NotYet(error.to_string()),
        }
    });
    gone.await.map_err(|source| ReleaseError::Wait {
        what: format!("replace hook {name}"),
        source: Box::new(source),
    })
}

/// Interval at which to look if an earlier hook is gone. Its kind is dynamic, so it is polled
/// instead of watched.
const GONE_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

/// Waits for the hook's end. Like Helm, waits for Jobs and Pods; any other kind is done when it
/// exists.
async fn wait_for_end(release: &Release, hook: &Hook) -> Result<(), WaitError> {
    let name = hook.object.name();
    let what = |kind: &str| {
        Expectation::new(format!("{kind} {name}"), "to succeed", release.timeout)
            .pausing(release.timeline.deadline_pauses())
    };
    match hook.object.kind() {
        "Job" => {
            let jobs: Api<Job> = Api::namespaced(release.client.clone(), &release.namespace);
            wait::object(&jobs, name, what("job"), conditions::job_verdict).await
        }
        "Pod" => {
            let pods: Api<Pod> = Api::namespaced(release.client.clone(), &release.namespace);
            wait::object(&pods, name, what("pod"), conditions::one_shot_verdict).await
        }
        _ => Ok(()),
    }
}

fn failure(hook: &Hook, event: HookEvent, output: &HookOutput, source: WaitError) -> ReleaseError {
    let log = output.last_lines(LAST_LINES);
    ReleaseError::Hook {
        event: event.name(),
        hook: hook.object.name().to_owned(),
        waits_for: follow::waits_for(&log),
        log,
        source: Box::new(source),
    }
}
