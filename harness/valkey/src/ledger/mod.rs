//! The ledger: data in every slot, with each write's outcome on disk and each key's fate checked.
//!
//! The ledger's seed and the key's number determine a key's content. Therefore only outcomes are
//! stored: ten million keys take 40 MB. A key is compared byte for byte with its expected content,
//! which is stronger than a stored checksum.
//!
//! | module | content |
//! |---|---|
//! | [`spec`] | the specification: number of keys, with their types, sizes and lifetimes |
//! | [`ledger_file`] | the outcome of each write, on disk |
//! | [`classify`] | the class of each key |
//! | [`report`] | the results of writing and verifying |
//!
//! Writes that are in flight during a failure have an unknown outcome: either state is correct. The
//! [background load](super::load) measures availability, not the ledger.

pub mod classify;
mod command;
mod feed;
mod job;
mod lane;
pub mod ledger_file;
pub mod report;
pub mod spec;
mod value;
mod verify;
mod work;
mod write;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

pub use classify::Class;
pub use ledger_file::RecordFileError;
pub use report::{Verification, WriteReport};
pub use spec::{LedgerSpec, Mix};
pub use verify::VerifyOptions;
pub use write::WriteOptions;

use self::ledger_file::LedgerFile;
use super::cluster_client::RoutedClient;
use super::dialer::Dialer;
use secret::Passwords;

/// The servers that a ledger is written to and read from.
pub struct LedgerServers {
    dialer: Arc<dyn Dialer>,
    passwords: Passwords,
    router: RoutedClient,
}

impl LedgerServers {
    /// Creates the servers of a release with the server pods `pods`.
    pub fn new(dialer: Arc<dyn Dialer>, passwords: impl Into<Passwords>, pods: Vec<String>) -> Self {
        let passwords = passwords.into();
        let router = RoutedClient::new(dialer.clone(), passwords.clone(), pods);
        Self {
            dialer,
            passwords,
            router,
        }
    }

    /// Returns the client that knows the owner of each slot.
    pub fn router(&self) -> &RoutedClient {
        &self.router
    }
}

/// A set of keys with a known content, and the record of their writes' outcomes.
pub struct Ledger {
    spec: LedgerSpec,
    journal: Mutex<LedgerFile>,
}

impl Ledger {
    /// Starts a ledger that keeps its journal in `dir`.
    ///
    /// # Errors
    /// When the journal cannot be created there.
    pub fn create(dir: &Path, spec: LedgerSpec) -> Result<Self, RecordFileError> {
        let journal = LedgerFile::create(dir, &spec)?;
        Ok(Self {
            spec,
            journal: Mutex::new(journal),
        })
    }

    /// Continues with the journal found in `dir`, after the harness was interrupted.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn open(dir: &Path) -> Result<Self, RecordFileError> {
        let (journal, spec) = LedgerFile::open(dir)?;
        Ok(Self {
            spec,
            journal: Mutex::new(journal),
        })
    }

    /// Returns the specification of the ledger.
    pub fn spec(&self) -> &LedgerSpec {
        &self.spec
    }

    /// Writes the next generation of every key.
    ///
    /// # Errors
    /// When the journal cannot be written, as an outcome without a record proves nothing.
    pub async fn write(
        &self,
        target: &LedgerServers,
        options: &WriteOptions,
    ) -> Result<WriteReport, RecordFileError> {
        write::write(self, target, options).await
    }

    /// Reads every key back and classifies it.
    pub async fn verify(&self, target: &LedgerServers, options: &VerifyOptions) -> Verification {
        verify::verify(self, target, options).await
    }

    fn journal(&self) -> MutexGuard<'_, LedgerFile> {
        self.journal.lock().expect("no holder of the journal panics")
    }
}
