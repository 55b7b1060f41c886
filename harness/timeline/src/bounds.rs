//! Bounds of a timeline. A hook that prints in a loop, or a pod that keeps restarting, must not
//! fill the disk. The first and last entries of each kind are kept, and a note counts those left
//! out between them.

use std::collections::{BTreeMap, VecDeque};

use super::{Entry, EntryKind};

/// Number of entries that are kept of each kind, from the beginning and from the end. A trial of
/// the suite has about 300 entries of all kinds.
const HEAD: usize = 1_000;
const TAIL: usize = 1_000;

/// The longest text of an entry, in bytes. A longer text keeps its beginning and its end.
const LONGEST_TEXT: usize = 4_096;

/// Entries in order, bounded.
#[derive(Debug, Default)]
pub(super) struct Entries {
    next: u64,
    kinds: BTreeMap<EntryKind, OfKind>,
}

#[derive(Debug, Default)]
struct OfKind {
    head: Vec<(u64, Entry)>,
    tail: VecDeque<(u64, Entry)>,
    cut: usize,
}

impl Entries {
    pub(super) fn push(&mut self, mut entry: Entry) {
        entry.text = shortened(entry.text);
        let kind = self.kinds.entry(entry.kind).or_default();
        let place = (self.next, entry);
        self.next += 1;
        if kind.head.len() < HEAD {
            kind.head.push(place);
            return;
        }
        if kind.tail.len() == TAIL {
            kind.tail.pop_front();
            kind.cut += 1;
        }
        kind.tail.push_back(place);
    }

    /// Copies the kept entries, in order, with a note for each gap.
    pub(super) fn all(&self) -> Vec<Entry> {
        let mut all: Vec<(u64, Entry)> = Vec::new();
        for (kind, of_kind) in &self.kinds {
            all.extend(of_kind.head.iter().cloned());
            if let Some((place, first)) = of_kind.tail.front().filter(|_| of_kind.cut > 0) {
                all.push((*place, gap(*kind, of_kind.cut, first.at_ms)));
            }
            all.extend(of_kind.tail.iter().cloned());
        }
        // Stable: a gap stays before the entry that follows the gap.
        all.sort_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, entry)| entry).collect()
    }
}

fn gap(kind: EntryKind, cut: usize, at_ms: u64) -> Entry {
    Entry {
        at_ms,
        kind: EntryKind::Note,
        subject: "timeline".to_owned(),
        text: format!("{cut} entries of the kind {kind:?} are left out here: too many"),
        state: None,
    }
}

fn shortened(text: String) -> String {
    if text.len() <= LONGEST_TEXT {
        return text;
    }
    let half = LONGEST_TEXT / 2;
    let (end, start) = (
        text.floor_char_boundary(half),
        text.ceil_char_boundary(text.len() - half),
    );
    format!(
        "{} […{} bytes left out…] {}",
        &text[..end],
        start - end,
        &text[start..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind, text: &str) -> Entry {
        Entry {
            at_ms: 0,
            kind,
            subject: "x".to_owned(),
            text: text.to_owned(),
            state: None,
        }
    }

    #[test]
    fn a_kind_that_floods_keeps_its_head_and_its_tail() {
        let mut entries = Entries::default();
        entries.push(entry(EntryKind::Step, "install"));
        for line in 0..400_000 {
            entries.push(entry(EntryKind::Hook, &format!("line {line}")));
        }
        entries.push(entry(EntryKind::Step, "verify"));
        let all = entries.all();
        assert_eq!(all.len(), 2 + HEAD + TAIL + 1);
        let texts: Vec<&str> = all.iter().map(|entry| entry.text.as_str()).collect();
        assert_eq!(texts[..2], ["install", "line 0"]);
        assert_eq!(
            texts[HEAD..HEAD + 3],
            [
                "line 999",
                "398000 entries of the kind Hook are left out here: too many",
                "line 399000"
            ]
        );
        assert_eq!(texts[texts.len() - 2..], ["line 399999", "verify"]);
    }

    #[test]
    fn a_long_text_keeps_its_ends() {
        let mut entries = Entries::default();
        entries.push(entry(
            EntryKind::Hook,
            &format!("begin {} end", "ü".repeat(1_000_000)),
        ));
        let text = &entries.all()[0].text;
        assert!(text.len() < LONGEST_TEXT + 100, "{}", text.len());
        assert!(text.starts_with("begin ü") && text.ends_with("ü end"), "{text}");
        assert!(text.contains("bytes left out"), "{text}");
    }
}
