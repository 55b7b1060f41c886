//! The JSON Schema of `report.json`, for programs that read reports.

use super::model::{RunReport, SCHEMA_VERSION};

/// Path of the published schema within the project.
pub const SCHEMA_FILE: &str = "harness/schema/report-v1.json";

/// Returns the published schema. It is derived from the types, with their field docs as
/// descriptions.
pub fn schema() -> String {
    let mut schema = schemars::schema_for!(RunReport);
    schema.insert(
        "title".to_owned(),
        format!("Qualification report, version {SCHEMA_VERSION}").into(),
    );
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}
