//! The folder that keeps images and downloads between runs.

use std::env;
use std::path::PathBuf;

use etcetera::HomeDirError;
use etcetera::base_strategy::{BaseStrategy as _, Xdg};

/// The variable that overrides the folder.
pub const CACHE_VARIABLE: &str = "VALKEY_E2E_CACHE";
/// The folder's name in the user's cache.
const FOLDER: &str = "percona-valkey-e2e";

/// The cache folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheDirError {
    /// Neither the variable nor a home folder is set.
    #[error("find a cache folder; set {CACHE_VARIABLE} to a writable folder")]
    Unknown(#[source] HomeDirError),
    /// The folder cannot be written.
    #[error("write the cache folder {}; set {CACHE_VARIABLE} to a writable folder", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Returns the cache folder, created if necessary and checked to be writable.
///
/// # Errors
/// When no folder is known, or it cannot be written.
pub fn cache_dir() -> Result<PathBuf, CacheDirError> {
    let wish = env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty());
    let path = match wish {
        Some(wish) => PathBuf::from(wish),
        None => Xdg::new()
            .map_err(CacheDirError::Unknown)?
            .cache_dir()
            .join(FOLDER),
    };
    let try_it = || {
        std::fs::create_dir_all(&path)?;
        // Permissions do not show a read-only mount; a created file does.
        tempfile::tempfile_in(&path).map(drop)
    };
    match try_it() {
        Ok(()) => Ok(path),
        Err(source) => Err(CacheDirError::Unwritable { path, source }),
    }
}
