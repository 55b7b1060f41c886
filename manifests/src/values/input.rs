//! The user's values (`-f` files and `--set`), laid over the chart's defaults in Helm's order.

use serde_json::{Map, Value};

use super::error::ValuesError;
use super::{Values, merge, set, validation};

/// The given values, in order. [`resolve`](Self::resolve) yields [`Values`] or every error.
#[derive(Debug, Clone, Default)]
pub struct ValuesInput {
    files: Vec<(String, String)>,
    sets: Vec<String>,
}

impl ValuesInput {
    /// Returns an empty input: the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a values file: its name, for messages, and its text. Later files win.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Adds a `--set` argument. It wins over all files and over earlier arguments.
    #[must_use]
    pub fn set(mut self, argument: impl Into<String>) -> Self {
        self.sets.push(argument.into());
        self
    }

    /// Lays all given values over the defaults and checks the result.
    ///
    /// # Errors
    /// Returns the file that is not YAML, the `--set` outside Helm's grammar, or all problems of
    /// all parameters.
    pub fn resolve(&self) -> Result<Values, ValuesError> {
        resolve_over(&Values::default(), self.given()?)
    }

    /// Merges all given values, without the defaults.
    fn given(&self) -> Result<Map<String, Value>, ValuesError> {
        let mut given = Value::Object(Map::new());
        for (name, text) in &self.files {
            merge::overlay(&mut given, parse(name, text)?);
        }
        for (index, argument) in self.sets.iter().enumerate() {
            set::apply(&mut given, argument).map_err(|reason| ValuesError::Set {
                position: index + 1,
                reason,
            })?;
        }
        match given {
            Value::Object(given) => Ok(given),
            _ => unreachable!("only tables are laid over a table, and every --set has a key"),
        }
    }
}

/// Lays the given values over `base`, and checks the result.
fn resolve_over(base: &Values, given: Map<String, Value>) -> Result<Values, ValuesError> {
    let mut tree = serde_json::to_value(base).expect("values are plain JSON");
    merge::overlay(&mut tree, Value::Object(given));
    merge::delete_nulls(&mut tree);
    validation::normalise(&mut tree);
    let problems = validation::problems(&tree);
    if !problems.is_empty() {
        return Err(ValuesError::Invalid(problems));
    }
    let values: Values = serde_json::from_value(tree).expect("validated values fit their types");
    let problems = values.problems();
    if problems.is_empty() {
        Ok(values)
    } else {
        Err(ValuesError::Invalid(problems))
    }
}

fn parse(name: &str, text: &str) -> Result<Value, ValuesError> {
    let value: Value = serde_yaml::from_str(text).map_err(|source| ValuesError::Syntax {
        name: name.to_owned(),
        source,
    })?;
    let found = match value {
        Value::Object(_) => return Ok(value),
        // As in Helm, a file with only comments is an empty table.
        Value::Null => return Ok(Value::Object(Map::new())),
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
    };
    Err(ValuesError::NotATable {
        name: name.to_owned(),
        found,
    })
}
