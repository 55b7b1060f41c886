//! The identity of a trial: its name for people, and its namespace for Kubernetes.

use std::borrow::Cow;
use std::fmt;

use manifests::{Mode, Variant};
use sha2::{Digest, Sha256};

/// Kubernetes' limit for the name of a namespace.
const NAMESPACE_LIMIT: usize = 63;

/// A scenario in one mode and variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialId {
    /// The suite's name.
    pub suite: &'static str,
    /// The scenario's name within its suite.
    pub scenario: Cow<'static, str>,
    /// One server, or a Valkey cluster.
    pub mode: Mode,
    /// The image variant that runs.
    pub variant: Variant,
}

impl TrialId {
    /// Returns the namespace of this trial in the run `run`. The name is readable, within the
    /// limit, and unique for each run and trial.
    pub fn namespace(&self, prefix: &str, run: &str) -> String {
        let readable = format!(
            "{}-{}-{}",
            self.scenario,
            self.mode.as_str(),
            self.variant.as_str()
        );
        let digest = Sha256::digest(format!("{run}/{self}"));
        let tail: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let readable = readable.to_lowercase().replace(|c: char| !fits(c), "-");
        let room = NAMESPACE_LIMIT - prefix.len() - "--".len() - tail.len();
        let readable = readable
            .get(..room.min(readable.len()))
            .unwrap_or_default()
            .trim_end_matches('-');
        format!("{prefix}-{readable}-{tail}")
    }

    /// Returns the folder name of this trial's evidence.
    pub fn folder(&self) -> String {
        self.to_string().replace("::", "-")
    }
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            suite,
            scenario,
            mode,
            variant,
        } = self;
        write!(f, "{suite}::{scenario}::{}-{}", mode.as_str(), variant.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(scenario: &'static str) -> TrialId {
        TrialId {
            suite: "formation",
            scenario: scenario.into(),
            mode: Mode::Cluster,
            variant: Variant::Hardened,
        }
    }

    #[test]
    fn names_are_what_people_type() {
        assert_eq!(id("forms").to_string(), "formation::forms::cluster-hardened");
        assert_eq!(id("forms").folder(), "formation-forms-cluster-hardened");
    }

    #[test]
    fn a_namespace_is_readable_valid_and_unique_to_run_and_trial() {
        let namespace = id("init_job_is_idempotent").namespace("vk", "r1");
        assert!(
            namespace.starts_with("vk-init-job-is-idempotent-cluster-hardened-"),
            "{namespace}"
        );
        assert_ne!(namespace, id("init_job_is_idempotent").namespace("vk", "r2"));
        assert_ne!(namespace, id("forms").namespace("vk", "r1"));
        let long = id("a_scenario_whose_name_is_much_longer_than_anybody_would_want_to_type_again")
            .namespace("vk", "r");
        assert!(long.len() <= NAMESPACE_LIMIT, "{long}");
        assert!(
            long.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{long}"
        );
    }
}
