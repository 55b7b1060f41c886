//! Checks a tree of values against the table of parameters: unknown keys, types, ranges, words.

use serde_json::Value;

use super::error::ValueError;
use super::parameters::{find, is_section, keys_below};

/// The similarity (Jaro-Winkler, 0 to 1) from which a misspelt word resembles another.
const RESEMBLANCE: f64 = 0.75;

/// Returns the problems of the whole tree.
pub(super) fn problems(tree: &Value) -> Vec<ValueError> {
    let mut problems = Vec::new();
    walk("", tree, &mut problems);
    problems
}

/// Turns numbers into text where the chart prints text.
pub(super) fn normalise(tree: &mut Value) {
    for parameter in super::parameters::PARAMETERS {
        let pointer = format!("/{}", parameter.path.replace('.', "/"));
        if let Some(value) = tree.pointer_mut(&pointer) {
            parameter.kind.normalise(value);
        }
    }
}

/// Returns the word that `given` most likely stands for.
pub(super) fn nearest<'a>(given: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    // One typo in a word of three letters changes a third of it, but is still one typo.
    let is_one_slip = |word: &str| word.len() > 2 && strsim::osa_distance(&given, &word.to_lowercase()) == 1;
    words
        .map(|word| (word, strsim::jaro_winkler(&given, &word.to_lowercase())))
        .filter(|(word, resemblance)| *resemblance >= RESEMBLANCE || is_one_slip(word))
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(word, _)| word)
}

fn walk(path: &str, value: &Value, problems: &mut Vec<ValueError>) {
    let parameter = find(path);
    if !is_section(path) {
        let parameter = parameter.expect("only known paths are walked");
        problems.extend(parameter.kind.problems(path, value));
        return;
    }
    let Value::Object(map) = value else {
        problems.push(ValueError::invalid(
            path,
            value,
            format!("a table with {}", keys_below(path).join(", ")),
        ));
        return;
    };
    let before = problems.len();
    for (key, value) in map {
        let below = join(path, key);
        if find(&below).is_some() || is_section(&below) {
            walk(&below, value, problems);
        } else if parameter.is_none() {
            problems.push(unknown(path, key));
        }
    }
    // The README does not list every field of a table that Kubernetes defines. The API's own type
    // checks the others.
    if let Some(parameter) = parameter
        && problems.len() == before
    {
        problems.extend(parameter.kind.problems(path, value));
    }
}

fn unknown(section: &str, key: &str) -> ValueError {
    let nearest = nearest(key, keys_below(section).into_iter()).map(|key| join(section, key));
    let nearest = nearest.or_else(|| elsewhere(key));
    ValueError::Unknown {
        path: join(section, key),
        nearest,
    }
}

/// Returns the only parameter with this key: misplaced keys are the second most frequent mistake.
fn elsewhere(key: &str) -> Option<String> {
    let mut found = super::parameters::PARAMETERS
        .iter()
        .filter(|p| p.path.rsplit('.').next() == Some(key));
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only.path.to_owned()),
        _ => None,
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}
