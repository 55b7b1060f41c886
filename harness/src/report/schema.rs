//! The JSON Schema of `report.json`, for those who read reports with programs of their own.

use super::model::{RunReport, SCHEMA_VERSION};

/// Where the published schema is, within the project.
pub const SCHEMA_FILE: &str = "harness/schema/report-v1.json";

/// The schema, as the published file has it. It is derived from the types: what the field's documentation says is in it.
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
