//! `junit.xml` conforms to the schema of Jenkins' xUnit plugin (`junit-10.xsd`), and its counts are
//! right. Surefire, pytest's `xunit2`, and the importers of GitLab and GitHub's actions follow that
//! schema.

use std::collections::BTreeMap;
use std::path::Path;

use harness::report::{Outcome, RunReport, file, junit};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// The attributes and children that an element may have.
struct Rule {
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    children: &'static [&'static str],
    text: bool,
}

const RULES: [Rule; 9] = [
    Rule {
        name: "testsuites",
        required: &[],
        optional: &["name", "time", "tests", "failures", "disabled", "errors"],
        children: &["testsuite"],
        text: false,
    },
    Rule {
        name: "testsuite",
        required: &["name", "tests", "failures", "errors"],
        optional: &[
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
            "version",
        ],
        children: &["testsuite", "properties", "testcase", "system-out", "system-err"],
        text: false,
    },
    Rule {
        name: "properties",
        required: &[],
        optional: &[],
        children: &["property"],
        text: false,
    },
    Rule {
        name: "property",
        required: &["name", "value"],
        optional: &[],
        children: &[],
        text: false,
    },
    Rule {
        name: "testcase",
        required: &["name"],
        optional: &["time", "classname", "group"],
        children: &[
            "skipped",
            "error",
            "failure",
            "rerunFailure",
            "rerunError",
            "flakyFailure",
            "flakyError",
            "system-out",
            "system-err",
        ],
        text: false,
    },
    Rule {
        name: "failure",
        required: &[],
        optional: &["message", "type"],
        children: &[],
        text: true,
    },
    Rule {
        name: "error",
        required: &[],
        optional: &["message", "type"],
        children: &[],
        text: true,
    },
    Rule {
        name: "skipped",
        required: &[],
        optional: &["message", "type"],
        children: &[],
        text: true,
    },
    Rule {
        name: "system-out",
        required: &[],
        optional: &[],
        children: &[],
        text: true,
    },
];

/// An open element: its name, its attributes, and its number of children by name.
struct Open {
    name: String,
    attributes: BTreeMap<String, String>,
    seen: BTreeMap<String, usize>,
}

/// Returns everything in `xml` that the schema does not allow.
fn problems(xml: &str) -> Vec<String> {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<Open> = Vec::new();
    let mut found = Vec::new();
    loop {
        match reader.read_event() {
            Err(error) => {
                found.push(format!("not XML: {error}"));
                return found;
            }
            Ok(Event::Eof) => break,
            Ok(Event::Start(tag)) => {
                let element = element(&tag, &mut open, &mut found);
                open.push(element);
            }
            Ok(Event::Empty(tag)) => {
                let element = element(&tag, &mut open, &mut found);
                found.extend(counts(&element));
            }
            Ok(Event::End(_)) => found.extend(open.pop().iter().flat_map(counts)),
            Ok(Event::Text(text)) => {
                let within = open.last().and_then(|element| rule(&element.name));
                let blank = text.iter().all(u8::is_ascii_whitespace);
                if !blank && !within.is_some_and(|rule| rule.text) {
                    found.push(format!("text where there may be none: {text:?}"));
                }
            }
            Ok(_) => {}
        }
    }
    if !open.is_empty() {
        found.push("it ends in the middle".to_owned());
    }
    found
}

fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// Reads a tag, and records it in its parent.
fn element(tag: &BytesStart<'_>, open: &mut [Open], found: &mut Vec<String>) -> Open {
    let name = String::from_utf8_lossy(tag.name().as_ref()).into_owned();
    let attributes: BTreeMap<String, String> = tag
        .attributes()
        .map(|attribute| attribute.expect("attributes are well-formed"))
        .map(|attribute| {
            let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
            (key, String::from_utf8_lossy(&attribute.value).into_owned())
        })
        .collect();
    match open.last_mut() {
        None if name != "testsuites" => found.push(format!("the outermost element is {name}")),
        None => {}
        Some(parent) => {
            *parent.seen.entry(name.clone()).or_default() += 1;
            if !rule(&parent.name).is_some_and(|rule| rule.children.contains(&name.as_str())) {
                found.push(format!("{name} within {}", parent.name));
            }
        }
    }
    found.extend(wrong_attributes(&name, &attributes));
    Open {
        name,
        attributes,
        seen: BTreeMap::new(),
    }
}

