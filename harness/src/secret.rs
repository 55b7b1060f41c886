//! Passwords, and how they stay out of everything that is written down.
//!
//! A [`Password`] can be used but not printed; a [`Redactor`] removes the registered ones from text that came
//! from elsewhere (a container's log, a rendered manifest, an error message). Neither stores or fetches secrets.

use std::fmt;

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

/// Removes every registered secret from text: as it is, base64-encoded, and percent-encoded.
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
        // The text may have gained a line break before it was encoded (`echo secret | base64`).
        for text in [plain.to_owned(), format!("{plain}\n")] {
            forms.push(STANDARD.encode(&text));
            forms.push(STANDARD_NO_PAD.encode(&text));
            forms.push(URL_SAFE.encode(&text));
            forms.push(URL_SAFE_NO_PAD.encode(&text));
        }
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
}
