//! A plain RESP2 stream: whole pipelines out, replies in, without an allocation per reply.
//!
//! The `redis` crate's connection lacks MONITOR, and is too slow for the ledger's millions of keys.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dialer::BoxedStream;
use secret::Passwords;

/// Size of one read: a few hundred replies of a ledger's pass.
const READ_CHUNK: usize = 64 * 1024;

/// Maximum nesting of a reply: XRANGE returns lists of lists of lists.
const MAX_DEPTH: usize = 8;

/// A connection without a driver task: its owner reads and writes.
pub struct Wire {
    stream: BoxedStream,
    buffer: BytesMut,
}

/// One reply, borrowed from the read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+…`
    Simple(&'a [u8]),
    /// `-…`
    Error(&'a [u8]),
    /// `:…`
    Integer(i64),
    /// `$…`
    Bulk(&'a [u8]),
    /// `$-1` or `*-1`
    Nil,
    /// `*…`
    Array(Vec<Reply<'a>>),
}

impl Reply<'_> {
    /// Returns the bytes of a string of either kind.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Wire {
    /// Wraps a stream. Authenticates with the first of `passwords` that the server accepts, if
    /// there are any.
    ///
    /// # Errors
    /// When the stream breaks or the server refuses them all.
    pub async fn open(stream: BoxedStream, passwords: &Passwords) -> io::Result<Self> {
        let mut wire = Self {
            stream,
            buffer: BytesMut::with_capacity(READ_CHUNK),
        };
        let mut refusal = None;
        for password in passwords.candidates().flatten() {
            let mut auth = Vec::new();
            encode(&mut auth, &[b"AUTH", password.expose().as_bytes()]);
            wire.send(&auth).await?;
            let answer = wire.reply(|reply| match reply {
                Reply::Simple(b"OK") => Ok(None),
                Reply::Error(text) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
                other => Err(unexpected(&format!("{other:?}"))),
            });
            refusal = answer.await??;
            if refusal.is_none() {
                break;
            }
        }
        match refusal {
            None => Ok(wire),
            Some(text) => Err(io::Error::new(io::ErrorKind::PermissionDenied, text)),
        }
    }

    /// Sends already encoded commands.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        self.stream.write_all(commands).await?;
        self.stream.flush().await
    }

    /// Waits for the next reply and passes it to `read`, which takes its data from the buffer.
    ///
    /// # Errors
    /// When the stream breaks or the data is not RESP2.
    pub async fn reply<T>(&mut self, read: impl FnOnce(Reply<'_>) -> T) -> io::Result<T> {
        let mut read = Some(read);
        let mut value = None;
        self.pipeline(&[], 1, |_, reply| value = read.take().map(|read| read(reply)))
            .await?;
        Ok(value.expect("one reply was read"))
    }

    /// Sends `commands` while it reads `count` replies. So neither side waits for the other with
    /// full buffers.
    ///
    /// # Errors
    /// When the stream breaks or the data is not RESP2; `read` has seen every reply before that.
    pub async fn pipeline(
        &mut self,
        commands: &[u8],
        count: usize,
        mut read: impl FnMut(usize, Reply<'_>),
    ) -> io::Result<()> {
        let (mut incoming, mut outgoing) = tokio::io::split(&mut self.stream);
        let buffer = &mut self.buffer;
        let write = async {
            outgoing.write_all(commands).await?;
            outgoing.flush().await
        };
        let receive = async {
            let mut seen = 0;
            // A large reply arrives in many reads. It is parsed again only once it can be complete.
            let mut wanted = 1;
            while seen < count {
                if buffer.len() >= wanted {
                    match parse(buffer, 0)? {
                        Parsed::Complete(reply, length) => {
                            read(seen, reply);
                            buffer.advance(length);
                            seen += 1;
                            wanted = 1;
                            continue;
                        }
                        Parsed::Needs(length) => wanted = length.max(buffer.len() + 1),
                    }
                }
                buffer.reserve(READ_CHUNK.max(wanted.saturating_sub(buffer.len())));
                if incoming.read_buf(buffer).await? == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the server closed the connection",
                    ));
                }
            }
            Ok(())
        };
        tokio::try_join!(write, receive).map(|_| ())
    }
}

/// Appends a command, as an array of bulk strings.
pub fn encode(buffer: &mut Vec<u8>, arguments: &[&[u8]]) {
    encode_header(buffer, arguments.len());
    for argument in arguments {
        encode_argument(buffer, argument);
    }
}

/// Appends the head of a command with `count` arguments. Append each with [`encode_argument`].
pub fn encode_header(buffer: &mut Vec<u8>, count: usize) {
    buffer.push(b'*');
    buffer.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    buffer.extend_from_slice(b"\r\n");
}

/// Appends one argument.
pub fn encode_argument(buffer: &mut Vec<u8>, argument: &[u8]) {
    buffer.push(b'$');
    buffer.extend_from_slice(itoa::Buffer::new().format(argument.len()).as_bytes());
    buffer.extend_from_slice(b"\r\n");
    buffer.extend_from_slice(argument);
    buffer.extend_from_slice(b"\r\n");
}

