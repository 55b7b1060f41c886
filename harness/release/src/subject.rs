//! The subject under test: our own manifests or a chart on disk. No other code distinguishes the
//! two.

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use manifests::{Mode, Values, Variant};

use super::Release;
use super::bundle::Bundle;
use super::error::ReleaseError;
use super::follow::HookOutput;

/// A rendering request.
#[derive(Debug, Clone, Copy)]
pub struct Rendering<'a> {
    /// The release, its revision, and the password of its present or future Secret.
    pub release: &'a manifests::Release,
    /// The subject's own defaults, as the run and the trial's combination change them.
    pub defaults: &'a Values,
    /// The trial's values: the settled defaults and the scenario's changes.
    pub wanted: &'a Values,
}

/// The release and namespace of conformance cases.
pub const CASE_RELEASE: (&str, &str) = ("my-valkey", "prod");

/// The result of a verb.
pub type Deployed<'a> = BoxFuture<'a, Result<Vec<HookOutput>, ReleaseError>>;

/// An older and a newer version of the subject.
pub type Versions = (Arc<dyn Subject>, Arc<dyn Subject>);

/// A source of manifests, which also deploys them.
pub trait Subject: Debug + Send + Sync {
    /// Returns the subject's own defaults in one combination.
    fn combination(&self, mode: Mode, variant: Variant) -> Values;

    /// Returns `defaults` overridden by the user's values.
    fn settled(&self, defaults: &Values) -> Values;

    /// Returns the reason why the user's values exclude a combination, if they fix another one.
    fn excludes(&self, mode: Mode, variant: Variant) -> Option<String>;

    /// Returns the secrets among the user's values.
    fn secrets(&self) -> Vec<String>;

    /// Returns true if pods are drained before a scale-down removes them. The README promises only
    /// a failover.
    fn drains(&self, values: &Values) -> bool;

    /// Returns true if the subject itself generates a missing password, instead of using that of
    /// the [`Rendering`].
    fn makes_passwords(&self) -> bool;

    /// Renders all objects.
    fn render<'a>(&'a self, what: Rendering<'a>) -> BoxFuture<'a, Result<Bundle, ReleaseError>>;

    /// Returns the expected values of a deployment of `values`. Where the subject lacks a
    /// parameter, the rendered objects decide.
    fn expected(&self, values: &Values, bundle: &Bundle) -> Values;

    /// Renders one side of a conformance case: the README's defaults with `settings`, in the
    /// grammar of `--set`.
    fn render_case<'a>(
        &'a self,
        settings: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<serde_json::Value>, ReleaseError>>;

    /// Returns an older and a newer version for an upgrade, if there are two.
    fn versions(&self) -> BoxFuture<'_, Result<Option<Versions>, ReleaseError>>;

    /// Installs the release's last revision.
    fn install<'a>(&'a self, release: &'a Release) -> Deployed<'a>;

    /// Upgrades from `before` to the release's last revision.
    fn upgrade<'a>(&'a self, release: &'a Release, before: &'a Bundle) -> Deployed<'a>;

    /// Goes from `before` back to a revision, which is the content of the release's last one.
    fn roll_back<'a>(&'a self, release: &'a Release, before: &'a Bundle, revision: u32) -> Deployed<'a>;

    /// Runs the test hooks.
    fn test<'a>(&'a self, release: &'a Release) -> Deployed<'a>;

    /// Removes the release. Claims and failed hook Jobs stay.
    fn uninstall<'a>(&'a self, release: &'a Release) -> BoxFuture<'a, Result<(), ReleaseError>>;
}
