//! What became of each write, on disk: four bytes a key, and a small text file that says what they are about.
//!
//! An intent is recorded before a command is sent, its outcome after the answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use super::super::journal::JournalError;
use super::super::journal::{Table, load_about, save_about};
use super::super::slots::SlotSet;
use super::spec::LedgerSpec;

const TABLE: &str = "outcomes.bin";
const ABOUT: &str = "ledger.json";

/// Bytes per key in the table.
const WIDTH: usize = 4;

/// Generations are counted in a byte.
pub const MOST_GENERATIONS: u8 = u8::MAX;

/// What is known of one key's writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// The newest generation that may have been written: acknowledged, or of unknown outcome.
    pub attempted: u8,
    /// The newest generation that was acknowledged; 0 for none.
    pub acknowledged: u8,
    /// The newest generation that replicas confirmed (`WAIT`).
    pub confirmed: u8,
    /// The newest generation that was refused; 0 for none.
    pub refused: u8,
}

impl Record {
    fn bytes(self) -> [u8; WIDTH] {
        [self.attempted, self.acknowledged, self.confirmed, self.refused]
    }

    fn from_bytes(bytes: [u8; WIDTH]) -> Self {
        let [attempted, acknowledged, confirmed, refused] = bytes;
        Self {
            attempted,
            acknowledged,
            confirmed,
            refused,
        }
    }
}

/// The description beside the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct About {
    spec: LedgerSpec,
    generation: u8,
    /// Who owned which slots when they were last written.
    owners: BTreeMap<String, SlotSet>,
}

/// The journal of one ledger.
pub(super) struct Journal {
    dir: PathBuf,
    about: About,
    file: Table,
    table: Vec<u8>,
}

impl Journal {
    pub(super) fn create(dir: &Path, spec: &LedgerSpec) -> Result<Self, JournalError> {
        let file = Table::create(dir.join(TABLE))?;
        let length = table_length(spec);
        file.extend_to(length)?;
        let about = About {
            spec: spec.clone(),
            generation: 0,
            owners: BTreeMap::new(),
        };
        let journal = Self {
            dir: dir.to_owned(),
            about,
            file,
            table: vec![0; length],
        };
        journal.save_about()?;
        Ok(journal)
    }

    pub(super) fn open(dir: &Path) -> Result<(Self, LedgerSpec), JournalError> {
        let about: About = load_about(&dir.join(ABOUT))?;
        let (file, table) = Table::open(dir.join(TABLE))?;
        let expected = table_length(&about.spec);
        if table.len() != expected {
            return Err(JournalError::Length {
                path: file.path().to_owned(),
                expected,
                seen: table.len(),
            });
        }
        let spec = about.spec.clone();
        let dir = dir.to_owned();
        Ok((
            Self {
                dir,
                about,
                file,
                table,
            },
            spec,
        ))
    }

    /// The newest generation that was begun.
    pub(super) fn generation(&self) -> u8 {
        self.about.generation
    }

    /// Begins the next generation.
    pub(super) fn next_generation(&mut self) -> Result<u8, JournalError> {
        let limit = || JournalError::Generations {
            label: self.about.spec.label.clone(),
            most: MOST_GENERATIONS,
        };
        self.about.generation = self.about.generation.checked_add(1).ok_or_else(limit)?;
        self.save_about()?;
        Ok(self.about.generation)
    }

    /// Remembers who owned the slots when they were written.
    pub(super) fn set_owners(&mut self, owners: BTreeMap<String, SlotSet>) -> Result<(), JournalError> {
        self.about.owners = owners;
        self.save_about()
    }

    pub(super) fn owners(&self) -> &BTreeMap<String, SlotSet> {
        &self.about.owners
    }

    pub(super) fn record(&self, index: u64) -> Record {
        let at = offset(index);
        Record::from_bytes(self.table[at..at + WIDTH].try_into().expect("four bytes"))
    }

    /// Changes the records of `indexes` (ascending) and puts them on disk, neighbours together.
    pub(super) fn update(
        &mut self,
        indexes: &[u64],
        mut change: impl FnMut(usize, &mut Record),
    ) -> Result<(), JournalError> {
        for (position, &index) in indexes.iter().enumerate() {
            let mut record = self.record(index);
            change(position, &mut record);
            let at = offset(index);
            self.table[at..at + WIDTH].copy_from_slice(&record.bytes());
        }
        for run in indexes.chunk_by(|a, b| a + 1 == *b) {
            let (start, end) = (offset(run[0]), offset(run[run.len() - 1]) + WIDTH);
            self.file.write(start as u64, &self.table[start..end])?;
        }
        Ok(())
    }

    fn save_about(&self) -> Result<(), JournalError> {
        save_about(&self.dir.join(ABOUT), &self.about)
    }
}

fn table_length(spec: &LedgerSpec) -> usize {
    usize::try_from(spec.keys).expect("as many keys as memory has bytes") * WIDTH
}

fn offset(index: u64) -> usize {
    usize::try_from(index).expect("below the table's length") * WIDTH
}

#[cfg(test)]
mod tests {
    use super::super::spec::Mix;
    use super::*;

    fn spec() -> LedgerSpec {
        LedgerSpec {
            label: "t".to_owned(),
            seed: 7,
            keys: 100,
            mix: Mix::Plain,
            base_ms: 0,
        }
    }

    #[test]
    fn what_was_recorded_is_there_after_an_interruption() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::create(dir.path(), &spec()).expect("created");
        assert_eq!(journal.next_generation().expect("the first"), 1);
        journal
            .update(&[3, 4, 9], |position, record| {
                record.acknowledged = position as u8 + 1;
            })
            .expect("written");
        // Not closed, not flushed: forgotten, as by SIGKILL.
        std::mem::forget(journal);
        let (mut journal, found) = Journal::open(dir.path()).expect("opened");
        assert_eq!(found, spec());
        assert_eq!(journal.record(4).acknowledged, 2);
        assert_eq!(journal.record(5), Record::default());
        assert_eq!(journal.record(9).acknowledged, 3);
        assert_eq!(journal.next_generation().expect("the second"), 2);
    }

    #[test]
    fn a_journal_is_never_overwritten_and_a_cut_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(Journal::create(dir.path(), &spec()).expect("created"));
        assert!(matches!(
            Journal::create(dir.path(), &spec()),
            Err(JournalError::Io { .. })
        ));
        let table = dir.path().join(TABLE);
        std::fs::write(&table, [0; 7]).expect("cut");
        let error = Journal::open(dir.path()).map(|_| ()).expect_err("refused");
        assert!(
            error.to_string().ends_with("has 7 bytes instead of 400"),
            "{error}"
        );
        std::fs::write(dir.path().join(ABOUT), "{").expect("damaged");
        assert!(matches!(
            Journal::open(dir.path()),
            Err(JournalError::Damaged { .. })
        ));
    }
}
