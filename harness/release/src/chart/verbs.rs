//! Helm's verbs for a [`Release`] of a chart. The hooks' output is read while they run, as for our
//! own manifests. A terminal state ends the wait.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use manifests::values::secrets_in;
use manifests::{Mode, Values, Variant};
use serde_json::Value;
use tokio::process::Command;

use super::super::follow::{self, Follower};
use super::super::subject::{CASE_RELEASE, Deployed, Rendering, Subject, Versions};
use super::super::{Bundle, Hook, HookEvent, HookOutput, Release, ReleaseError, order, rendered};
use super::{Chart, ChartError};

/// Time beyond its own `--timeout` that `helm` may take to report the timeout.
const GRACE: Duration = Duration::from_secs(15);

/// Number of a failed hook's last lines that the error repeats.
const LAST_LINES: usize = 12;

impl Subject for Chart {
    fn combination(&self, mode: Mode, variant: Variant) -> Values {
        Self::combination(self, mode, variant)
    }

    fn settled(&self, defaults: &Values) -> Values {
        Self::settled(self, defaults)
    }

    fn excludes(&self, mode: Mode, variant: Variant) -> Option<String> {
        let given = self.given();
        let fixed = [
            ("mode", &given["mode"], mode.as_str()),
            ("image.variant", &given["image"]["variant"], variant.as_str()),
        ];
        let (parameter, other) = fixed.into_iter().find_map(|(parameter, given, own)| {
            let given = given.as_str().filter(|given| *given != own)?;
            Some((parameter, given))
        })?;
        Some(format!("the given values set {parameter} to {other}"))
    }

    fn secrets(&self) -> Vec<String> {
        secrets_in(self.given())
    }

    fn drains(&self, values: &Values) -> bool {
        self.trees.own.pointer(super::OURS).is_some() && values.cluster.drain_before_scale_down
    }

    fn makes_passwords(&self) -> bool {
        true
    }

    fn render<'a>(&'a self, what: Rendering<'a>) -> BoxFuture<'a, Result<Bundle, ReleaseError>> {
        async move {
            let (name, namespace) = (&what.release.name, &what.release.namespace);
            let rendered = Self::render(self, name, namespace, what.defaults, what.wanted).await;
            rendered.map_err(|error| ReleaseError::Chart(Box::new(error)))
        }
        .boxed()
    }

    fn expected(&self, values: &Values, bundle: &Bundle) -> Values {
        rendered::expected(values, bundle, |parameter| self.has(parameter))
    }

    fn render_case<'a>(&'a self, settings: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Value>, ReleaseError>> {
        async move {
            let rendered = self
                .objects_of_case(CASE_RELEASE.0, CASE_RELEASE.1, settings)
                .await;
            rendered.map_err(|error| ReleaseError::Chart(Box::new(error)))
        }
        .boxed()
    }

    fn versions(&self) -> BoxFuture<'_, Result<Option<Versions>, ReleaseError>> {
        async move {
            let versions = Self::versions(self).await;
            let (older, newer) = versions.map_err(|error| ReleaseError::Chart(Box::new(error)))?;
            Ok(Some((older as _, newer as _)))
        }
        .boxed()
    }

    fn install<'a>(&'a self, release: &'a Release) -> Deployed<'a> {
        let events = [HookEvent::PreInstall, HookEvent::PostInstall];
        release.helm_deploy(self, events).boxed()
    }

    fn upgrade<'a>(&'a self, release: &'a Release, _: &'a Bundle) -> Deployed<'a> {
        let events = [HookEvent::PreUpgrade, HookEvent::PostUpgrade];
        release.helm_deploy(self, events).boxed()
    }

    fn roll_back<'a>(&'a self, release: &'a Release, _: &'a Bundle, revision: u32) -> Deployed<'a> {
        let mut command = self.helm.command("rollback");
        command.arg(&release.name).arg(revision.to_string());
        let events = &[HookEvent::PreRollback, HookEvent::PostRollback];
        release.helm(self, command, events).boxed()
    }

    fn test<'a>(&'a self, release: &'a Release) -> Deployed<'a> {
        let mut command = self.helm.command("test");
        command.arg(&release.name);
        release.helm(self, command, &[HookEvent::Test]).boxed()
    }

    fn uninstall<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<(), ReleaseError>> {
        let mut command = self.helm.command("uninstall");
        command.arg(&release.name);
        async move {
            let events = [HookEvent::PreDelete, HookEvent::PostDelete];
            release.helm(self, command, &events).await.map(drop)
        }
        .boxed()
    }
}

impl Release {
    /// Runs `helm upgrade --install`.
    async fn helm_deploy(
        &self,
        chart: &Chart,
        events: [HookEvent; 2],
    ) -> Result<Vec<HookOutput>, ReleaseError> {
        let mut command = chart.helm.command("upgrade");
        command.arg("--install").arg(&self.name).arg(&chart.path);
        if let Some(values) = &self.deployed.values {
            values.add_to(&mut command);
        }
        self.helm(chart, command, &events).await
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
            state = self.terminal_state() => return Err(state),
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

/// Builds an error from helm's message. If it is about hooks, adds the last lines of the failed
/// hook.
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
