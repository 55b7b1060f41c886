//! Signals that end a run: Ctrl-C (SIGINT), SIGTERM, and SIGHUP when the terminal is closed. The
//! first one ends the run in order, the second one at once.
//!
//! A signal that was ignored at this process's start stays ignored. `nohup` relies on that, and so
//! do background jobs of a shell without job control.

use anyhow::Context as _;
use harness::report::{Event, EventSink};
use harness::trial::{Halt, HaltReason};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::exit;

/// Halts the run at the first signal. At the second one, ends the process and prints `sweep`, the
/// command that removes what is left.
///
/// # Errors
/// When a signal cannot be handled.
pub(crate) fn halt_on(halt: &Halt, events: &EventSink, sweep: Option<String>) -> anyhow::Result<()> {
    let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    let (sender, mut signals) = unbounded_channel();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        if ignored & mask(kind) == 0 {
            let stream = signal(kind).context("failed to install a signal handler")?;
            tokio::spawn(pass_on(stream, sender.clone()));
        }
    }
    let (halt, events) = (halt.clone(), events.clone());
    tokio::spawn(async move {
        if signals.recv().await.is_none() {
            return;
        }
        events.send(Event::Interrupted);
        if sweep.is_some() {
            let text = "removing the namespaces of this run; a second Ctrl-C leaves them".to_owned();
            events.send(Event::Note { text });
        }
        halt.now(HaltReason::Interrupted);
        if signals.recv().await.is_some() {
            if let Some(sweep) = sweep {
                eprintln!("stopped at once; remove what is left on the cluster with: {sweep}");
            }
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    });
    Ok(())
}

async fn pass_on(mut stream: Signal, signals: UnboundedSender<()>) {
    while stream.recv().await.is_some() {
        if signals.send(()).is_err() {
            return;
        }
    }
}

/// Returns the mask of signals that a process ignores, from its `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn mask(kind: SignalKind) -> u64 {
    1 << (kind.as_raw_value() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\txtask\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        let ignored = ignored(status);
        assert_ne!(ignored & mask(SignalKind::hangup()), 0);
        assert_eq!(ignored & mask(SignalKind::interrupt()), 0);
        assert_eq!(super::ignored(""), 0);
    }
}
