//! A broken promise, as a check reports it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One promise that one subject does not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The check that found it.
    pub check: String,
    /// What it is about: a pod, a slot range, a Service.
    pub subject: String,
    /// What was promised.
    pub expected: String,
    /// What was found instead.
    pub seen: String,
    /// The pod from whose point of view it was found, when there is one.
    pub viewed_from: Option<String>,
    /// The lines that prove it, as the servers or Kubernetes gave them.
    pub evidence: Vec<String>,
}

impl Violation {
    /// A violation seen by the harness itself, without evidence yet.
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
            viewed_from: None,
            evidence: Vec::new(),
        }
    }

    /// The same, found in what `pod` said.
    #[must_use]
    pub fn from_pod(mut self, pod: &str) -> Self {
        self.viewed_from = Some(pod.to_owned());
        self
    }

    /// The same, with a line of evidence more.
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
        if let Some(pod) = &self.viewed_from {
            write!(f, " (as {pod} sees it)")?;
        }
        for line in &self.evidence {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}
