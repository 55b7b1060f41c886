//! Our own manifests as the subject, deployed as Helm would. Hooks run by weight, patches are
//! server-side apply, and objects that a new revision lacks are deleted.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use manifests::{Mode, Values, ValuesInput, Variant};
use serde_json::Value;

use super::bundle::{Bundle, HookEvent};
use super::error::ReleaseError;
use super::follow::HookOutput;
use super::subject::{CASE_RELEASE, Deployed, Rendering, Subject, Versions};
use super::{Release, apply, order};

/// Our own manifests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Generated;

impl Subject for Generated {
    fn combination(&self, mode: Mode, variant: Variant) -> Values {
        Values::combination(mode, variant)
    }

    fn settled(&self, defaults: &Values) -> Values {
        defaults.clone()
    }

    fn excludes(&self, _: Mode, _: Variant) -> Option<String> {
        None
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    fn drains(&self, values: &Values) -> bool {
        values.cluster.drain_before_scale_down
    }

    fn makes_passwords(&self) -> bool {
        false
    }

    fn render<'a>(&'a self, what: Rendering<'a>) -> BoxFuture<'a, Result<Bundle, ReleaseError>> {
        async move {
            let rendered = manifests::render(what.release, what.wanted);
            Bundle::from_manifests(&rendered.map_err(|error| ReleaseError::Render(Box::new(error)))?)
        }
        .boxed()
    }

    fn expected(&self, values: &Values, _: &Bundle) -> Values {
        values.clone()
    }

    fn render_case<'a>(&'a self, settings: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Value>, ReleaseError>> {
        async move {
            let input = settings
                .iter()
                .copied()
                .fold(ValuesInput::new(), ValuesInput::set);
            let values = input
                .resolve()
                .map_err(|error| ReleaseError::Values(Box::new(error)))?;
            let release = manifests::Release::install(CASE_RELEASE.0, CASE_RELEASE.1);
            let rendered = manifests::render(&release, &values);
            let rendered = rendered.map_err(|error| ReleaseError::Render(Box::new(error)))?;
            let hooks = rendered.hooks.iter().map(manifests::Hook::to_value);
            Ok(rendered.objects().into_iter().chain(hooks).collect())
        }
        .boxed()
    }

    fn versions(&self) -> BoxFuture<'_, Result<Option<Versions>, ReleaseError>> {
        async { Ok(None) }.boxed()
    }

    fn install<'a>(&'a self, release: &'a Release) -> Deployed<'a> {
        async move {
            for object in &release.deployed.resources {
                apply::refuse_existing(&release.client, &release.namespace, object).await?;
            }
            let mut outputs = release.run_hooks(HookEvent::PreInstall).await?;
            apply_all(release).await?;
            outputs.extend(release.run_hooks(HookEvent::PostInstall).await?);
            Ok(outputs)
        }
        .boxed()
    }

    fn upgrade<'a>(&'a self, release: &'a Release, before: &'a Bundle) -> Deployed<'a> {
        replace(release, before, [HookEvent::PreUpgrade, HookEvent::PostUpgrade]).boxed()
    }

    fn roll_back<'a>(&'a self, release: &'a Release, before: &'a Bundle, _: u32) -> Deployed<'a> {
        replace(release, before, [HookEvent::PreRollback, HookEvent::PostRollback]).boxed()
    }

    fn test<'a>(&'a self, release: &'a Release) -> Deployed<'a> {
        release.run_hooks(HookEvent::Test).boxed()
    }

    fn uninstall<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<(), ReleaseError>> {
        async move {
            release.run_hooks(HookEvent::PreDelete).await?;
            for object in order::uninstall(&release.deployed.resources) {
                if !object.is_kept() {
                    release.delete(object).await?;
                }
            }
            release.run_hooks(HookEvent::PostDelete).await?;
            Ok(())
        }
        .boxed()
    }
}

async fn replace(
    release: &Release,
    old: &Bundle,
    [before, after]: [HookEvent; 2],
) -> Result<Vec<HookOutput>, ReleaseError> {
    let mut outputs = release.run_hooks(before).await?;
    apply_all(release).await?;
    let gone = old
        .resources
        .iter()
        .filter(|object| release.deployed.find(object).is_none());
    for object in gone.filter(|object| !object.is_kept()) {
        release.delete(object).await?;
    }
    outputs.extend(release.run_hooks(after).await?);
    Ok(outputs)
}

async fn apply_all(release: &Release) -> Result<(), ReleaseError> {
    for object in order::install(&release.deployed.resources) {
        apply::apply(&release.client, &release.namespace, object).await?;
    }
    Ok(())
}
