//! Values files for `helm`. They may hold the password, so they are never arguments, and nobody else can read them.

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use tempfile::NamedTempFile;

use super::error::ChartError;

/// A values file that goes with this value.
#[derive(Debug)]
pub struct ValuesFile(NamedTempFile);

impl ValuesFile {
    /// Writes a tree of values; as JSON, which is YAML too: a text such as `yes` without its quotes is a boolean to Helm.
    pub fn write(tree: &Value) -> Result<Self, ChartError> {
        private_file(&tree.to_string()).map(Self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A file of its own in the system's temporary folder, with mode 0600.
pub(super) fn private_file(text: &str) -> Result<NamedTempFile, ChartError> {
    let mut file = tempfile::Builder::new()
        .prefix("valkey-e2e-")
        .suffix(".yaml")
        .tempfile()
        .map_err(ChartError::File)?;
    file.write_all(text.as_bytes()).map_err(ChartError::File)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn only_this_user_can_read_it_and_it_goes_with_its_value() {
        let file = ValuesFile::write(&json!({"auth": {"password": "secret"}})).unwrap();
        let path = file.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            r#"{"auth":{"password":"secret"}}"#
        );
        drop(file);
        assert!(!path.exists());
    }
}
