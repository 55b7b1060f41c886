//! What `helm` does for a release: the verbs of [`Release`], on a chart. The hooks' output is read while they run, as for
//! our own manifests, and a state that does not heal ends the waiting.

use std::time::Duration;

use tokio::process::Command;

use super::super::follow::{self, Follower};
use super::super::{Hook, HookEvent, HookOutput, Release, ReleaseError, order};
use super::{Chart, ChartError};

/// How much longer than its own `--timeout` `helm` may take to say that it has passed.
const GRACE: Duration = Duration::from_secs(15);

/// How many of a failed hook's last lines are repeated.
const LAST_LINES: usize = 12;

impl Release {
    /// `helm upgrade --install`.
    pub(in super::super) async fn helm_deploy(
        &self,
        chart: &Chart,
        events: [HookEvent; 2],
    ) -> Result<Vec<HookOutput>, ReleaseError> {
        let mut command = chart.helm.command("upgrade");
        command.arg("--install").arg(&self.name).arg(&chart.folder);
        if let Some(values) = &self.deployed.values {
            command.arg("--values").arg(values.path());
        }
        self.helm(chart, command, &events).await
    }

    /// `helm rollback` to a revision.
    pub(in super::super) async fn helm_rollback(
        &self,
        chart: &Chart,
        revision: u32,
    ) -> Result<Vec<HookOutput>, ReleaseError> {
        let mut command = chart.helm.command("rollback");
        command.arg(&self.name).arg(revision.to_string());
        self.helm(chart, command, &[HookEvent::PreRollback, HookEvent::PostRollback])
            .await
    }

    /// `helm test`.
    pub(in super::super) async fn helm_test(&self, chart: &Chart) -> Result<Vec<HookOutput>, ReleaseError> {
        let mut command = chart.helm.command("test");
        command.arg(&self.name);
        self.helm(chart, command, &[HookEvent::Test]).await
    }

    /// `helm uninstall`.
    pub(in super::super) async fn helm_uninstall(&self, chart: &Chart) -> Result<(), ReleaseError> {
        let mut command = chart.helm.command("uninstall");
        command.arg(&self.name);
        self.helm(chart, command, &[HookEvent::PreDelete, HookEvent::PostDelete])
            .await
            .map(drop)
    }

    async fn helm(
        &self,
        chart: &Chart,
        mut command: Command,
        events: &[HookEvent],
    ) -> Result<Vec<HookOutput>, ReleaseError> {
        let seconds = self.timeout.as_secs().max(1);
        command
            .arg("--namespace")
            .arg(&self.namespace)
            .arg("--timeout")
            .arg(format!("{seconds}s"));
        let mut followed: Vec<(HookEvent, &Hook, Follower)> = Vec::new();
        for event in events {
            for hook in order::hooks_of(&self.deployed.hooks, *event) {
                let (kind, name) = (hook.object.kind(), hook.object.name());
                followed.push((*event, hook, Follower::start(self, kind, name)));
            }
        }
        let ran = tokio::select! {
            biased;
            ran = tokio::time::timeout(self.timeout + GRACE, chart.helm.run(command)) => ran.unwrap_or_else(|_| Err(out_of_time(seconds))),
            doomed = self.doomed() => return Err(doomed),
            unformed = self.cannot_be_formed(events[events.len() - 1]) => return Err(unformed),
        };
        let mut outputs = Vec::new();
        let mut last = None;
        for (event, hook, follower) in followed {
            let output = follower.finish(ran.is_ok()).await;
            if !output.lines.is_empty() {
                last = Some((
                    event,
                    hook.object.name().to_owned(),
                    output.last_lines(LAST_LINES),
                ));
            }
            outputs.push(output);
        }
        match ran {
            Ok(_) => Ok(outputs),
            Err(error) => Err(failure(error, last)),
        }
    }
}

fn out_of_time(seconds: u64) -> ChartError {
    ChartError::Refused {
        verb: "itself".to_owned(),
        said: format!("it did not end within its own --timeout of {seconds} s"),
    }
}

/// What `helm` says, and the last words of the hook that ran when it failed, if it speaks of hooks.
fn failure(error: ChartError, last: Option<(HookEvent, String, Vec<String>)>) -> ReleaseError {
    // A test is a hook, although helm does not call it one.
    let about_hooks = matches!(&error, ChartError::Refused { verb, said }
        if verb == "test" || ["hook", "timed out", "deadline"].iter().any(|word| said.contains(word)));
    match last.filter(|_| about_hooks) {
        Some((event, hook, log)) => ReleaseError::HelmHook {
            event: event.name(),
            hook,
            waits_for: follow::waits_for(&log),
            log,
            source: Box::new(error),
        },
        None => ReleaseError::Chart(Box::new(error)),
    }
}
