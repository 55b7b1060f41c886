//! Passwords, and the means to keep them out of all output.
//!
//! A [`Password`] can be used but not printed. A [`Redactor`] removes registered passwords from
//! foreign text: container logs, rendered manifests, error messages. Neither type stores or fetches
//! secrets.

mod find;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

pub use find::passwords_in;

/// The placeholder of a secret that is never known. A known secret has its own placeholder, such as
/// `[redacted 3f2a]`, so that two passwords can be distinguished.
pub const REDACTED: &str = "[redacted]";

/// Minimum length of a secret to search for. Replacing every "a" would destroy the evidence and
/// hide nothing.
const SHORTEST_SEARCHED: usize = 4;

/// A Valkey password. It has no `Display` and no `Serialize`. Its `Debug` output reveals nothing,
/// not even the length.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// Returns the plain password for the one place that must send it. Never format the result.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({REDACTED})")
    }
}

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(password)
    }
}

/// The passwords that a server may have at present, the likeliest first. Usually there is one, and
/// two during a rotation. There is none if the server needs no password.
#[derive(Debug, Clone, Default)]
pub struct Passwords(Vec<Password>);

impl Passwords {
    /// Tries `password` before those already known.
    pub fn prefer(&mut self, password: Password) {
        self.0.retain(|known| *known != password);
        self.0.insert(0, password);
    }

    /// Tries `password` after those already known.
    pub fn add(&mut self, password: Password) {
        if !self.0.contains(&password) {
            self.0.push(password);
        }
    }

    /// Returns the likeliest password.
    pub fn first(&self) -> Option<&Password> {
        self.0.first()
    }

    /// Returns the passwords to try, in order. Returns a single `None` if no password is known.
    pub fn candidates(&self) -> impl Iterator<Item = Option<&Password>> {
        let none = self.0.is_empty().then_some(None);
        self.0.iter().map(Some).chain(none)
    }
}

impl From<Option<Password>> for Passwords {
    fn from(password: Option<Password>) -> Self {
        Self(password.into_iter().collect())
    }
}

/// Removes every registered secret from text: plain, base64-encoded (also within longer data),
/// percent-encoded, and escaped for JSON, HTML and XML.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Pairs of form and placeholder, longest form first. A secret that contains another one is
    /// thus removed whole.
    needles: Vec<(String, Arc<str>)>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} patterns)", self.needles.len())
    }
}

impl Redactor {
    /// Registers a secret and its encodings.
    pub fn register(&mut self, password: &Password) {
        let plain = password.expose();
        if plain.len() < SHORTEST_SEARCHED {
            return;
        }
        let mut forms = vec![plain.to_owned(), percent_encode(plain), escape_json(plain)];
        // JSON within JSON, as written by a log collector for a line that is already JSON.
        forms.push(escape_json(&escape_json(plain)));
        // XML and HTML text must escape some characters.
        forms.push(escape_markup(plain));
        // The text may have gained a line break before it was encoded (`echo secret | base64`).
        for text in [plain.to_owned(), format!("{plain}\n")] {
            forms.push(STANDARD.encode(&text));
            forms.push(STANDARD_NO_PAD.encode(&text));
            forms.push(URL_SAFE.encode(&text));
            forms.push(URL_SAFE_NO_PAD.encode(&text));
        }
        forms.extend((0..3).flat_map(|before| within_base64(plain, before)));
        forms.extend(other_escapes(plain));
        let sign = sign(plain);
        let signed = forms.into_iter().map(|form| (form, Arc::clone(&sign)));
        self.needles.extend(signed);
        self.needles
            .sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.needles.dedup_by(|(a, _), (b, _)| a == b);
    }

    /// Returns `text` without any registered secret.
    pub fn redact(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for (needle, sign) in &self.needles {
            if clean.contains(needle.as_str()) {
                clean = clean.replace(needle.as_str(), sign);
            }
        }
        clean
    }

    /// Returns `content` without any registered secret; `None` if it contains none.
    fn redact_bytes(&self, content: &[u8]) -> Option<Vec<u8>> {
        let mut clean: Option<Vec<u8>> = None;
        for (needle, sign) in &self.needles {
            let present = clean.as_deref().unwrap_or(content);
            if let Some(replaced) = replace(present, needle.as_bytes(), sign) {
                clean = Some(replaced);
            }
        }
        clean
    }

    /// Removes every registered secret from each string inside a JSON document, keys included.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.redact(text),
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            serde_json::Value::Object(map) => {
                let entries = std::mem::take(map);
                for (key, mut item) in entries {
                    self.redact_json(&mut item);
                    map.insert(self.redact(&key), item);
                }
            }
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }
}

/// All secrets of a run, collected from its trials. It cleans the run's overall output and files
/// written by other programs. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct RunSecrets(Arc<Mutex<Redactor>>);

