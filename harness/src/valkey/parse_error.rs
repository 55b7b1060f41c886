//! What a parser says when a server's answer is not what the documentation promises.

use serde::{Deserialize, Serialize};

/// A line that could not be understood, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{command} line {line}: {problem}: {text:?}")]
pub struct ParseError {
    /// The command whose answer this is.
    pub command: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it, and with which field.
    pub problem: String,
    /// The line as it came, cut to a readable length.
    pub text: String,
}

/// How much of an offending line an error repeats: a CLUSTER NODES line with many slot ranges has thousands of characters.
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
