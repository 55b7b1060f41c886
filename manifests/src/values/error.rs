//! Problems of values, one entry for each parameter, all reported together.

use std::fmt;

/// The reason that values could not be read. [`ValuesError::Invalid`] carries every problem.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// A file is not YAML.
    #[error("parse values file {name}")]
    Syntax {
        /// The file, as the user specified it.
        name: String,
        /// The position and the reason.
        source: serde_yaml::Error,
    },
    /// A file holds something other than a table of parameters.
    #[error("values file {name} holds {found} where a table of parameters is needed")]
    NotATable {
        /// The file, as the user specified it.
        name: String,
        /// The kind of value found.
        found: &'static str,
    },
    /// A `--set` argument does not follow Helm's grammar.
    #[error("parse --set argument {position}: {reason}")]
    Set {
        /// The position of the `--set`, counted from 1. The text may hold a password and is not
        /// shown.
        position: usize,
        /// The problem.
        reason: String,
    },
    /// Parameters are unknown, mistyped, out of range or contradictory.
    #[error("{} in values:{}", count(.0.len()), listed(.0))]
    Invalid(Vec<ValueError>),
}

/// One problem with one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueError {
    /// The parameter does not exist.
    Unknown {
        /// The full dotted path.
        path: String,
        /// The path of the nearest parameter at the same place.
        nearest: Option<String>,
    },
    /// The parameter exists, but its value does not fit.
    Invalid {
        /// The full dotted path.
        path: String,
        /// The given value, as JSON; never a password.
        given: String,
        /// The allowed values.
        allowed: String,
        /// The remedy, if there is more to say.
        hint: Option<String>,
    },
}

impl ValueError {
    /// Returns the problem of a value that does not fit.
    pub(super) fn invalid(path: &str, given: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            given: given.to_string(),
            allowed: allowed.into(),
            hint: None,
        }
    }

    /// Adds a hint.
    pub(super) fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Invalid { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Returns the dotted path of the parameter.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Unknown { path, .. } | Self::Invalid { path, .. } => path,
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { path, nearest } => {
                let key = path.rsplit('.').next().unwrap_or(path);
                write!(f, "{path}: unknown key {key:?}")?;
                match nearest {
                    Some(nearest) => write!(f, ", did you mean {nearest}?"),
                    None => Ok(()),
                }
            }
            Self::Invalid {
                path,
                given,
                allowed,
                hint,
            } => {
                write!(f, "{path}: {given} given, allowed: {allowed}")?;
                match hint {
                    Some(hint) => write!(f, " ({hint})"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn count(problems: usize) -> String {
    if problems == 1 {
        "1 problem".to_owned()
    } else {
        format!("{problems} problems")
    }
}

fn listed(problems: &[ValueError]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
