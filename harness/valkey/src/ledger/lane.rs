//! One connection to one pod, which sends batches and receives replies, always with a deadline.

use std::time::Duration;

use super::super::connection::CONNECT_TIMEOUT;
use super::super::wire::{Reply, Wire};
use super::LedgerServers;

/// A connection that is opened on demand, and dropped when it breaks.
pub(super) struct Lane<'a> {
    target: &'a LedgerServers,
    pod: &'a str,
    wire: Option<Wire>,
}

/// The reason for a batch's missing replies.
pub(super) enum Broken {
    /// Nothing was sent.
    NotSent(String),
    /// The batch was sent, as a whole or in part.
    Lost(String),
}

impl<'a> Lane<'a> {
    pub(super) fn new(target: &'a LedgerServers, pod: &'a str) -> Self {
        Self {
            target,
            pod,
            wire: None,
        }
    }

    /// Sends `commands` and passes their `count` replies to `read`, by number.
    pub(super) async fn exchange(
        &mut self,
        commands: &[u8],
        count: usize,
        deadline: Duration,
        read: impl FnMut(usize, Reply<'_>),
    ) -> Result<(), Broken> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => connect(self.target, self.pod).await.map_err(Broken::NotSent)?,
        };
        match tokio::time::timeout(deadline, wire.pipeline(commands, count, read)).await {
            Ok(Ok(())) => {
                self.wire = Some(wire);
                Ok(())
            }
            Ok(Err(error)) => Err(Broken::Lost(format!("connection broke: {error}"))),
            Err(_elapsed) => Err(Broken::Lost(format!("no answer within {deadline:?}"))),
        }
    }
}

async fn connect(target: &LedgerServers, pod: &str) -> Result<Wire, String> {
    let connecting = async {
        let stream = target.dialer.dial(pod).await?;
        Wire::open(stream, &target.passwords).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
    }
}
