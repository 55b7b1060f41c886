//! Passwords, and how they stay out of everything that is written down.
//!
//! A [`Password`] can be used but not printed; a [`Redactor`] removes the registered ones from text that came
//! from elsewhere (a container's log, a rendered manifest, an error message). Neither stores or fetches secrets.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// What stands in the place of a removed secret.
pub const REDACTED: &str = "[redacted]";

/// Shorter secrets are not searched for: replacing every "a" would destroy the evidence and hide nothing.
const SHORTEST_SEARCHED: usize = 4;

/// A Valkey password. It has no `Display` and no `Serialize`, and its `Debug` shows nothing of it, not even its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself, for the one place that must send it. Never format it.
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

/// The passwords that a server may have just now, the likeliest first: usually one, two while they are rotated, none
/// where no password is wanted.
#[derive(Debug, Clone, Default)]
pub struct Passwords(Vec<Password>);

impl Passwords {
    /// Tries `password` before those that are known already.
    pub fn prefer(&mut self, password: Password) {
        self.0.retain(|known| *known != password);
        self.0.insert(0, password);
    }

    /// Tries `password` after those that are known already.
    pub fn add(&mut self, password: Password) {
        if !self.0.contains(&password) {
            self.0.push(password);
        }
    }

    /// The likeliest.
    pub fn first(&self) -> Option<&Password> {
        self.0.first()
    }

    /// What to try, in order; nothing at all is one way in, where there is no password.
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

/// Removes every registered secret from text: as it is, base64-encoded (alone or within something longer), percent-encoded,
/// and escaped as JSON, HTML and XML have it.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another one is removed whole.
    needles: Vec<String>,
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
        // JSON within JSON, as a log collector writes a line that is JSON already.
        forms.push(escape_json(&escape_json(plain)));
        // As XML and HTML have it, in whose text some of its characters may not stand.
        forms.push(escape_markup(plain));
        // The text may have gained a line break before it was encoded (`echo secret | base64`).
        for text in [plain.to_owned(), format!("{plain}\n")] {
            forms.push(STANDARD.encode(&text));
            forms.push(STANDARD_NO_PAD.encode(&text));
            forms.push(URL_SAFE.encode(&text));
            forms.push(URL_SAFE_NO_PAD.encode(&text));
        }
        forms.extend((0..3).flat_map(|before| within_base64(plain, before)));
        self.needles.extend(forms);
        self.needles
            .sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.needles.dedup();
    }

    /// `text` without any registered secret.
    pub fn redact(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for needle in &self.needles {
            if clean.contains(needle.as_str()) {
                clean = clean.replace(needle.as_str(), REDACTED);
            }
        }
        clean
    }

    /// `content` without any registered secret; nothing when there is none in it.
    fn redact_bytes(&self, content: &[u8]) -> Option<Vec<u8>> {
        let mut clean: Option<Vec<u8>> = None;
        for needle in &self.needles {
            let present = clean.as_deref().unwrap_or(content);
            if let Some(replaced) = replace(present, needle.as_bytes()) {
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

/// Every secret of a run, as its trials come to know them: for what is written of the run as a whole, and by others. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub struct RunSecrets(Arc<Mutex<Redactor>>);

impl RunSecrets {
    /// Registers a secret and its encodings.
    pub fn register(&self, password: &Password) {
        self.lock().register(password);
    }

    /// Removes every registered secret from the files beneath `folder`, whoever wrote them (a cluster's provider exports
    /// the logs of every container), and returns how many files had one. What is compressed is not looked into.
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

/// What base64 makes of the text where `before` bytes (modulo 3) stand before it, whatever they and those behind it are; in
/// both alphabets. Nothing where what is left is too short to be told from other text.
fn within_base64(text: &str, before: usize) -> Vec<String> {
    /// So many characters are no coincidence.
    const TELLING: usize = 12;
    let bytes = [vec![0; before], text.as_bytes().to_vec()].concat();
    // Each character stands for six bits; those that hold a foreign bit are left out.
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

/// RFC 3986 percent-encoding of everything that is not unreserved.
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

/// `content` with [`REDACTED`] for each `needle`; nothing when there is none.
fn replace(content: &[u8], needle: &[u8]) -> Option<Vec<u8>> {
    // Text is searched by the standard library's searcher, which is quick also where this crate is not optimised.
    if let Ok(text) = std::str::from_utf8(content) {
        let needle = std::str::from_utf8(needle).ok()?;
        return text
            .contains(needle)
            .then(|| text.replace(needle, REDACTED).into_bytes());
    }
    let mut clean = Vec::new();
    let mut from = 0;
    let starts = |at: usize| content[at..].starts_with(needle);
    while let Some(at) = (from..content.len()).find(|at| starts(*at)) {
        clean.extend_from_slice(&content[from..at]);
        clean.extend_from_slice(REDACTED.as_bytes());
        from = at + needle.len();
    }
    if from == 0 {
        return None;
    }
    clean.extend_from_slice(&content[from..]);
    Some(clean)
}

/// The password in the text of an HTML or XML document.
fn escape_markup(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The password as it looks inside a JSON string, without the quotes.
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
        let clean = redactor(secret).redact(&text);
        assert_eq!(
            clean,
            "plain [redacted] b64 [redacted] nl [redacted] url [redacted] json \"[redacted]\""
        );
    }

    #[test]
    fn a_secret_inside_another_leaves_no_rest() {
        let mut both = redactor("abcdef");
        both.register(&Password::new("abcdefghij"));
        assert_eq!(both.redact("x abcdefghij y abcdef"), "x [redacted] y [redacted]");
    }

    #[test]
    fn json_is_redacted_in_depth_and_keeps_its_order() {
        let mut document = serde_json::json!({"b": ["hunter22"], "a": {"hunter22": 1}});
        redactor("hunter22").redact_json(&mut document);
        assert_eq!(
            document.to_string(),
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
            assert!(clean.contains(REDACTED), "{before:?} {after:?}: {clean}");
            assert!(clean.len() < REDACTED.len() + 26, "{clean}");
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
        let read = |path: &std::path::PathBuf| std::fs::read(path).expect("read");
        assert_eq!(read(&text), b"requirepass [redacted]\n");
        assert_eq!(read(&binary), b"\xff\xfe[redacted]\xff");
        assert_eq!(read(&other), b"nothing of the kind");
    }
}