enum Parsed<'a> {
    Complete(Reply<'a>, usize),
    /// The reply needs at least this many bytes.
    Needs(usize),
}

fn parse(buffer: &[u8], depth: usize) -> io::Result<Parsed<'_>> {
    if depth > MAX_DEPTH {
        return Err(unexpected("a reply nested too deep"));
    }
    let Some(&kind) = buffer.first() else {
        return Ok(Parsed::Needs(1));
    };
    let Some(end) = buffer.iter().position(|&byte| byte == b'\n') else {
        return Ok(Parsed::Needs(buffer.len() + 1));
    };
    // A lone line feed has no first byte before its end.
    let line = buffer
        .get(1..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .ok_or_else(|| unexpected("a line without CR"))?;
    let next = end + 1;
    Ok(match kind {
        b'+' => Parsed::Complete(Reply::Simple(line), next),
        b'-' => Parsed::Complete(Reply::Error(line), next),
        b':' => Parsed::Complete(Reply::Integer(integer(line)?), next),
        b'$' => match usize::try_from(length(line)?) {
            Err(_) => Parsed::Complete(Reply::Nil, next),
            Ok(length) if buffer.len() < next + length + 2 => Parsed::Needs(next + length + 2),
            Ok(length) => Parsed::Complete(Reply::Bulk(&buffer[next..next + length]), next + length + 2),
        },
        b'*' => match usize::try_from(length(line)?) {
            Err(_) => Parsed::Complete(Reply::Nil, next),
            Ok(count) => return parse_array(buffer, next, count, depth),
        },
        other => {
            return Err(unexpected(&format!(
                "a reply that begins with {:?}",
                char::from(other)
            )));
        }
    })
}

fn parse_array(buffer: &[u8], mut at: usize, count: usize, depth: usize) -> io::Result<Parsed<'_>> {
    // The count comes from the server: allocate no more than the buffer can hold.
    let mut items = Vec::with_capacity(count.min(buffer.len()));
    for _ in 0..count {
        match parse(&buffer[at..], depth + 1)? {
            Parsed::Complete(item, length) => {
                items.push(item);
                at += length;
            }
            Parsed::Needs(length) => return Ok(Parsed::Needs(at + length)),
        }
    }
    Ok(Parsed::Complete(Reply::Array(items), at))
}

/// The largest length the server may claim: its own limit for a bulk string.
const MAX_LENGTH: i64 = 512 * 1024 * 1024;

fn length(text: &[u8]) -> io::Result<i64> {
    match integer(text)? {
        length if length <= MAX_LENGTH => Ok(length),
        length => Err(unexpected(&format!("a length of {length}"))),
    }
}

fn integer(text: &[u8]) -> io::Result<i64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            unexpected(&format!(
                "expected a number, got {:?}",
                String::from_utf8_lossy(text)
            ))
        })
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not RESP2: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(bytes: &[u8]) -> (Reply<'_>, usize) {
        match parse(bytes, 0).expect("RESP2") {
            Parsed::Complete(reply, length) => (reply, length),
            Parsed::Needs(length) => panic!("needs {length}"),
        }
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        assert_eq!(complete(b"+OK\r\n"), (Reply::Simple(b"OK"), 5));
        assert_eq!(complete(b"-ERR x\r\n"), (Reply::Error(b"ERR x"), 8));
        assert_eq!(complete(b":-7\r\n"), (Reply::Integer(-7), 5));
        assert_eq!(complete(b"$3\r\na\r\n\r\nrest"), (Reply::Bulk(b"a\r\n"), 9));
        assert_eq!(complete(b"$-1\r\n"), (Reply::Nil, 5));
        let nested = Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![Reply::Bulk(b"x")])]);
        assert_eq!(complete(b"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n"), (nested, 19));
    }

    #[test]
    fn an_incomplete_reply_says_how_much_it_needs() {
        assert!(matches!(parse(b"$10\r\nab", 0), Ok(Parsed::Needs(17))));
        assert!(matches!(parse(b"*2\r\n:1\r\n", 0), Ok(Parsed::Needs(9))));
        assert!(parse(b"$x\r\n", 0).is_err());
        assert!(parse(b"\n", 0).is_err());
        assert!(
            matches!(parse(b"*99999999\r\n", 0), Ok(Parsed::Needs(_))),
            "a boast allocates nothing"
        );
        assert!(parse(b"$99999999999\r\n", 0).is_err());
    }

    #[test]
    fn commands_are_encoded_as_bulk_strings() {
        let mut buffer = Vec::new();
        encode(&mut buffer, &[b"SET", b"k", b""]);
        assert_eq!(buffer, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b':'), Just(b'1'), Just(b'9'), Just(b'-'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..64)) {
            let _ = parse(&bytes, 0);
        }
    }
}
