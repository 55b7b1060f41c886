//! A broken promise, as a check reports it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One promise that one subject does not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Violation {
    /// The check that found it.
    pub check: String,
    /// The subject: a pod, a slot range, a Service.
    pub subject: String,
    /// The promise.
    pub expected: String,
    /// The observation instead.
    pub seen: String,
    /// The pods from whose point of view it was found; empty when it is Kubernetes' or the
    /// harness's own.
    pub viewed_from: Vec<String>,
    /// The lines that prove it, as the servers or Kubernetes gave them.
    pub evidence: Vec<String>,
}

impl Violation {
    /// Creates a violation that the harness itself observed, without evidence yet.
    pub fn new(
        check: &str,
        subject: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self {
            check: check.to_owned(),
            subject: subject.into(),
            expected: expected.into(),
            seen: seen.into(),
            viewed_from: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// Adds `pod` as the source of the observation.
    #[must_use]
    pub fn from_pod(mut self, pod: &str) -> Self {
        self.viewed_from.push(pod.to_owned());
        self
    }

    /// Adds a line of evidence.
    #[must_use]
    pub fn with_evidence(mut self, line: impl Into<String>) -> Self {
        self.evidence.push(line.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: expected {}, saw {}",
            self.check, self.subject, self.expected, self.seen
        )?;
        match self.viewed_from.as_slice() {
            [] => {}
            [pod] => write!(f, " (as {pod} sees it)")?,
            [pods @ .., last] => write!(f, " (as {} and {last} see it)", pods.join(", "))?,
        }
        for line in &self.evidence {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// Merges equal violations seen by several nodes into one that names all the nodes. Keeps the order
/// of first appearance.
pub fn merge_views(violations: Vec<Violation>) -> Vec<Violation> {
    let mut merged: Vec<Violation> = Vec::new();
    let mut positions: BTreeMap<(String, String, String, String), usize> = BTreeMap::new();
    for violation in violations {
        let key = (
            violation.check.clone(),
            violation.subject.clone(),
            violation.expected.clone(),
            violation.seen.clone(),
        );
        if let Some(&position) = positions.get(&key) {
            let first = &mut merged[position];
            first.viewed_from.extend(violation.viewed_from);
            first.evidence.extend(violation.evidence);
            first.evidence.dedup();
        } else {
            positions.insert(key, merged.len());
            merged.push(violation);
        }
    }
    merged
}
