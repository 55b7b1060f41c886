//! A command that goes to the owner of its slot, and what can become of it.

use std::time::Duration;

use redis::Cmd;

/// Why a command has no answer, and whether it may have been executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The server answered with an error that retrying does not change. It was not executed.
    #[error("{pod} refused: {message}")]
    Refused {
        /// The pod that answered.
        pod: String,
        /// The error's code, such as `OOM`.
        code: String,
        /// The whole error.
        message: String,
    },
    /// It was sent and no answer came. It may or may not have been executed.
    #[error("{pod} did not answer, the command may or may not have been executed: {cause}")]
    Unknown {
        /// The pod it was sent to.
        pod: String,
        /// What happened to the connection.
        cause: String,
    },
    /// It was not executed before patience ran out.
    #[error("not executed within {patience:?}, last: {last}")]
    GaveUp {
        /// How long it was tried.
        patience: Duration,
        /// The last obstacle.
        last: String,
    },
}

/// What to do when a connection breaks after a command was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// Send it again: executing it twice does no harm.
    Idempotent,
    /// Report it as [`CommandError::Unknown`].
    Never,
}

/// A command, and the slot whose owner executes it.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The slot of its keys.
    pub slot: u16,
    /// The command.
    pub command: Cmd,
}
