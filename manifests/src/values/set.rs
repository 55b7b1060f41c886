//! Helm's `--set` grammar: `a.b=1,list[0].name=x,words={x,y}`, with `\` to escape a character.
//!
//! Types follow Helm: `true` and `false` are booleans, and `null` deletes. Whole numbers without a
//! leading zero are numbers. Everything else is text.

use std::ops::Range;

use serde_json::{Map, Value};

/// The largest list index, as in Helm. A typo must not allocate a gigabyte.
const MAX_INDEX: usize = 65_536;

/// One assignment of an argument, with its position in characters.
pub(super) struct Assignment {
    path: Vec<Step>,
    /// The assigned value.
    pub(super) value: Value,
    /// The assignment's range, without the comma that ends it.
    pub(super) place: Range<usize>,
    /// The position at which the value begins.
    pub(super) value_at: usize,
}

impl Assignment {
    /// Returns the path without list indices: `extraEnv.value` for `extraEnv[0].value`.
    pub(super) fn keys(&self) -> String {
        let keys = self.path.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.collect::<Vec<_>>().join(".")
    }
}

/// One step of a path.
#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Applies every assignment of one `--set` argument to `tree`.
///
/// # Errors
/// Returns the problem with the text, without quoting it, as the text may hold a password.
pub(super) fn apply(tree: &mut Value, argument: &str) -> Result<(), String> {
    for Assignment { path, value, .. } in assignments(argument)? {
        insert(tree, &path, value)?;
    }
    Ok(())
}

/// Returns every assignment of one `--set` argument, in order.
///
/// # Errors
/// Returns the problem with the text, without quoting it, as the text may hold a password.
pub(super) fn assignments(argument: &str) -> Result<Vec<Assignment>, String> {
    let characters: Vec<char> = argument.chars().collect();
    let length = characters.len();
    let mut text = Characters {
        rest: characters.into_iter().peekable(),
    };
    let mut found = Vec::new();
    while text.rest.peek().is_some() {
        let start = length - text.rest.len();
        let path = text.path()?;
        let value_at = length - text.rest.len();
        let value = text.value()?;
        // The parser reads the comma with the value before it. The last value may have none.
        let comma = usize::from(text.rest.len() > 0 || argument.ends_with(',') && !argument.ends_with("\\,"));
        found.push(Assignment {
            path,
            value,
            place: start..length - text.rest.len() - comma,
            value_at,
        });
    }
    Ok(found)
}

struct Characters {
    rest: std::iter::Peekable<std::vec::IntoIter<char>>,
}

impl Characters {
    /// Reads up to and including the `=`.
    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut path = Vec::new();
        loop {
            let (key, end) = self.word(&['.', '[', '=', ',']);
            let after_index = matches!(path.last(), Some(Step::Index(_))) && key.is_empty();
            if !key.is_empty() {
                path.push(Step::Key(key));
            } else if !(after_index && matches!(end, Some('.' | '[' | '='))) {
                return Err("a key is empty".to_owned());
            }
            match end {
                Some('.') => {}
                Some('[') => path.push(Step::Index(self.index()?)),
                Some('=') => return Ok(path),
                _ => return Err(format!("key {} has no value: write key=value", shown(&path))),
            }
        }
    }

    fn index(&mut self) -> Result<usize, String> {
        let (digits, end) = self.word(&[']']);
        if end.is_none() {
            return Err("a list index lacks its closing bracket".to_owned());
        }
        let index = digits
            .parse()
            .map_err(|_| "a list index is not a number".to_owned())?;
        if index <= MAX_INDEX {
            Ok(index)
        } else {
            Err(format!("list index {index} is above {MAX_INDEX}"))
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.rest.peek() == Some(&'{') {
            self.rest.next();
            return self.list();
        }
        let (text, _) = self.word(&[',']);
        Ok(typed(&text))
    }

    fn list(&mut self) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            let (text, end) = self.word(&[',', '}']);
            match end {
                Some(',') => list.push(typed(&text)),
                Some('}') => {
                    if !(list.is_empty() && text.is_empty()) {
                        list.push(typed(&text));
                    }
                    break;
                }
                _ => return Err("a list lacks its closing brace".to_owned()),
            }
        }
        match self.rest.next() {
            None | Some(',') => Ok(Value::Array(list)),
            Some(_) => Err("a list is followed by something other than a comma".to_owned()),
        }
    }

    /// Reads up to one of `ends`, which is consumed and returned.
    fn word(&mut self, ends: &[char]) -> (String, Option<char>) {
        let mut word = String::new();
        while let Some(character) = self.rest.next() {
            match character {
                '\\' => word.extend(self.rest.next()),
                end if ends.contains(&end) => return (word, Some(end)),
                other => word.push(other),
            }
        }
        (word, None)
    }
}

