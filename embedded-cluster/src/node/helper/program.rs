//! Lookup of the program that a container or exec runs, with the well-known error texts of runc.

use std::ffi::{CString, NulError};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The search path used when the image sets no `PATH`, as in containerd.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the file to execute for `name`, as seen from the calling process's root.
pub(crate) fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return check(Path::new(name))
            .map(|()| PathBuf::from(name))
            .map_err(|error| match error {
                Unusable::Missing => format!("exec: {name:?}: stat {name}: no such file or directory"),
                Unusable::Denied => format!("exec: {name:?}: permission denied"),
            });
    }
    let mut denied = false;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Unusable::Denied) => denied = true,
            Err(Unusable::Missing) => {}
        }
    }
    if denied {
        return Err(format!("exec: {name:?}: permission denied"));
    }
    Err(format!("exec: {name:?}: executable file not found in $PATH"))
}

/// Returns the value of `PATH` in an environment of `NAME=value` entries.
pub(crate) fn path_of(env: &[String]) -> &str {
    env.iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH)
}

pub(crate) fn c_strings(values: &[String]) -> Result<Vec<CString>, NulError> {
    values.iter().map(|value| CString::new(value.as_str())).collect()
}

enum Unusable {
    Missing,
    Denied,
}

fn check(path: &Path) -> Result<(), Unusable> {
    match path.metadata() {
        Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(Unusable::Denied),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Unusable::Denied),
        Err(_) => Err(Unusable::Missing),
    }
}

#[cfg(test)]
mod tests {
    use super::{find, path_of};

    #[test]
    fn texts_are_those_of_runc() {
        assert_eq!(
            find("nosuch", "/bin"),
            Err("exec: \"nosuch\": executable file not found in $PATH".to_owned())
        );
        assert_eq!(
            find("/no/such", "/bin"),
            Err("exec: \"/no/such\": stat /no/such: no such file or directory".to_owned())
        );
        assert_eq!(
            find("/etc/passwd", ""),
            Err("exec: \"/etc/passwd\": permission denied".to_owned())
        );
        assert!(find("sh", "/nowhere:/bin").is_ok());
    }

    #[test]
    fn the_last_path_wins() {
        assert_eq!(
            path_of(&["PATH=/a".to_owned(), "X=1".to_owned(), "PATH=/b".to_owned()]),
            "/b"
        );
    }
}
