//! Encoder for a key's commands: one set writes a whole generation, the other reads it back.

use super::super::wire::{encode, encode_argument, encode_header};
use super::spec::{KeyKind, LedgerSpec, Shape};
use super::value::{At, push_element};

/// Buffers that are reused from key to key.
#[derive(Default)]
pub(super) struct Scratch {
    key: Vec<u8>,
    element: Vec<u8>,
    number: Vec<u8>,
}

/// Appends the commands that write `generation` of key `index`, and returns their number of
/// replies. The write replaces the whole key, in a transaction if one command does not suffice.
pub(super) fn push_write(
    buffer: &mut Vec<u8>,
    scratch: &mut Scratch,
    spec: &LedgerSpec,
    index: u64,
    generation: u8,
) -> usize {
    let shape = spec.shape(index);
    scratch.key.clear();
    spec.push_key(&mut scratch.key, index);
    if shape.kind == KeyKind::String {
        push_set(buffer, scratch, spec, index, generation, &shape);
        return 1;
    }
    let replaces = generation > 1;
    if !replaces && shape.expires_ms.is_none() {
        push_elements(buffer, scratch, spec, index, generation, &shape);
        return 1;
    }
    let mut replies = 3;
    encode(buffer, &[b"MULTI"]);
    if replaces {
        encode(buffer, &[b"DEL", &scratch.key]);
        replies += 1;
    }
    push_elements(buffer, scratch, spec, index, generation, &shape);
    if let Some(expires_ms) = shape.expires_ms {
        encode(
            buffer,
            &[b"PEXPIREAT", &scratch.key, expires_ms.to_string().as_bytes()],
        );
        replies += 1;
    }
    encode(buffer, &[b"EXEC"]);
    replies
}

fn push_set(
    buffer: &mut Vec<u8>,
    scratch: &mut Scratch,
    spec: &LedgerSpec,
    index: u64,
    generation: u8,
    shape: &Shape,
) {
    encode_header(buffer, if shape.expires_ms.is_some() { 5 } else { 3 });
    encode_argument(buffer, b"SET");
    encode_argument(buffer, &scratch.key);
    scratch.element.clear();
    push_element(
        &mut scratch.element,
        spec,
        index,
        At {
            generation,
            element: 0,
        },
        shape.size,
    );
    encode_argument(buffer, &scratch.element);
    if let Some(expires_ms) = shape.expires_ms {
        encode_argument(buffer, b"PXAT");
        encode_argument(buffer, expires_ms.to_string().as_bytes());
    }
}

fn push_elements(
    buffer: &mut Vec<u8>,
    scratch: &mut Scratch,
    spec: &LedgerSpec,
    index: u64,
    generation: u8,
    shape: &Shape,
) {
    let (name, stride): (&[u8], usize) = match shape.kind {
        KeyKind::String => unreachable!("strings are written by push_set"),
        KeyKind::Hash => (b"HSET", 2),
        KeyKind::List => (b"RPUSH", 1),
        KeyKind::Set => (b"SADD", 1),
        KeyKind::ZSet => (b"ZADD", 2),
        KeyKind::Stream => (b"XADD", 2),
    };
    let id = usize::from(shape.kind == KeyKind::Stream);
    encode_header(buffer, 2 + id + shape.elements * stride);
    encode_argument(buffer, name);
    encode_argument(buffer, &scratch.key);
    if shape.kind == KeyKind::Stream {
        encode_argument(buffer, format!("{generation}-1").as_bytes());
    }
    for element in 0..shape.elements {
        scratch.number.clear();
        let mut digits = itoa::Buffer::new();
        scratch
            .number
            .extend_from_slice(digits.format(element).as_bytes());
        scratch.element.clear();
        push_element(
            &mut scratch.element,
            spec,
            index,
            At { generation, element },
            shape.size,
        );
        if stride == 2 {
            // Field names and scores precede the value.
            encode_argument(buffer, &scratch.number);
        }
        encode_argument(buffer, &scratch.element);
    }
}

/// Appends the commands that read the content of key `index`, and its expiry if it has one. Returns
/// their number of replies.
pub(super) fn push_read(buffer: &mut Vec<u8>, scratch: &mut Scratch, spec: &LedgerSpec, index: u64) -> usize {
    let shape = spec.shape(index);
    scratch.key.clear();
    spec.push_key(&mut scratch.key, index);
    let key = &scratch.key;
    match shape.kind {
        KeyKind::String => encode(buffer, &[b"GET", key]),
        KeyKind::Hash => encode(buffer, &[b"HGETALL", key]),
        KeyKind::List => encode(buffer, &[b"LRANGE", key, b"0", b"-1"]),
        KeyKind::Set => encode(buffer, &[b"SMEMBERS", key]),
        KeyKind::ZSet => encode(buffer, &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
        KeyKind::Stream => encode(buffer, &[b"XRANGE", key, b"-", b"+"]),
    }
    if shape.expires_ms.is_some() {
        encode(buffer, &[b"PEXPIRETIME", key]);
        return 2;
    }
    1
}

#[cfg(test)]
mod tests {
    use super::super::spec::Mix;
    use super::*;

    /// Returns the number of commands in `buffer`.
    fn commands(buffer: &[u8]) -> usize {
        let mut count = 0;
        let mut lines = buffer.split(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            if line.first() == Some(&b'*') {
                count += 1;
            }
            assert!(lines.peek().is_some() || line.is_empty());
        }
        count
    }

    #[test]
    fn as_many_replies_are_expected_as_commands_are_sent() {
        let spec = LedgerSpec {
            label: "t".to_owned(),
            seed: 3,
            keys: 500,
            mix: Mix::Varied,
            base_ms: 1,
        };
        let mut scratch = Scratch::default();
        for index in (2..500).filter(|&index| spec.shape(index).size < 8) {
            for generation in [1, 2] {
                let mut buffer = Vec::new();
                let replies = push_write(&mut buffer, &mut scratch, &spec, index, generation);
                // Values are random bytes: count by parsing lengths, not by looking for stars in
                // short values.
                assert!(commands(&buffer) >= replies);
                buffer.clear();
                let replies = push_read(&mut buffer, &mut scratch, &spec, index);
                assert_eq!(commands(&buffer), replies);
            }
        }
    }
}
