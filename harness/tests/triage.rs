//! The triage over evidence of real failures: one for each of its rules, in `testdata/evidence`, and beside them the sentences
//! that a person must read first.
//!
//! Each was kept by a trial that was made to fail, and holds what the triage reads. To take all of them anew, after a rule
//! has come or the evidence has changed:
//!
//! ```text
//! UPDATE_EVIDENCE=1 cargo test -p scenarios --test evidence
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::diagnostics::{Evidence, recognised, rules, triage};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/evidence")
}

/// By rule, what it says; `*` stands for anything.
fn sentences() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join("sentences.txt")).expect("the sentences are there");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(": ").expect("a rule and its sentence"))
        .map(|(rule, sentence)| (rule.to_owned(), sentence.to_owned()))
        .collect()
}

fn evidence(rule: &str) -> Evidence {
    let file = folder().join(format!("{rule}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Whether `text` has the parts of `pattern` in their order, from its beginning to its end.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || pattern.ends_with('*')
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let known: Vec<String> = sentences().into_keys().collect();
    let mut expected: Vec<String> = rules().map(str::to_owned).collect();
    expected.sort();
    assert_eq!(known, expected, "rules and sentences.txt differ");
    for file in std::fs::read_dir(folder())
        .expect("the folder is there")
        .flatten()
    {
        let name = file.file_name().to_string_lossy().into_owned();
        let rule = name.trim_end_matches(".json");
        assert!(
            name == "sentences.txt" || known.iter().any(|known| known == rule),
            "{name} belongs to no rule"
        );
    }
}

#[test]
fn each_failure_is_recognised_by_its_rule_and_told_in_its_words() {
    let mut wrong = String::new();
    for (rule, sentence) in sentences() {
        let (recognised_by, said) =
            recognised(&evidence(&rule)).unwrap_or_else(|| panic!("no rule knows the evidence of {rule}"));
        if recognised_by != rule || !matches(&sentence, &said) {
            wrong.push_str(&format!(
                "{rule}: {recognised_by} says {said:?}, not {sentence:?}\n"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn without_its_evidence_no_cause_is_made_up() {
    for rule in rules() {
        let bare = Evidence {
            error: evidence(rule).error,
            ..Evidence::default()
        };
        let said = triage(&bare);
        // What a hook waits for is in the error itself, and so is what is wrong with the manifests.
        let told = ["the hook ", "no cluster can be formed: "];
        let from_error = said
            .as_deref()
            .is_none_or(|said| told.iter().any(|told| said.starts_with(told)));
        assert!(from_error, "{rule}: {said:?}");
    }
}

#[test]
fn a_pattern_is_kept_from_its_beginning_to_its_end() {
    assert!(matches("pod * is *", "pod vk-0 is gone"));
    assert!(matches("pod * gone", "pod vk-0 is gone"));
    assert!(!matches("pod * is", "pod vk-0 is gone"));
    assert!(!matches("pod *", "the pod vk-0"));
}
