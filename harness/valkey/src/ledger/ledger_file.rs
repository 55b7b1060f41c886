//! Records of writes on disk: four bytes per key, and a small text file with their description.
//!
//! An intent is recorded before a command is sent, its outcome after the answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use super::super::record_file::RecordFileError;
use super::super::record_file::{Table, load_about, save_about};
use super::super::slots::SlotSet;
use super::spec::LedgerSpec;

const TABLE: &str = "outcomes.bin";
const ABOUT: &str = "ledger.json";

/// Bytes per key in the table.
const WIDTH: usize = 4;

/// The largest generation, as generations are counted in a byte.
pub const MOST_GENERATIONS: u8 = u8::MAX;

/// The record of one key's writes.
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

/// The description next to the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct About {
    spec: LedgerSpec,
    generation: u8,
    /// Owners of slots when they were last written.
    owners: BTreeMap<String, SlotSet>,
}

/// The journal of one ledger.
pub(super) struct LedgerFile {
    dir: PathBuf,
    about: About,
    file: Table,
    table: Vec<u8>,
}

impl LedgerFile {
    pub(super) fn create(dir: &Path, spec: &LedgerSpec) -> Result<Self, RecordFileError> {
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

    pub(super) fn open(dir: &Path) -> Result<(Self, LedgerSpec), RecordFileError> {
        let about: About = load_about(&dir.join(ABOUT))?;
        let (file, table) = Table::open(dir.join(TABLE))?;
        let expected = table_length(&about.spec);
        if table.len() != expected {
            return Err(RecordFileError::Length {
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

    /// Returns the newest generation that was begun.
    pub(super) fn generation(&self) -> u8 {
        self.about.generation
    }

    /// Begins the next generation.
    pub(super) fn next_generation(&mut self) -> Result<u8, RecordFileError> {
        let limit = || RecordFileError::Generations {
            label: self.about.spec.label.clone(),
            most: MOST_GENERATIONS,
        };
        self.about.generation = self.about.generation.checked_add(1).ok_or_else(limit)?;
        self.save_about()?;
        Ok(self.about.generation)
    }

    /// Records the owners of the slots at the time of the write.
    pub(super) fn set_owners(&mut self, owners: BTreeMap<String, SlotSet>) -> Result<(), RecordFileError> {
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

    /// Updates the records of `indexes` (ascending) and writes them to disk, neighbours together.
    pub(super) fn update(
        &mut self,
        indexes: &[u64],
        mut change: impl FnMut(usize, &mut Record),
    ) -> Result<(), RecordFileError> {
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

    fn save_about(&self) -> Result<(), RecordFileError> {
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
        let mut journal = LedgerFile::create(dir.path(), &spec()).expect("created");
        assert_eq!(journal.next_generation().expect("the first"), 1);
        journal
            .update(&[3, 4, 9], |position, record| {
                record.acknowledged = position as u8 + 1;
            })
            .expect("written");
        // Neither closed nor flushed: forgotten, as by SIGKILL.
        std::mem::forget(journal);
        let (mut journal, found) = LedgerFile::open(dir.path()).expect("opened");
        assert_eq!(found, spec());
        assert_eq!(journal.record(4).acknowledged, 2);
        assert_eq!(journal.record(5), Record::default());
        assert_eq!(journal.record(9).acknowledged, 3);
        assert_eq!(journal.next_generation().expect("the second"), 2);
    }

    #[test]
    fn a_journal_is_never_overwritten_and_a_cut_one_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(LedgerFile::create(dir.path(), &spec()).expect("created"));
        assert!(matches!(
            LedgerFile::create(dir.path(), &spec()),
            Err(RecordFileError::Io { .. })
        ));
        let table = dir.path().join(TABLE);
        std::fs::write(&table, [0; 7]).expect("cut");
        let error = LedgerFile::open(dir.path()).map(|_| ()).expect_err("refused");
        assert!(
            error.to_string().ends_with("has 7 bytes instead of 400"),
            "{error}"
        );
        std::fs::write(dir.path().join(ABOUT), "{").expect("damaged");
        assert!(matches!(
            LedgerFile::open(dir.path()),
            Err(RecordFileError::Damaged { .. })
        ));
    }
}
