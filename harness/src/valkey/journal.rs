//! Records on disk that outlive the harness: a table that is written in place, and a description beside it that is replaced
//! as a whole. The [ledger](super::ledger) and the [load](super::load) keep theirs in it.
//!
//! The operating system keeps what is written when the harness is killed, so an interrupted run loses nothing; a machine
//! that loses power may.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no.
    #[error("journal {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The description is not one.
    #[error("journal {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The table does not fit the description.
    #[error("journal {path} has {seen} bytes instead of {expected}")]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that such a table has.
        expected: usize,
        /// Bytes it has.
        seen: usize,
    },
    /// No generation is left.
    #[error("ledger {label} has been written {most} times, which is the limit")]
    Generations {
        /// The ledger.
        label: String,
        /// How often a ledger can be written.
        most: u8,
    },
}

/// A file of records, each written where it belongs.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    file: File,
}

impl Table {
    /// Makes an empty one. One that exists is never overwritten.
    pub(super) fn create(path: PathBuf) -> Result<Self, JournalError> {
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

    /// Opens the one that is there, and reads it.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Vec<u8>), JournalError> {
        let content = std::fs::read(&path).map_err(io_error(&path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error(&path))?;
        Ok((Self { path, file }, content))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it so long, with zeros at its end.
    pub(super) fn extend_to(&self, length: usize) -> Result<(), JournalError> {
        self.file.set_len(length as u64).map_err(io_error(&self.path))
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), JournalError> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(io_error(&self.path))
    }
}

/// Writes a description beside and renames it, so that there is always a whole one.
pub(super) fn save_about<T: Serialize>(path: &Path, about: &T) -> Result<(), JournalError> {
    let fresh = path.with_extension("json.new");
    let text = serde_json::to_string_pretty(about).expect("plain data serialises");
    std::fs::write(&fresh, text).map_err(io_error(&fresh))?;
    std::fs::rename(&fresh, path).map_err(io_error(path))
}

/// Reads a description.
pub(super) fn load_about<T: DeserializeOwned>(path: &Path) -> Result<T, JournalError> {
    let text = std::fs::read_to_string(path).map_err(io_error(path))?;
    let damaged = |source| JournalError::Damaged {
        path: path.to_owned(),
        source,
    };
    serde_json::from_str(&text).map_err(damaged)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}