fn wrong_attributes(name: &str, attributes: &BTreeMap<String, String>) -> Vec<String> {
    let Some(rule) = rule(name) else {
        return vec![format!("no element is called {name}")];
    };
    let unknown = attributes
        .keys()
        .filter(|key| {
            !rule
                .required
                .iter()
                .chain(rule.optional)
                .any(|known| known == key)
        })
        .map(|key| format!("{name} has no attribute {key}"));
    let missing = rule
        .required
        .iter()
        .filter(|key| !attributes.contains_key(**key))
        .map(|key| format!("{name} lacks {key}"));
    let mut found: Vec<String> = unknown.chain(missing).collect();
    for (key, value) in attributes {
        let kept = match key.as_str() {
            "time" => is_time(value),
            "tests" | "failures" | "errors" | "skipped" | "disabled" => value.parse::<u32>().is_ok(),
            "timestamp" => value.len() >= 19 && value.as_bytes()[10] == b'T',
            _ => true,
        };
        if !kept {
            found.push(format!("{name} {key} is {value:?}"));
        }
    }
    found
}

/// Returns true for Surefire's time format: seconds with at most three decimals.
fn is_time(value: &str) -> bool {
    let (seconds, rest) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(seconds) && digits(rest) && rest.len() <= 3
}

/// Returns the difference between a suite's counts and its tests, if any.
fn counts(element: &Open) -> Option<String> {
    let said: usize = element.attributes.get("tests")?.parse().ok()?;
    let seen = element.seen.get("testcase").copied().unwrap_or(0);
    (element.name == "testsuite" && said != seen).then(|| format!("a suite says {said} tests and has {seen}"))
}

fn real() -> RunReport {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/broken-run.json");
    file::read(&path).expect("a report")
}

fn xml(report: &RunReport) -> String {
    let mut out = Vec::new();
    junit::write(report, &mut out).expect("memory can be written to");
    String::from_utf8(out).expect("XML is text")
}

#[test]
fn a_run_with_every_outcome_keeps_the_schema() {
    let mut report = real();
    let reason = || "a & b < c > \"d\" 'e'\n]]> \u{7}".to_owned();
    report.trials[0].outcome = Outcome::Skipped { reason: reason() };
    report.trials[1].outcome = Outcome::Invalid { reason: reason() };
    report.trials[4].outcome = Outcome::Broken { reason: reason() };
    let text = xml(&report);
    assert_eq!(problems(&text), Vec::<String>::new());
    for element in ["<skipped ", "<error ", "<failure ", "<property ", "<system-out>"] {
        assert!(text.contains(element), "{element}");
    }
    let head = text.lines().nth(1).expect("a second line");
    let failed = report
        .trials
        .iter()
        .filter(|trial| trial.outcome.is_failure())
        .count();
    assert!(
        head.contains(&format!(
            "tests=\"{}\" failures=\"{failed}\" errors=\"2\"",
            report.trials.len()
        )),
        "{head}"
    );
}

#[test]
fn a_run_without_trials_keeps_it_too() {
    let mut report = real();
    report.trials.clear();
    assert_eq!(problems(&xml(&report)), Vec::<String>::new());
}

#[test]
fn the_first_thing_that_is_read_of_a_failure_is_its_cause() {
    let report = real();
    let text = xml(&report);
    let causes = report.trials.iter().filter_map(|trial| match &trial.outcome {
        Outcome::Failed { cause, .. } => cause.as_deref(),
        _ => None,
    });
    let mut told = 0;
    for cause in causes {
        assert!(text.contains(&format!("<failure message=\"{cause}\"")), "{cause}");
        told += 1;
    }
    assert!(told > 0, "the run has failures");
}

#[test]
fn what_is_no_junit_is_found() {
    let text = xml(&real());
    let broken = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        problems(&text.replacen(from, to, 1))
    };
    assert_eq!(broken(" classname=", " suitename=").len(), 1);
    let found = broken("<system-out>", "<stdout>");
    assert!(
        found.contains(&"no element is called stdout".to_owned()),
        "{found:?}"
    );
    assert_eq!(
        broken("tests=\"4\"", "tests=\"5\""),
        ["a suite says 5 tests and has 4"]
    );
    assert!(!broken(" time=\"", " time=\"1 h ").is_empty());
    assert!(!problems(&text[..text.len() / 2]).is_empty());
}
