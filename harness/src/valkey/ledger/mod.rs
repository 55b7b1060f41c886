//! The ledger: data in every slot, every write's outcome on disk, every key accounted for afterwards.
//!
//! What a key holds follows from the ledger's seed and the key's number alone, so only outcomes are stored: ten million
//! keys take 40 MB. A key is compared with what it must hold byte for byte, which is stronger than a stored checksum.
//!
//! | module | what is in it |
//! |---|---|
//! | [`spec`] | what is written: how many keys, of which types, sizes and lifetimes |
//! | [`journal`] | what became of each write, on disk |
//! | [`classify`] | what became of each key |
//! | [`report`] | the results of writing and verifying |
//!
//! Writes that are in flight while something fails have an unknown outcome, and either state is right for them. It
//! does not measure availability: that is the [background load](super::load)'s business.

pub mod classify;
mod command;
mod feed;
mod job;
pub mod journal;
mod lane;
pub mod report;
pub mod spec;
mod value;
mod verify;
mod work;
mod write;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

pub use classify::Class;
pub use journal::JournalError;
pub use report::{Verification, WriteReport};
pub use spec::{LedgerSpec, Mix};
pub use verify::VerifyOptions;
pub use write::WriteOptions;

use self::journal::Journal;
use super::cluster_client::RoutedClient;
use super::dialer::Dialer;
use crate::secret::Passwords;

/// The servers a ledger is written to and read from.
pub struct Target {
    dialer: Arc<dyn Dialer>,
    passwords: Passwords,
    router: RoutedClient,
}

impl Target {
    /// The release whose server pods are `pods`.
    pub fn new(dialer: Arc<dyn Dialer>, passwords: impl Into<Passwords>, pods: Vec<String>) -> Self {
        let passwords = passwords.into();
        let router = RoutedClient::new(dialer.clone(), passwords.clone(), pods);
        Self {
            dialer,
            passwords,
            router,
        }
    }

    /// Knows who owns which slot.
    pub fn router(&self) -> &RoutedClient {
        &self.router
    }
}

/// A set of keys with a known content, and the record of what became of writing them.
pub struct Ledger {
    spec: LedgerSpec,
    journal: Mutex<Journal>,
}

impl Ledger {
    /// Starts a ledger whose journal is kept in `dir`.
    ///
    /// # Errors
    /// When the journal cannot be created there.
    pub fn create(dir: &Path, spec: LedgerSpec) -> Result<Self, JournalError> {
        let journal = Journal::create(dir, &spec)?;
        Ok(Self {
            spec,
            journal: Mutex::new(journal),
        })
    }

    /// Continues with the journal found in `dir`, after the harness was interrupted.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let (journal, spec) = Journal::open(dir)?;
        Ok(Self {
            spec,
            journal: Mutex::new(journal),
        })
    }

    /// What it consists of.
    pub fn spec(&self) -> &LedgerSpec {
        &self.spec
    }

    /// Writes the next generation of every key.
    ///
    /// # Errors
    /// When the journal cannot be written: an outcome that is not recorded proves nothing.
    pub async fn write(&self, target: &Target, options: &WriteOptions) -> Result<WriteReport, JournalError> {
        write::write(self, target, options).await
    }

    /// Reads every key back and classifies it.
    pub async fn verify(&self, target: &Target, options: &VerifyOptions) -> Verification {
        verify::verify(self, target, options).await
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("no holder of the journal panics")
    }
}
