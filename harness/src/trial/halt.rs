//! The end of a run before the end of its trials. A person or a CI system interrupts the run, or
//! the cluster is lost.

use std::sync::Arc;

use tokio::sync::watch::Sender;

use crate::report::Outcome;

/// The reason why a run ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HaltReason {
    /// Ctrl-C, SIGTERM or SIGHUP.
    Interrupted,
    /// The cluster is gone. The text is its last message.
    ClusterLost(String),
}

impl HaltReason {
    /// Returns the outcome of a trial with this progress, such as "before it began".
    pub fn outcome(&self, how_far: &str) -> Outcome {
        match self {
            Self::Interrupted => Outcome::Interrupted {
                reason: format!("the run was interrupted {how_far}"),
            },
            Self::ClusterLost(last_words) => Outcome::Broken {
                reason: last_words.clone(),
            },
        }
    }
}

/// The switch that ends a run early. Clones share it, and the first reason stays.
#[derive(Debug, Clone)]
pub struct Halt(Arc<Sender<Option<HaltReason>>>);

impl Default for Halt {
    fn default() -> Self {
        Self(Arc::new(Sender::new(None)))
    }
}

impl Halt {
    /// Ends the run.
    pub fn now(&self, reason: HaltReason) {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(reason);
            first
        });
    }

    /// Returns the reason for the run's end, once it ends.
    pub fn reason(&self) -> Option<HaltReason> {
        self.0.borrow().clone()
    }

    /// Returns true if the run was interrupted.
    pub fn is_interrupted(&self) -> bool {
        self.reason() == Some(HaltReason::Interrupted)
    }

    /// Waits until the run ends early, and returns the reason.
    pub async fn halted(&self) -> HaltReason {
        let mut changes = self.0.subscribe();
        let halted = changes.wait_for(Option::is_some).await;
        let reason = halted.ok().and_then(|reason| reason.clone());
        reason.expect("this value holds the sender, and waits for a reason")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays() {
        let halt = Halt::default();
        assert_eq!(halt.reason(), None);
        halt.clone().now(HaltReason::ClusterLost("killed".to_owned()));
        halt.now(HaltReason::Interrupted);
        assert_eq!(halt.halted().await, HaltReason::ClusterLost("killed".to_owned()));
        assert!(!halt.is_interrupted());
    }
}
