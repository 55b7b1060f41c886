//! The definition of a scenario: a name, the combinations that it fits, its start, and an async
//! function.

use harness::lifecycle::PlainBody;
use manifests::{Mode, Variant};

/// Scenarios of one theme. A scenario is registered in the `SUITE` constant of its file.
#[derive(Debug)]
pub struct Suite {
    /// The first part of a trial's name.
    pub name: &'static str,
    /// The scenarios, in the order of the report.
    pub scenarios: &'static [Scenario],
}

/// One test body, run on every combination that it fits.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// The second part of a trial's name.
    pub name: &'static str,
    /// Combinations that the scenario fits. On other combinations it is neither listed nor skipped.
    pub fits: fn(Mode, Variant) -> bool,
    /// The place of the scenario in the order of starts.
    pub start: Start,
    /// The test body.
    pub body: PlainBody,
}

/// The place of a scenario in the starting order of a run. Long trials start first, because a long
/// trial that starts last would run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// Before all others: the scenario watches for a minute at its end, while others use the
    /// machine.
    First,
    /// Before most others: the scenario takes long.
    Early,
    /// After all others.
    Whenever,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Scenario`] of an async function over `&mut Context`. The second argument selects the
/// combinations. The third is optional: `long`, or `holds` for a scenario that watches for a minute
/// at its end ([`Start`]).
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
            start: $crate::scenario::Start::$start,
            body: |context| Box::pin($function(context)),
        }
    };
}

/// Fits every mode and variant.
pub fn everywhere(_: Mode, _: Variant) -> bool {
    true
}

/// Fits Valkey clusters only.
pub fn cluster_only(mode: Mode, _: Variant) -> bool {
    mode == Mode::Cluster
}

/// Fits each mode once, for a result that does not depend on the image.
pub fn once_per_mode(_: Mode, variant: Variant) -> bool {
    variant == Variant::Rpm
}
