//! The published JSON Schema of `report.json`. It matches the types, reports conform to it, and
//! other documents do not.

use std::path::Path;

use harness::report::file;
use harness::report::schema::schema;
use serde_json::{Value, json};

fn published() -> Value {
    serde_json::from_str(include_str!("../schema/report-v1.json")).expect("the schema is JSON")
}

fn problems(report: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&published()).expect("the schema is a schema");
    validator
        .iter_errors(report)
        .map(|error| error.to_string())
        .collect()
}

/// Returns the report of a real run, with a trial that failed.
fn real() -> Value {
    serde_json::from_str(include_str!("report/broken-run.json")).expect("the report is JSON")
}

/// With `UPDATE_SCHEMA=1`, writes the schema instead, as `cargo xtask report schema` does.
#[test]
fn the_published_schema_is_what_the_types_say() {
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/report-v1.json");
        std::fs::write(file, schema()).expect("the file can be written");
        return;
    }
    // Compared as a whole: version control shows the difference once the file is written.
    let current = include_str!("../schema/report-v1.json") == schema();
    assert!(current, "the model has changed: run `cargo xtask report schema`");
}

#[test]
fn a_real_report_fits_the_schema_and_reads_back_unchanged() {
    assert_eq!(problems(&real()), Vec::<String>::new());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/broken-run.json");
    let read = file::read(&path).expect("a report");
    assert_eq!(serde_json::to_value(read).expect("JSON"), real());
}

#[test]
fn what_is_no_report_does_not_keep_it() {
    let break_at = |pointer: &str, value: Value| {
        let mut report = real();
        *report.pointer_mut(pointer).expect("the report has it") = value;
        problems(&report)
    };
    assert!(!break_at("/verdict", json!("excellent")).is_empty());
    assert!(!break_at("/trials/0/duration_ms", json!(-1)).is_empty());
    assert!(!break_at("/trials/0/outcome", json!({"status": "failed"})).is_empty());
    let mut report = real();
    report.as_object_mut().expect("an object").remove("run");
    assert!(!problems(&report).is_empty());
}
