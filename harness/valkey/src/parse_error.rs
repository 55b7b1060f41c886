//! The parsers' error for a server's answer that is not as documented.

use serde::{Deserialize, Serialize};

/// A line that could not be parsed, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{command} line {line}: {problem}: {text:?}")]
pub struct ParseError {
    /// The command that the server answered.
    pub command: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The problem and the affected field.
    pub problem: String,
    /// The line as it arrived, cut to a readable length.
    pub text: String,
}

/// Number of characters of an offending line that an error repeats. A CLUSTER NODES line with many
/// slot ranges has thousands of characters.
const QUOTED_CHARS: usize = 160;

impl ParseError {
    pub(crate) fn new(command: &str, line: usize, problem: impl Into<String>, text: &str) -> Self {
        Self {
            command: command.to_owned(),
            line,
            problem: problem.into(),
            text: text.chars().take(QUOTED_CHARS).collect(),
        }
    }
}
