//! The label that identifies everything that a run makes.

/// The label that every namespace of a run carries, with the run's identifier as its value.
pub const RUN_LABEL: &str = "valkey-e2e/run";

/// Returns the label selector for everything that the run `run` makes.
pub fn run_selector(run: &str) -> String {
    format!("{RUN_LABEL}={run}")
}
