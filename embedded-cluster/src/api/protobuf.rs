//! Protobuf bodies of the few messages that kubectl only ever sends so.
//!
//! Since 1.32 client-go's typed clients send protobuf and do not fall back: `kubectl create namespace`,
//! `kubectl create configmap`, `kubectl drain` and `kubectl auth can-i` among them. Everything else talks JSON.
//! Field numbers: the `generated.proto` files of `k8s.io/api` and `k8s.io/apimachinery`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The envelope's first bytes.
const MAGIC: &[u8] = b"k8s\0";

/// Messages nest this deep at most.
const MAX_DEPTH: usize = 16;

/// How a field is read.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Number,
    Flag,
    Message(&'static [Field]),
    /// `map<string, string>`
    TextMap,
    /// `map<string, bytes>`
    BytesMap,
    /// `repeated string`
    Texts,
}

/// A field's number, its name in JSON and its type.
type Field = (u64, &'static str, Type);

const META: &[Field] = &[
    (1, "name", Type::Text),
    (2, "generateName", Type::Text),
    (3, "namespace", Type::Text),
    (5, "uid", Type::Text),
    (6, "resourceVersion", Type::Text),
    (11, "labels", Type::TextMap),
    (12, "annotations", Type::TextMap),
    (14, "finalizers", Type::Texts),
];

const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Type::Number),
    (
        2,
        "preconditions",
        Type::Message(&[(1, "uid", Type::Text), (2, "resourceVersion", Type::Text)]),
    ),
    (3, "orphanDependents", Type::Flag),
    (4, "propagationPolicy", Type::Text),
    (5, "dryRun", Type::Texts),
];

const RESOURCE: &[Field] = &[
    (1, "namespace", Type::Text),
    (2, "verb", Type::Text),
    (3, "group", Type::Text),
    (4, "version", Type::Text),
    (5, "resource", Type::Text),
    (6, "subresource", Type::Text),
    (7, "name", Type::Text),
];

const ACCESS: &[Field] = &[
    (1, "resourceAttributes", Type::Message(RESOURCE)),
    (
        2,
        "nonResourceAttributes",
        Type::Message(&[(1, "path", Type::Text), (2, "verb", Type::Text)]),
    ),
];

fn message(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "DeleteOptions" => DELETE_OPTIONS,
        "Namespace" => &[(1, "metadata", Type::Message(META))],
        "ServiceAccount" => &[(1, "metadata", Type::Message(META))],
        "ConfigMap" => &[
            (1, "metadata", Type::Message(META)),
            (2, "data", Type::TextMap),
            (3, "binaryData", Type::BytesMap),
            (4, "immutable", Type::Flag),
        ],
        "Secret" => &[
            (1, "metadata", Type::Message(META)),
            (2, "data", Type::BytesMap),
            (3, "type", Type::Text),
            (4, "stringData", Type::TextMap),
            (5, "immutable", Type::Flag),
        ],
        "Eviction" => &[
            (1, "metadata", Type::Message(META)),
            (2, "deleteOptions", Type::Message(DELETE_OPTIONS)),
        ],
        "TokenRequest" => &[
            (1, "metadata", Type::Message(META)),
            (
                2,
                "spec",
                Type::Message(&[
                    (1, "audiences", Type::Texts),
                    (4, "expirationSeconds", Type::Number),
                ]),
            ),
        ],
        "SelfSubjectReview" => &[(1, "metadata", Type::Message(META))],
        "SelfSubjectAccessReview" => &[
            (1, "metadata", Type::Message(META)),
            (2, "spec", Type::Message(ACCESS)),
        ],
        "SelfSubjectRulesReview" => &[
            (1, "metadata", Type::Message(META)),
            (2, "spec", Type::Message(&[(1, "namespace", Type::Text)])),
        ],
        _ => return None,
    })
}

/// Decodes a body; `None` when it is malformed or not one of the messages known here.
pub(crate) fn decode(body: &[u8]) -> Option<Value> {
    let envelope = body.strip_prefix(MAGIC)?;
    let (mut kind, mut api_version, mut raw) = (String::new(), String::new(), &[][..]);
    for (number, part) in parts(envelope)? {
        match (number, part) {
            (1, Part::Bytes(bytes)) => {
                for (number, part) in parts(bytes)? {
                    match (number, part) {
                        (1, Part::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Part::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Part::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut value = read(raw, message(&kind)?, 0)?;
    value["kind"] = json!(kind);
    value["apiVersion"] = json!(api_version);
    Some(value)
}

enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn parts(mut bytes: &[u8]) -> Option<Vec<(u64, Part<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let part = match tag & 7 {
            0 => Part::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Part::Bytes(content)
            }
            _ => return None,
        };
        found.push((tag >> 3, part));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read(bytes: &[u8], fields: &[Field], depth: usize) -> Option<Value> {
    let mut value = json!({});
    if depth > MAX_DEPTH {
        return None;
    }
    for (number, part) in parts(bytes)? {
        let Some((_, name, field_type)) = fields.iter().find(|(own, _, _)| *own == number) else {
            continue;
        };
        match (field_type, part) {
            // An empty text or map stands for an absent one.
            (Type::Text, Part::Bytes([])) => {}
            (Type::Text, Part::Bytes(bytes)) => value[*name] = json!(text(bytes)?),
            (Type::Number, Part::Number(number)) => value[*name] = json!(number.cast_signed()),
            (Type::Flag, Part::Number(number)) => value[*name] = json!(number != 0),
            (Type::Message(fields), Part::Bytes(bytes)) => value[*name] = read(bytes, fields, depth + 1)?,
            (Type::Texts, Part::Bytes(bytes)) => match value[*name].as_array_mut() {
                Some(list) => list.push(json!(text(bytes)?)),
                None => value[*name] = json!([text(bytes)?]),
            },
            (Type::TextMap, Part::Bytes(bytes)) => {
                let (key, content) = entry(bytes)?;
                value[*name][text(key)?] = json!(text(content)?);
            }
            (Type::BytesMap, Part::Bytes(bytes)) => {
                let (key, content) = entry(bytes)?;
                value[*name][text(key)?] = json!(STANDARD.encode(content));
            }
            _ => return None,
        }
    }
    Some(value)
}

fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut content) = (&[][..], &[][..]);
    for (number, part) in parts(bytes)? {
        match (number, part) {
            (1, Part::Bytes(bytes)) => key = bytes,
            (2, Part::Bytes(bytes)) => content = bytes,
            _ => return None,
        }
    }
    Some((key, content))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("short");
        [&[number << 3 | 2, length][..], content].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let meta = field(1, &field(1, b"a"));
        let data = field(2, &[field(1, b"k"), field(2, b"v")].concat());
        let type_meta = field(1, &[field(1, b"v1"), field(2, b"ConfigMap")].concat());
        let body = [MAGIC, &type_meta, &field(2, &[meta, data].concat())].concat();
        assert_eq!(
            decode(&body).expect("well formed"),
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "kind": "ConfigMap", "apiVersion": "v1"})
        );
        for cut in 0..body.len() {
            // Whatever is cut off, nothing panics.
            drop(decode(&body[..cut]));
        }
    }
}
