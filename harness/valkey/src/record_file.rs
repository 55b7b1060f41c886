//! Records on disk that outlive the harness, kept by the [ledger](super::ledger) and the
//! [load](super::load). A record consists of:
//!
//! - a table that is written in place
//! - a description next to it that is replaced as a whole
//!
//! The operating system keeps written data when the harness is killed. A power failure may lose
//! data.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The reason why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordFileError {
    /// The disk reported an error.
    #[error("journal {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The description cannot be parsed.
    #[error("journal {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The table does not fit the description.
    #[error("journal {path} has {seen} bytes instead of {expected}")]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that such a table must have.
        expected: usize,
        /// Bytes that the table has.
        seen: usize,
    },
    /// The ledger has used all its generations.
    #[error("ledger {label} has been written {most} times, which is the limit")]
    Generations {
        /// The ledger.
        label: String,
        /// Number of times that a ledger can be written.
        most: u8,
    },
}

/// A file of records, each written at its own place.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    file: File,
}

impl Table {
    /// Creates an empty table. Never overwrites an existing one.
    pub(super) fn create(path: PathBuf) -> Result<Self, RecordFileError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io_error(&path))?;
        Ok(Self { path, file })
    }

    /// Opens the existing table, and reads it.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Vec<u8>), RecordFileError> {
        let content = std::fs::read(&path).map_err(io_error(&path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error(&path))?;
        Ok((Self { path, file }, content))
    }

    /// Returns the path of the table.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Extends the table to `length` with zeros.
    pub(super) fn extend_to(&self, length: usize) -> Result<(), RecordFileError> {
        self.file.set_len(length as u64).map_err(io_error(&self.path))
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), RecordFileError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(io_error(&self.path))
    }
}

/// Writes a description next to `path` and renames it, so that a complete one always exists.
pub(super) fn save_about<T: Serialize>(path: &Path, about: &T) -> Result<(), RecordFileError> {
    let fresh = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(about).expect("plain data serialises");
    std::fs::write(&fresh, text).map_err(io_error(&fresh))?;
    std::fs::rename(&fresh, path).map_err(io_error(path))
}

/// Reads a description.
pub(super) fn load_about<T: DeserializeOwned>(path: &Path) -> Result<T, RecordFileError> {
    let text = std::fs::read_to_string(path).map_err(io_error(path))?;
    let damaged = |source| RecordFileError::Damaged {
        path: path.to_owned(),
        source,
    };
    serde_json::from_str(&text).map_err(damaged)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RecordFileError {
    let path = path.to_owned();
    move |source| RecordFileError::Io { path, source }
}
