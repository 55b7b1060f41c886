//! Files that hold credentials, readable only by their owner from their creation on.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `content` in place of the file's previous content.
pub(super) fn write(file: &Path, content: &str) -> io::Result<()> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file);
    opened?.write_all(content.as_bytes())
}
