//! Jobs over the keys of a ledger: [`write`](super::write) and [`verify`](super::verify).

use super::super::reply::{Redirect, Verdict, judge_text};
use super::super::wire::Reply;
use super::command::Scratch;
use super::ledger_file::RecordFileError;

/// The next step of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The key is settled.
    Done,
    /// The key's commands were not executed for this reason; try again.
    Again(String),
    /// The key's commands were not executed; another node has the key.
    Elsewhere(Redirect),
}

/// The work on each key.
pub(super) trait Job: Sync {
    /// The state that a key's replies build up.
    type State: Default + Send;

    /// Appends a key's commands, and returns their number of replies.
    fn encode(&self, buffer: &mut Vec<u8>, scratch: &mut Scratch, index: u64) -> usize;

    /// Appends a command to the end of a batch, if there is one. Its reply is an integer.
    fn trailer(&self, _buffer: &mut Vec<u8>) -> bool {
        false
    }

    /// Receives the keys that are about to be sent.
    fn begin(&self, indexes: &[u64], states: &mut [Self::State]) -> Result<(), RecordFileError>;

    /// Processes one reply of a key.
    fn reply(&self, state: &mut Self::State, index: u64, number: usize, reply: &Reply<'_>);

    /// Decides the fates of the keys at the end of a batch. `answered` keys have all their replies.
    fn settle(&self, batch: Batch<'_, Self::State>) -> Result<Vec<Fate>, RecordFileError>;

    /// Records a key that was not executed before its deadline.
    fn give_up(&self, index: u64, cause: &str) -> Result<(), RecordFileError>;
}

/// A batch after its replies.
pub(super) struct Batch<'a, S> {
    pub(super) pod: &'a str,
    pub(super) indexes: &'a [u64],
    pub(super) states: Vec<S>,
    /// Number of keys, from the first, that have all their replies.
    pub(super) answered: usize,
    /// True if the rest may have been executed.
    pub(super) sent: bool,
    /// The reason for the missing replies of the rest.
    pub(super) cause: Option<String>,
    pub(super) trailer: Option<i64>,
}

/// Returns the key's fate if the error means that the command was not executed. Otherwise returns
/// the final error's code.
pub(super) fn fate_of(error: &[u8]) -> Result<Fate, String> {
    let text = String::from_utf8_lossy(error);
    let code = text.split(' ').next().unwrap_or_default().to_owned();
    match judge_text(&text) {
        Verdict::Final => Err(code),
        Verdict::Later => Ok(Fate::Again(text.into_owned())),
        Verdict::Elsewhere(redirect) => Ok(Fate::Elsewhere(redirect)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_decide_a_keys_fate() {
        assert_eq!(fate_of(b"OOM command not allowed"), Err("OOM".to_owned()));
        assert_eq!(
            fate_of(b"MISCONF Valkey is configured to save"),
            Err("MISCONF".to_owned())
        );
        assert!(matches!(
            fate_of(b"CLUSTERDOWN Hash slot not served"),
            Ok(Fate::Again(_))
        ));
        let ask = Redirect::Ask {
            address: "10.0.0.1:6379".to_owned(),
        };
        assert_eq!(fate_of(b"ASK 5 10.0.0.1:6379"), Ok(Fate::Elsewhere(ask)));
    }
}
