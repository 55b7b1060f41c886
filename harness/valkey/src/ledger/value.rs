//! The content of a key, generated for the write and again for the comparison after the read.

use super::super::wire::Reply;
use super::spec::{KeyKind, LedgerSpec, Random, Shape};

/// Appends element `element` of generation `generation` of key `index`.
pub(super) fn push_element(buffer: &mut Vec<u8>, spec: &LedgerSpec, index: u64, at: At, size: usize) {
    let mut random = at.random(spec, index);
    let mut left = size;
    while left >= 8 {
        buffer.extend_from_slice(&random.next().to_le_bytes());
        left -= 8;
    }
    buffer.extend_from_slice(&random.next().to_le_bytes()[..left]);
}

/// An element of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) generation: u8,
    pub(super) element: usize,
}

impl At {
    fn random(self, spec: &LedgerSpec, index: u64) -> Random {
        // Purpose zero is the stream of the shape.
        let purpose = (u64::from(self.generation) << 16) | (self.element as u64 + 1);
        Random::new(spec.seed, index, purpose)
    }
}

fn is_element(bytes: &[u8], spec: &LedgerSpec, index: u64, at: At, size: usize) -> bool {
    if bytes.len() != size {
        return false;
    }
    let mut random = at.random(spec, index);
    let mut chunks = bytes.chunks_exact(8);
    chunks.by_ref().all(|chunk| chunk == random.next().to_le_bytes()) && {
        let rest = chunks.remainder();
        rest == &random.next().to_le_bytes()[..rest.len()]
    }
}

/// The content found in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The key does not exist.
    Absent,
    /// The exact content of this generation.
    Generation(u8),
    /// Content that no generation wrote.
    Foreign,
}

/// Identifies the generation of a reply, trying `newest` first.
pub(super) fn identify(spec: &LedgerSpec, index: u64, shape: &Shape, reply: &Reply<'_>, newest: u8) -> Found {
    let absent = match reply {
        Reply::Nil => true,
        Reply::Array(items) => items.is_empty(),
        _ => false,
    };
    if absent {
        return Found::Absent;
    }
    (1..=newest)
        .rev()
        .find(|&generation| is_generation(spec, index, shape, reply, generation))
        .map_or(Found::Foreign, Found::Generation)
}

fn is_generation(spec: &LedgerSpec, index: u64, shape: &Shape, reply: &Reply<'_>, generation: u8) -> bool {
    let is = |reply: &Reply<'_>, element: usize| {
        let at = At { generation, element };
        reply
            .bytes()
            .is_some_and(|bytes| is_element(bytes, spec, index, at, shape.size))
    };
    let Reply::Array(items) = reply else {
        return shape.kind == KeyKind::String && is(reply, 0);
    };
    match shape.kind {
        KeyKind::String => false,
        KeyKind::List => {
            items.len() == shape.elements && items.iter().enumerate().all(|(n, item)| is(item, n))
        }
        KeyKind::Set => is_permutation(items.len(), 1, shape.elements, |at, element| {
            is(&items[at], element)
        }),
        KeyKind::Hash => is_permutation(items.len(), 2, shape.elements, |at, element| {
            is_name(&items[at], element) && is(&items[at + 1], element)
        }),
        KeyKind::ZSet => is_permutation(items.len(), 2, shape.elements, |at, element| {
            is(&items[at], element) && is_name(&items[at + 1], element)
        }),
        KeyKind::Stream => is_stream(items, shape, generation, is),
    }
}

