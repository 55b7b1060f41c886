//! Where images and downloads are kept between runs.

use std::env;
use std::path::PathBuf;

/// The variable that says where, when the user wants it elsewhere.
pub const CACHE_VARIABLE: &str = "VALKEY_E2E_CACHE";
/// The folder's name in the user's cache.
const FOLDER: &str = "percona-valkey-e2e";

/// There is no folder to keep images in.
#[derive(Debug, thiserror::Error)]
pub enum CacheDirError {
    /// Neither the variable nor a home folder is set.
    #[error("find a cache folder: none of {CACHE_VARIABLE}, XDG_CACHE_HOME and HOME is set")]
    Unknown,
    /// The folder cannot be written.
    #[error("write the cache folder {}; set {CACHE_VARIABLE} to a folder that can be written", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// Why it cannot be written.
        source: std::io::Error,
    },
}

/// The cache folder, created if it was not there, and known to be writable.
///
/// # Errors
/// When there is none, or it cannot be written.
pub fn cache_dir() -> Result<PathBuf, CacheDirError> {
    let path = choose(|name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    })
    .ok_or(CacheDirError::Unknown)?;
    let try_it = || {
        std::fs::create_dir_all(&path)?;
        // Permissions do not tell about a read-only mount; a file does.
        tempfile::tempfile_in(&path).map(drop)
    };
    match try_it() {
        Ok(()) => Ok(path),
        Err(source) => Err(CacheDirError::Unwritable { path, source }),
    }
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable(CACHE_VARIABLE)
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join(FOLDER)))
        .or_else(|| variable("HOME").map(|home| home.join(".cache").join(FOLDER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_wish_comes_first() {
        let all = |name: &str| Some(PathBuf::from("/").join(name));
        assert_eq!(choose(all).unwrap(), PathBuf::from("/VALKEY_E2E_CACHE"));
        let no_wish = |name: &str| (name != CACHE_VARIABLE).then(|| PathBuf::from("/").join(name));
        assert_eq!(
            choose(no_wish).unwrap(),
            PathBuf::from("/XDG_CACHE_HOME/percona-valkey-e2e")
        );
        let home_only = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/me"));
        assert_eq!(
            choose(home_only).unwrap(),
            PathBuf::from("/home/me/.cache/percona-valkey-e2e")
        );
        assert_eq!(choose(|_| None), None);
    }
}
