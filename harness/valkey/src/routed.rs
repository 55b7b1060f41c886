//! A command for the owner of a slot, and its possible outcomes.

use std::time::Duration;

use redis::Cmd;

/// The reason why a command has no answer, and its execution state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The server answered with an error that a retry does not change. The command was not
    /// executed.
    #[error("{pod} refused: {message}")]
    Refused {
        /// The pod that answered.
        pod: String,
        /// The error's code, such as `OOM`.
        code: String,
        /// The whole error.
        message: String,
    },
    /// The command was sent and no answer came. It may or may not have been executed.
    #[error("{pod} did not answer, the command may or may not have been executed: {cause}")]
    Unknown {
        /// The pod it was sent to.
        pod: String,
        /// The failure of the connection.
        cause: String,
    },
    /// The command was not executed before its deadline.
    #[error("not executed within {within:?}, last: {last}")]
    GaveUp {
        /// Duration of the attempts.
        within: Duration,
        /// The last obstacle.
        last: String,
    },
}

/// The next step when a connection breaks after a command was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// Send it again: executing it twice does no harm.
    Idempotent,
    /// Report it as [`CommandError::Unknown`].
    Never,
}

/// A command, and the slot that determines its node.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The slot of its keys.
    pub slot: u16,
    /// The command.
    pub command: Cmd,
}
