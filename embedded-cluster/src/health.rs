//! Detection of a cluster's death: the part that failed, the cause, and the last lines of the log.
//!
//! A failed part of the cluster looks like broken pods. Therefore each of these ends the whole
//! cluster at once, with the reason:
//!
//! - a part that ends
//! - a panic
//! - a machine that has run out of descriptors, processes or memory

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::node::Exit;

/// Number of log lines kept: as many as fit a terminal next to the reason.
const LAST_WORDS: usize = 10;

/// The reason why a cluster has died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The part that died first.
    pub part: String,
    /// The event that ended it, as a verb.
    pub cause: String,
    /// The last lines of the cluster's log.
    pub last_words: String,
}

impl Death {
    /// Creates a death without log lines.
    pub(crate) fn of(part: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            cause: cause.into(),
            last_words: String::new(),
        }
    }

    /// Adds the end of the cluster's log.
    pub(crate) fn with_log(mut self, log: &str) -> Self {
        // The cluster's log also contains the reason, which must not appear twice.
        let told = |line: &&str| !line.contains("the embedded cluster has died");
        let lines: Vec<&str> = log.lines().filter(told).collect();
        self.last_words = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n");
        self
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            cause,
            last_words,
        } = self;
        write!(f, "the embedded cluster has died: its {part} {cause}")?;
        if last_words.is_empty() {
            return Ok(());
        }
        write!(f, "; its log ends with:\n{last_words}")
    }
}

/// The place where the parts of a running cluster report that they have died. Clones share the
/// report.
#[derive(Clone, Debug)]
pub(crate) struct Health(Arc<watch::Sender<Option<Death>>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Health {
    /// Reports a death. Only the first report counts: later ones are consequences of the first.
    pub(crate) fn report(&self, death: Death) {
        self.0.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!("{death}");
                *known = Some(death);
            }
            first
        });
    }

    /// Reports the node's death if `text` shows that the machine has run out of a resource. `text`
    /// is the error met while `doing` something. Such an error is not a fault of the pod that it
    /// affects.
    pub(crate) fn notice(&self, doing: &str, text: &str) {
        if let Some(resource) = exhausted(text) {
            self.report(Death::of(
                "node",
                format!("ran out of {resource} while {doing}: {text}"),
            ));
        }
    }

    /// Waits for the first death.
    pub(crate) async fn death(&self) -> Death {
        let mut deaths = self.0.subscribe();
        let death = deaths.wait_for(Option::is_some).await;
        let death = death.expect("the sender is in self").clone();
        death.expect("it was waited for")
    }

    /// Makes every panic of this process a death. A panic is a bug of this program. After a panic,
    /// the cluster no longer behaves like Kubernetes.
    pub(crate) fn watch_panics(&self) {
        let (health, print) = (self.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            print(panic);
            let message = panic.payload_as_str().unwrap_or("without a message");
            let place = panic.location().map(|place| format!(" at {place}"));
            health.report(Death::of(
                "supervisor",
                format!("panicked{}: {message}", place.unwrap_or_default()),
            ));
        }));
    }
}

/// Describes, as a verb, how a process ended that should have kept running.
pub(crate) fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with exit code {code}"),
        Exit::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {number}"),
        },
    }
}

/// Returns the resource that the machine lacks, if an error's text names one. Recognises the texts
/// of the standard library, `nix` and libcontainer.
fn exhausted(text: &str) -> Option<&'static str> {
    [
        ("file descriptors", ["(os error 24)", "EMFILE: "]),
        ("file descriptors", ["(os error 23)", "ENFILE: "]),
        ("processes", ["(os error 11)", "EAGAIN: "]),
        ("memory", ["(os error 12)", "ENOMEM: "]),
    ]
    .into_iter()
    .find(|(_, texts)| texts.iter().any(|errno| text.contains(errno)))
    .map(|(resource, _)| resource)
}

#[cfg(test)]
mod tests {
    use std::io;

    use nix::errno::Errno;

    use super::*;

    #[tokio::test]
    async fn the_first_death_counts() {
        let health = Health::default();
        health.report(Death::of("container helper", describe(Exit::Signal(9))));
        health.report(Death::of("node", "ran out of memory"));
        assert_eq!(
            health.death().await.to_string(),
            "the embedded cluster has died: its container helper was killed by SIGKILL"
        );
    }

    #[tokio::test]
    async fn only_a_machine_without_resources_is_a_death_of_the_node() {
        let health = Health::default();
        for ordinary in [Errno::ENOENT, Errno::EACCES, Errno::ENOSPC, Errno::EPERM] {
            health.notice("starting", &ordinary.to_string());
            health.notice("starting", &io::Error::from(ordinary).to_string());
        }
        assert_eq!(*health.0.borrow(), None);
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM] {
            for text in [errno.to_string(), io::Error::from(errno).to_string()] {
                let health = Health::default();
                health.notice("reading an image", &format!("read index.json: {text}"));
                let death = health.death().await.to_string();
                assert!(death.contains("node ran out of"), "{death}");
                assert!(
                    death.contains("while reading an image: read index.json"),
                    "{death}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_panic_in_any_task_is_a_death() {
        let health = Health::default();
        health.watch_panics();
        let number: u32 = "7".parse().expect("a number");
        let task = tokio::spawn(async move { assert_eq!(number, 8, "on purpose") });
        assert!(task.await.is_err());
        let death = health.death().await;
        assert!(death.cause.contains("src/health.rs:"), "{death}");
        assert!(death.cause.contains("on purpose"), "{death}");
    }

    #[test]
    fn only_the_end_of_the_log_is_told() {
        let log: Vec<String> = (0..50).map(|number| format!("line {number}")).collect();
        let death = Death::of("supervisor", "ended").with_log(&log.join("\n"));
        assert_eq!(death.last_words.lines().count(), LAST_WORDS);
        assert!(death.to_string().ends_with("line 49"), "{death}");
    }
}