/// Returns true for one entry `[id, [field, value, …]]` with the generation's ID.
fn is_stream(
    items: &[Reply<'_>],
    shape: &Shape,
    generation: u8,
    is: impl Fn(&Reply<'_>, usize) -> bool,
) -> bool {
    let [Reply::Array(entry)] = items else {
        return false;
    };
    let [id, Reply::Array(fields)] = entry.as_slice() else {
        return false;
    };
    id.bytes() == Some(format!("{generation}-1").as_bytes())
        && is_permutation(fields.len(), 2, shape.elements, |at, element| {
            is_name(&fields[at], element) && is(&fields[at + 1], element)
        })
}

/// Returns true if the reply is the element's number, which is its field name or score.
fn is_name(reply: &Reply<'_>, element: usize) -> bool {
    reply.bytes() == Some(element.to_string().as_bytes())
}

/// Returns true if `length` items in groups of `stride` are the elements 0..`elements` in any
/// order.
fn is_permutation(length: usize, stride: usize, elements: usize, is: impl Fn(usize, usize) -> bool) -> bool {
    length == elements * stride
        && (0..elements).all(|element| (0..elements).any(|group| is(group * stride, element)))
}

#[cfg(test)]
mod tests {
    use super::super::spec::Mix;
    use super::*;

    fn spec() -> LedgerSpec {
        LedgerSpec {
            label: "t".to_owned(),
            seed: 7,
            keys: 10,
            mix: Mix::Varied,
            base_ms: 0,
        }
    }

    fn content(generation: u8, element: usize, size: usize) -> Vec<u8> {
        let mut buffer = Vec::new();
        push_element(&mut buffer, &spec(), 5, At { generation, element }, size);
        buffer
    }

    fn shape(kind: KeyKind, elements: usize) -> Shape {
        Shape {
            kind,
            size: 13,
            elements,
            expires_ms: None,
        }
    }

    #[test]
    fn generations_are_told_apart_and_foreign_content_is_noticed() {
        let shape = shape(KeyKind::String, 1);
        let found = |bytes: &[u8]| identify(&spec(), 5, &shape, &Reply::Bulk(bytes), 3);
        assert_eq!(found(&content(3, 0, 13)), Found::Generation(3));
        assert_eq!(found(&content(1, 0, 13)), Found::Generation(1));
        assert_eq!(found(&content(4, 0, 13)), Found::Foreign, "never attempted");
        let mut flipped = content(3, 0, 13);
        flipped[12] ^= 1;
        assert_eq!(found(&flipped), Found::Foreign);
        assert_eq!(found(&content(3, 0, 13)[..12]), Found::Foreign, "cut");
        assert_eq!(identify(&spec(), 5, &shape, &Reply::Nil, 3), Found::Absent);
    }

    #[test]
    fn unordered_types_may_come_in_any_order() {
        let (a, b) = (content(1, 0, 13), content(1, 1, 13));
        let (a, b) = (Reply::Bulk(&a), Reply::Bulk(&b));
        let identify =
            |kind, items: Vec<Reply<'_>>| identify(&spec(), 5, &shape(kind, 2), &Reply::Array(items), 1);
        let (zero, one) = (Reply::Bulk(b"0"), Reply::Bulk(b"1"));
        assert_eq!(
            identify(KeyKind::Set, vec![b.clone(), a.clone()]),
            Found::Generation(1)
        );
        assert_eq!(
            identify(KeyKind::List, vec![b.clone(), a.clone()]),
            Found::Foreign,
            "a list has an order"
        );
        assert_eq!(
            identify(
                KeyKind::Hash,
                vec![one.clone(), b.clone(), zero.clone(), a.clone()]
            ),
            Found::Generation(1)
        );
        assert_eq!(
            identify(
                KeyKind::Hash,
                vec![zero.clone(), b.clone(), one.clone(), a.clone()]
            ),
            Found::Foreign
        );
        assert_eq!(
            identify(
                KeyKind::ZSet,
                vec![a.clone(), zero.clone(), b.clone(), one.clone()]
            ),
            Found::Generation(1)
        );
        assert_eq!(
            identify(KeyKind::Set, vec![a.clone()]),
            Found::Foreign,
            "an element is missing"
        );
        let entry = |id| {
            Reply::Array(vec![
                Reply::Bulk(id),
                Reply::Array(vec![zero.clone(), a.clone(), one.clone(), b.clone()]),
            ])
        };
        assert_eq!(
            identify(KeyKind::Stream, vec![entry(b"1-1")]),
            Found::Generation(1)
        );
        assert_eq!(identify(KeyKind::Stream, vec![entry(b"2-1")]), Found::Foreign);
        assert_eq!(identify(KeyKind::Stream, vec![]), Found::Absent);
    }
}