impl RunSecrets {
    /// Registers a secret and its encodings.
    pub fn register(&self, password: &Password) {
        self.lock().register(password);
    }

    /// Removes every registered secret from the files beneath `folder`, and returns the number of
    /// changed files. Other programs write such files, such as the cluster's provider that exports
    /// container logs. Compressed files are not searched.
    pub fn redact_files(&self, folder: &Path) -> io::Result<usize> {
        let mut changed = 0;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                changed += self.redact_files(&entry.path())?;
            } else if kind.is_file() {
                let content = std::fs::read(entry.path())?;
                if let Some(clean) = self.lock().redact_bytes(&content) {
                    std::fs::write(entry.path(), clean)?;
                    changed += 1;
                }
            }
        }
        Ok(changed)
    }

    fn lock(&self) -> MutexGuard<'_, Redactor> {
        self.0.lock().expect("no code panics while it holds the secrets")
    }
}

/// Returns the placeholder of a secret. The hash uses a random key of this process, so it says
/// nothing about the secret.
fn sign(plain: &str) -> Arc<str> {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let hash = KEY.hash_one(plain) & 0xffff;
    format!("[redacted {hash:04x}]").into()
}

/// Returns the hexadecimal form and the escapes of other writers. These are Go's JSON, numeric HTML
/// and XML references, YAML and shells.
fn other_escapes(plain: &str) -> Vec<String> {
    let hex: String = plain.bytes().map(|byte| format!("{byte:02x}")).collect();
    let json = escape_json(plain);
    let of_go = json
        .replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e");
    let markup = escape_markup(plain);
    let of_xml = markup.replace('\'', "&apos;");
    let decimal = plain
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    let hexadecimal = markup.replace('\'', "&#x27;");
    let (yaml, shell) = (plain.replace('\'', "''"), plain.replace('\'', "'\\''"));
    let mut forms = vec![
        hex.to_uppercase(),
        of_go,
        of_xml,
        decimal,
        hexadecimal,
        yaml,
        shell,
    ];
    forms.push(hex);
    forms
}

