//! A defect of a deployment, with every way to produce it.

use ::manifests::{Mode, Variant};
use harness::lifecycle::PlainBody;
use harness::release::Bundle;

use super::finding::Finding;

/// A defect of a deployment.
#[derive(Clone, Copy)]
pub(super) struct Breakage {
    pub(super) name: &'static str,
    pub(super) mode: Mode,
    pub(super) variant: Variant,
    /// The finding that names the defect, however it was produced.
    pub(super) finding: Finding,
    /// The way of the defect into our own manifests.
    pub(super) generated: Option<Generated>,
    /// The name of the patch for the example chart, and the act that shows the defect.
    pub(super) patch: Option<(&'static str, Act)>,
    /// The rule of the triage that recognises the defect.
    pub(super) rule: Option<&'static str>,
    /// True if the deployment is known never to become healthy.
    pub(super) never_healthy: bool,
    /// True if the namespace enforces a Pod Security level. Otherwise admission lets the defect
    /// pass, and the checks must find it.
    pub(super) pod_security: bool,
}

/// The way of a defect into our own manifests.
#[derive(Clone, Copy)]
pub(super) enum Generated {
    /// The rendered objects are changed.
    Manifests(fn(&mut Bundle)),
    /// An operation goes wrong.
    Operation(PlainBody),
}

/// The act on a patched chart.
#[derive(Clone, Copy)]
pub(super) enum Act {
    /// The chart is installed, and everything is checked.
    Deploy,
    /// The chart is installed with this values file, and everything is checked.
    DeployWith(&'static str),
    /// The release is upgraded without a password.
    Upgrade,
    /// The cases of a parameter are rendered.
    Parameter(&'static str),
    /// A scenario of the suite runs.
    Scenario(&'static str),
}

impl Breakage {
    pub(super) const fn new(name: &'static str, mode: Mode, variant: Variant, finding: Finding) -> Self {
        Self {
            name,
            mode,
            variant,
            finding,
            generated: None,
            patch: None,
            rule: None,
            never_healthy: false,
            pod_security: false,
        }
    }

    pub(super) const fn manifests(self, change: fn(&mut Bundle)) -> Self {
        Self {
            generated: Some(Generated::Manifests(change)),
            ..self
        }
    }

    pub(super) const fn operation(self, body: PlainBody) -> Self {
        Self {
            generated: Some(Generated::Operation(body)),
            ..self
        }
    }

    pub(super) const fn patch(self, name: &'static str) -> Self {
        self.patch_for(name, Act::Deploy)
    }

    pub(super) const fn patch_for(self, name: &'static str, act: Act) -> Self {
        Self {
            patch: Some((name, act)),
            ..self
        }
    }

    pub(super) const fn rule(self, rule: &'static str) -> Self {
        Self {
            rule: Some(rule),
            ..self
        }
    }

    pub(super) const fn never_healthy(self) -> Self {
        Self {
            never_healthy: true,
            ..self
        }
    }

    pub(super) const fn under_pod_security(self) -> Self {
        Self {
            pod_security: true,
            ..self
        }
    }
}
