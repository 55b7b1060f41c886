//! Fates of the writers' numbers on disk: eight bytes a number, and a small text file with their
//! owners.
//!
//! Each send is recorded in advance, its outcome after the answer. A number without a recorded
//! outcome has an unknown one. A writer's obstacles are not recorded.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::record_file::{RecordFileError, Table, load_about, save_about};
use super::super::slots::SlotSet;
use super::account::Outcomes;
use super::writer::WriterEnd;

const TABLE: &str = "numbers.bin";
const ABOUT: &str = "load.json";

/// Bytes per number: its fate, and the time in microseconds since the start.
const WIDTH: u64 = 8;

/// The lower bytes of a record are the time: enough for two thousand years.
const TIME_BITS: u32 = 56;

/// The record of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The number may have been sent.
    Sent = 1,
    /// The number was acknowledged.
    Acknowledged = 2,
    /// The number was acknowledged, and confirmed by a replica.
    Confirmed = 3,
    /// The number was not executed.
    Refused = 4,
}

impl Mark {
    fn from_byte(byte: u64) -> Option<Self> {
        [Self::Sent, Self::Acknowledged, Self::Confirmed, Self::Refused]
            .into_iter()
            .find(|mark| *mark as u64 == byte)
    }
}

/// The description next to the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    /// The time when the load began.
    pub(super) started_at: Timestamp,
    /// The slots, by the pod that owned them at the start.
    pub(super) shards: BTreeMap<String, SlotSet>,
    /// The writers, one for each column of the table.
    pub(super) writers: Vec<Column>,
}

/// One writer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) shard: String,
    pub(super) slot: u16,
    pub(super) key: String,
}

/// The journal of one load. A row of the table holds the same number of every writer.
pub(super) struct LoadFile {
    table: Table,
    columns: u64,
}

impl LoadFile {
    pub(super) fn create(dir: &Path, about: &About) -> Result<Self, RecordFileError> {
        let table = Table::create(dir.join(TABLE))?;
        save_about(&dir.join(ABOUT), about)?;
        Ok(Self {
            table,
            columns: about.writers.len() as u64,
        })
    }

    /// Records the known fate of a writer's number, which counts from 1.
    pub(super) fn note(
        &self,
        writer: usize,
        number: u64,
        mark: Mark,
        since_start: Duration,
    ) -> Result<(), RecordFileError> {
        let micros = u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX);
        let record = ((mark as u64) << TIME_BITS) | (micros & ((1 << TIME_BITS) - 1));
        let place = (number - 1) * self.columns + writer as u64;
        self.table.write(place * WIDTH, &record.to_le_bytes())
    }
}

/// Reads a load's record back: the outcomes of each writer up to its last number.
pub(super) fn read(dir: &Path) -> Result<(About, Vec<WriterEnd>), RecordFileError> {
    let about: About = load_about(&dir.join(ABOUT))?;
    let (_, table) = Table::open(dir.join(TABLE))?;
    let end = |column: &Column| WriterEnd {
        shard: column.shard.clone(),
        slot: column.slot,
        key: column.key.clone(),
        attempted: 0,
        outcomes: Outcomes::default(),
        successes: Vec::new(),
        obstacles: BTreeMap::new(),
    };
    let mut ends: Vec<WriterEnd> = about.writers.iter().map(end).collect();
    let records = table.chunks_exact(usize::try_from(WIDTH).expect("eight"));
    for (place, record) in records.enumerate() {
        let record = u64::from_le_bytes(record.try_into().expect("eight bytes"));
        // Other writers may be ahead, so a row need not be full.
        let Some(mark) = Mark::from_byte(record >> TIME_BITS) else {
            continue;
        };
        let at = Duration::from_micros(record & ((1 << TIME_BITS) - 1));
        let columns = ends.len();
        ends[place % columns].recall((place / columns) as u64 + 1, mark, at);
    }
    Ok((about, ends))
}

impl WriterEnd {
    fn recall(&mut self, number: u64, mark: Mark, at: Duration) {
        self.attempted = self.attempted.max(number);
        let outcomes = &mut self.outcomes;
        match mark {
            Mark::Sent => {
                outcomes.unknown.insert(number);
            }
            Mark::Refused => {
                outcomes.refused.insert(number);
            }
            Mark::Acknowledged | Mark::Confirmed => {
                outcomes.acknowledged.insert(number);
                self.successes.push(at);
                if mark == Mark::Confirmed {
                    outcomes.confirmed.insert(number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_there_after_an_interruption() {
        let dir = tempfile::tempdir().expect("a directory");
        let column = |key: &str| Column {
            shard: "valkey-0".to_owned(),
            slot: 7,
            key: key.to_owned(),
        };
        let about = About {
            started_at: Timestamp::UNIX_EPOCH,
            shards: BTreeMap::from([("valkey-0".to_owned(), SlotSet::full())]),
            writers: vec![column("a"), column("b")],
        };
        let journal = LoadFile::create(dir.path(), &about).expect("created");
        let ms = Duration::from_millis;
        let notes = [
            (0, 1, Mark::Sent, ms(1)),
            (0, 1, Mark::Confirmed, ms(2)),
            (1, 1, Mark::Sent, ms(3)),
            (1, 1, Mark::Refused, ms(4)),
            (1, 2, Mark::Acknowledged, ms(5)),
            (1, 3, Mark::Sent, ms(6)),
        ];
        for (writer, number, mark, at) in notes {
            journal.note(writer, number, mark, at).expect("written");
        }
        // Neither closed nor flushed: forgotten, as by SIGKILL.
        std::mem::forget(journal);
        let (found, ends) = read(dir.path()).expect("read");
        assert_eq!(found.shards, about.shards);
        let [first, second] = ends.as_slice() else {
            panic!("{} writers", ends.len())
        };
        assert_eq!((first.key.as_str(), first.attempted), ("a", 1));
        assert_eq!(first.outcomes.confirmed, [1].into());
        assert_eq!(first.successes, [ms(2)]);
        assert_eq!((second.key.as_str(), second.attempted), ("b", 3));
        assert_eq!(second.outcomes.refused, [1].into());
        assert_eq!(second.outcomes.acknowledged, [2].into());
        assert_eq!(second.outcomes.unknown, [3].into());
        assert!(
            LoadFile::create(dir.path(), &about).is_err(),
            "a journal is never overwritten"
        );
    }
}