/// Returns the base64 forms of the text after `before` bytes (modulo 3), in both alphabets. The
/// forms do not depend on the bytes around the text. Returns nothing if the form is too short to be
/// distinguished from other text.
fn within_base64(text: &str, before: usize) -> Vec<String> {
    /// A match of this many characters is no coincidence.
    const TELLING: usize = 12;
    let bytes = [vec![0; before], text.as_bytes().to_vec()].concat();
    // Each character stands for six bits. Characters with bits of other bytes are left out.
    let first = (before * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    if last < first + TELLING {
        return Vec::new();
    }
    [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]
        .iter()
        .map(|encoded| encoded[first..last].to_owned())
        .collect()
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn percent_encode(text: &str) -> String {
    use fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

/// Returns `content` with `sign` for each `needle`; `None` if there is no needle.
fn replace(content: &[u8], needle: &[u8], sign: &str) -> Option<Vec<u8>> {
    // The standard library searches text, which is fast even if this crate is not optimised.
    if let Ok(text) = std::str::from_utf8(content) {
        let needle = std::str::from_utf8(needle).ok()?;
        return text
            .contains(needle)
            .then(|| text.replace(needle, sign).into_bytes());
    }
    let mut clean = Vec::new();
    let mut from = 0;
    let starts = |at: usize| content[at..].starts_with(needle);
    while let Some(at) = (from..content.len()).find(|at| starts(*at)) {
        clean.extend_from_slice(&content[from..at]);
        clean.extend_from_slice(sign.as_bytes());
        from = at + needle.len();
    }
    if from == 0 {
        return None;
    }
    clean.extend_from_slice(&content[from..]);
    Some(clean)
}

/// Escapes the password for the text of an HTML or XML document.
fn escape_markup(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Escapes the password for a JSON string, without the quotes.
fn escape_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secret: &str) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.register(&Password::new(secret));
        redactor
    }

    /// Returns the text with equal placeholders for all secrets.
    fn unsigned(text: &str) -> String {
        let mut parts = text.split("[redacted ");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| {
            text + REDACTED + part.get(5..).unwrap_or_default()
        })
    }

    #[test]
    fn two_passwords_can_be_told_apart() {
        let mut both = redactor("the-old-one");
        both.register(&Password::new("the-new-one"));
        let clean = both.redact("the-old-one the-new-one the-old-one");
        let signs: Vec<&str> = clean.split("] ").collect();
        assert_eq!(signs[0], signs[2].trim_end_matches(']'));
        assert_ne!(signs[0], signs[1]);
    }

    #[test]
    fn escapes_of_other_writers_are_removed() {
        let secret = "it's <p&w> \"d\"";
        let redactor = redactor(secret);
        for text in [
            r#"it's \u003cp\u0026w\u003e \"d\""#,
            "it&#39;s &lt;p&amp;w&gt; &#34;d&#34;",
            "it&apos;s &lt;p&amp;w&gt; &quot;d&quot;",
            "it''s <p&w> \"d\"",
            r#"it'\''s <p&w> "d""#,
            "69742773203c7026773e20226422",
            "69742773203C7026773E20226422",
        ] {
            assert_eq!(unsigned(&redactor.redact(text)), REDACTED, "{text}");
        }
    }

    #[test]
    fn passwords_are_tried_in_order_and_each_once() {
        let named = |passwords: &Passwords| -> Vec<Option<String>> {
            let tried = passwords.candidates();
            tried.map(|one| one.map(|one| one.expose().to_owned())).collect()
        };
        let mut passwords = Passwords::default();
        assert_eq!(named(&passwords), [None]);
        passwords.add(Password::new("old"));
        passwords.add(Password::new("new"));
        passwords.add(Password::new("old"));
        assert_eq!(
            named(&passwords),
            [Some("old".to_owned()), Some("new".to_owned())]
        );
        passwords.prefer(Password::new("new"));
        assert_eq!(
            named(&passwords),
            [Some("new".to_owned()), Some("old".to_owned())]
        );
    }

    #[test]
    fn debug_shows_nothing_of_the_password() {
        let shown = format!("{:?}", Password::new("s3cret-pass"));
        assert_eq!(shown, "Password([redacted])");
    }

    #[test]
    fn every_encoding_is_removed() {
        let secret = "p@ss/w\"rd+1";
        let text = format!(
            "plain {secret} b64 {} nl {} url {} json {}",
            STANDARD.encode(secret),
            STANDARD.encode(format!("{secret}\n")),
            percent_encode(secret),
            serde_json::Value::from(secret),
        );
        let clean = unsigned(&redactor(secret).redact(&text));
        assert_eq!(
            clean,
            "plain [redacted] b64 [redacted] nl [redacted] url [redacted] json \"[redacted]\""
        );
    }

    #[test]
    fn a_secret_inside_another_leaves_no_rest() {
        let mut both = redactor("abcdef");
        both.register(&Password::new("abcdefghij"));
        let clean = both.redact("x abcdefghij y abcdef");
        assert_eq!(unsigned(&clean), "x [redacted] y [redacted]");
    }

    #[test]
    fn json_is_redacted_in_depth_and_keeps_its_order() {
        let mut document = serde_json::json!({"b": ["hunter22"], "a": {"hunter22": 1}});
        redactor("hunter22").redact_json(&mut document);
        assert_eq!(
            unsigned(&document.to_string()),
            r#"{"b":["[redacted]"],"a":{"[redacted]":1}}"#
        );
    }

    #[test]
    fn a_secret_within_something_that_was_encoded_is_removed() {
        let secret = "correct-horse-battery";
        let redactor = redactor(secret);
        for (before, after) in [("", "!"), ("u:", ""), ("usr:", "\n"), ("admin:", " and more")] {
            let encoded = STANDARD.encode(format!("{before}{secret}{after}"));
            let clean = redactor.redact(&encoded);
            assert!(
                unsigned(&clean).contains(REDACTED),
                "{before:?} {after:?}: {clean}"
            );
            assert!(clean.len() < "[redacted 0000]".len() + 26, "{clean}");
        }
        assert_eq!(
            redactor.redact(&STANDARD.encode("something else altogether")),
            STANDARD.encode("something else altogether")
        );
    }

    #[test]
    fn files_of_others_are_cleaned_and_the_rest_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let secrets = RunSecrets::default();
        secrets.clone().register(&Password::new("hunter22-and-more"));
        let nested = folder.path().join("kind-logs/pods");
        std::fs::create_dir_all(&nested).expect("made");
        let write = |name: &str, content: &[u8]| {
            let path = nested.join(name);
            std::fs::write(&path, content).expect("written");
            path
        };
        let text = write("a.log", b"requirepass hunter22-and-more\n");
        let binary = write("b.bin", b"\xff\xfehunter22-and-more\xff");
        let other = write("c.log", b"nothing of the kind");
        assert_eq!(secrets.redact_files(folder.path()).expect("readable"), 2);
        let sign = sign("hunter22-and-more");
        let read = |path: &std::path::PathBuf| std::fs::read(path).expect("read");
        assert_eq!(read(&text), format!("requirepass {sign}\n").as_bytes());
        assert_eq!(read(&binary), [b"\xff\xfe", sign.as_bytes(), b"\xff"].concat());
        assert_eq!(read(&other), b"nothing of the kind");
    }
}
