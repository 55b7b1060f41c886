//! What a scenario is: a name, the combinations it fits, what it needs of a cluster, and an async function.

use harness::cluster::Capabilities;
use harness::trial::run::Body;
use manifests::{Mode, Variant};

/// Scenarios of one theme. Its file's `SUITE` constant is where a scenario is registered.
#[derive(Debug)]
pub struct Suite {
    /// Its name: the first part of a trial's name.
    pub name: &'static str,
    /// Its scenarios, in the order of their stories.
    pub scenarios: &'static [Scenario],
}

/// One story, told on every combination that it fits.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name: the second part of a trial's name.
    pub name: &'static str,
    /// Which combinations it fits. On others it does not exist: it is not listed, and not skipped.
    pub fits: fn(Mode, Variant) -> bool,
    /// What it needs that this cluster does not have, if anything: then it is skipped, with this reason.
    pub lacks: fn(&Capabilities) -> Option<String>,
    /// When it starts: one that starts last would be waited for alone.
    pub start: Start,
    /// The story.
    pub body: Body,
}

/// When a scenario starts among the others of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// Before all others: it watches for a minute at its end, while others use the machine.
    First,
    /// Before most others, because it takes long.
    Early,
    /// After these.
    Whenever,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Scenario`] of an async function over `&mut Context`, for the combinations that the second argument accepts.
/// A third argument says that it is `long`, or that it `holds`, watching for a minute at its end ([`Start`]).
#[macro_export]
macro_rules! scenario {
    ($function:ident, $fits:expr) => {
        $crate::scenario!(@ $function, $fits, Whenever)
    };
    ($function:ident, $fits:expr, long) => {
        $crate::scenario!(@ $function, $fits, Early)
    };
    ($function:ident, $fits:expr, holds) => {
        $crate::scenario!(@ $function, $fits, First)
    };
    (@ $function:ident, $fits:expr, $start:ident) => {
        $crate::scenario::Scenario {
            name: stringify!($function),
            fits: $fits,
            lacks: $crate::scenario::nothing,
            start: $crate::scenario::Start::$start,
            body: |context| Box::pin($function(context)),
        }
    };
}

/// For a scenario that fits every mode and variant.
pub fn everywhere(_: Mode, _: Variant) -> bool {
    true
}

/// For a scenario about Valkey clusters.
pub fn cluster_only(mode: Mode, _: Variant) -> bool {
    mode == Mode::Cluster
}

/// For a scenario that any cluster can run.
pub fn nothing(_: &Capabilities) -> Option<String> {
    None
}
