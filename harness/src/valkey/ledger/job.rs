//! What is done with each key of a ledger: [`write`](super::write) and [`verify`](super::verify) are jobs.

use super::super::reply::{Redirect, Verdict, judge_text};
use super::super::wire::Reply;
use super::command::Scratch;
use super::journal::JournalError;

/// What happens to a key next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is settled.
    Done,
    /// It was not executed: try again, for this reason.
    Again(String),
    /// It was not executed: another node has it.
    Elsewhere(Redirect),
}

/// What is done with each key.
pub(super) trait Job: Sync {
    /// What is gathered from a key's replies.
    type State: Default + Send;

    /// Appends a key's commands; gives how many replies they make.
    fn encode(&self, buffer: &mut Vec<u8>, scratch: &mut Scratch, index: u64) -> usize;

    /// Appends a command to the end of a batch, if there is one; its reply is an integer.
    fn trailer(&self, _buffer: &mut Vec<u8>) -> bool {
        false
    }

    /// Is told which keys are about to be sent.
    fn begin(&self, indexes: &[u64], states: &mut [Self::State]) -> Result<(), JournalError>;

    /// Takes in one reply of a key.
    fn reply(&self, state: &mut Self::State, index: u64, number: usize, reply: &Reply<'_>);

    /// Is told how a batch ended, and decides what becomes of its keys. `answered` keys have all their replies.
    fn settle(&self, batch: Batch<'_, Self::State>) -> Result<Vec<Fate>, JournalError>;

    /// Is told of a key that was not executed before patience ran out.
    fn give_up(&self, index: u64, cause: &str) -> Result<(), JournalError>;
}

/// A batch after its replies.
pub(super) struct Batch<'a, S> {
    pub(super) pod: &'a str,
    pub(super) indexes: &'a [u64],
    pub(super) states: Vec<S>,
    /// How many keys, from the first, have all their replies.
    pub(super) answered: usize,
    /// Whether the rest may have been executed.
    pub(super) sent: bool,
    /// Why the rest has none.
    pub(super) cause: Option<String>,
    pub(super) trailer: Option<i64>,
}

/// What an error reply means for a key: its fate when it was not executed, or the final error's code.
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
