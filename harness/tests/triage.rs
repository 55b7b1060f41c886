//! The triage on evidence of real failures, one for each rule, in `testdata/evidence`. The same
//! folder has the expected first sentences.
//!
//! Each case was kept by a trial that was made to fail, and holds the triage's input. After a new
//! rule or changed evidence, record all of them again:
//!
//! ```text
//! UPDATE_EVIDENCE=1 cargo test --workspace --test deployments -- broken
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::diagnostics::{Evidence, recognised, rules};

/// Rules with handwritten evidence, tested in their own unit tests.
const UNIT_TESTED: [&str; 14] = [
    "name_too_long",
    "program_is_missing",
    "out_of_memory",
    "sidecar_crashes",
    "service_port_is_closed",
    "pods_start_one_at_a_time",
    "password_ends_with_newline",
    "maxmemory_refuses_writes",
    "node_identity_is_lost",
    "field_is_immutable",
    "deployment_is_refused",
    "keys_were_evicted",
    "data_is_not_persistent",
    "persistence_is_off",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/evidence")
}

/// Returns the sentence of each rule; `*` stands for any text.
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

/// Returns true if `text` as a whole consists of the parts of `pattern` in order.
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
    let recorded = rules().filter(|rule| !UNIT_TESTED.contains(rule));
    let mut expected: Vec<String> = recorded.map(str::to_owned).collect();
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
        let found = recognised(&evidence(&rule));
        let (by, said) = found.map_or(("no rule", String::new()), |found| {
            (found.rule, found.cause.to_string())
        });
        if by != rule || !matches(&sentence, &said) {
            wrong.push_str(&format!("{rule}: {by} says {said:?}, not {sentence:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn without_its_evidence_no_cause_is_made_up() {
    for rule in sentences().into_keys() {
        let Evidence {
            failure, violations, ..
        } = evidence(&rule);
        let bare = Evidence {
            failure,
            violations,
            ..Evidence::default()
        };
        // The failure itself contains the awaited pod of a hook, and the defect of manifests.
        let told = ["hook_waits", "cluster_cannot_be_formed"];
        let found = recognised(&bare).map(|found| found.rule);
        assert!(
            found.is_none_or(|found| told.contains(&found)),
            "{rule}: {found:?}"
        );
    }
}

#[test]
fn each_recorded_failure_says_as_data_what_it_broke() {
    for rule in sentences().into_keys() {
        let evidence = evidence(&rule);
        let found = recognised(&evidence).expect("recognised");
        assert!(
            found.explained.contains(&0),
            "{rule} does not explain {:?}",
            evidence.violations.first()
        );
        assert_eq!(found.cause.id(), rule, "a rule and its cause have one name");
    }
}

#[test]
fn a_pattern_is_kept_from_its_beginning_to_its_end() {
    assert!(matches("pod * is *", "pod vk-0 is gone"));
    assert!(matches("pod * gone", "pod vk-0 is gone"));
    assert!(!matches("pod * is", "pod vk-0 is gone"));
    assert!(!matches("pod *", "the pod vk-0"));
}