fn typed(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        _ if text != "0" && text.starts_with('0') => Value::String(text.to_owned()),
        _ => text
            .parse::<i64>()
            .map_or_else(|_| Value::String(text.to_owned()), Value::from),
    }
}

fn insert(tree: &mut Value, path: &[Step], value: Value) -> Result<(), String> {
    let Some((step, rest)) = path.split_first() else {
        *tree = value;
        return Ok(());
    };
    let place = match step {
        Step::Key(key) => {
            if tree.is_null() {
                *tree = Value::Object(Map::new());
            }
            let map = tree
                .as_object_mut()
                .ok_or_else(|| format!("{} is not a table", shown(path)))?;
            map.entry(key.clone()).or_insert(Value::Null)
        }
        Step::Index(index) => {
            if tree.is_null() {
                *tree = Value::Array(Vec::new());
            }
            let list = tree
                .as_array_mut()
                .ok_or_else(|| format!("{} is not in a list", shown(path)))?;
            if list.len() <= *index {
                list.resize(index + 1, Value::Null);
            }
            &mut list[*index]
        }
    };
    insert(place, rest, value)
}

fn shown(path: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Key(key) => format!(".{key}"),
        Step::Index(index) => format!("[{index}]"),
    };
    let text: String = path.iter().map(step).collect();
    text.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn set(argument: &str) -> Result<Value, String> {
        let mut tree = json!({});
        apply(&mut tree, argument).map(|()| tree)
    }

    #[rstest]
    #[case("a=1", json!({"a": 1}))]
    #[case("a.b=true,c=false", json!({"a": {"b": true}, "c": false}))]
    #[case("a=null", json!({"a": null}))]
    #[case("a=", json!({"a": ""}))]
    #[case("a=0123", json!({"a": "0123"}))]
    #[case("a=0", json!({"a": 0}))]
    #[case("a=-5", json!({"a": -5}))]
    #[case("a=1.5", json!({"a": "1.5"}))]
    #[case("a=x=y", json!({"a": "x=y"}))]
    #[case(r"a=x\,y", json!({"a": "x,y"}))]
    #[case(r"nodeSelector.kubernetes\.io/role=db", json!({"nodeSelector": {"kubernetes.io/role": "db"}}))]
    #[case("a={x,2,}", json!({"a": ["x", 2, ""]}))]
    #[case("a={},b=1", json!({"a": [], "b": 1}))]
    #[case("a[1]=x", json!({"a": [null, "x"]}))]
    #[case("a[0].name=x,a[0].key=y", json!({"a": [{"name": "x", "key": "y"}]}))]
    #[case("a[0][1]=z", json!({"a": [[null, "z"]]}))]
    fn helms_grammar(#[case] argument: &str, #[case] expected: Value) {
        assert_eq!(set(argument).expect("valid"), expected);
    }

    #[rstest]
    #[case("a", "has no value")]
    #[case("a,b=1", "has no value")]
    #[case("=1", "key is empty")]
    #[case("a..b=1", "key is empty")]
    #[case("a[x]=1", "not a number")]
    #[case("a[0=1", "closing bracket")]
    #[case("a={x", "closing brace")]
    #[case("a[70000]=1", "above 65536")]
    #[case("a=1,a.b=2", "is not a table")]
    fn what_does_not_parse_says_why(#[case] argument: &str, #[case] reason: &str) {
        let error = set(argument).expect_err("invalid");
        assert!(error.contains(reason), "{error}");
    }

    proptest! {
        #[test]
        fn no_argument_panics(argument in "[a-z.,=\\[\\]{}\\\\0-9]{0,40}") {
            let _ = set(&argument);
        }
    }
}
