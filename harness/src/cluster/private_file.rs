//! Files that hold credentials: readable by their owner only, from the moment at which they exist.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `content`, in place of what was there.
pub(super) fn write(file: &Path, content: &str) -> io::Result<()> {
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file);
    opened?.write_all(content.as_bytes())
}
