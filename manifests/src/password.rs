//! A Valkey password that `Debug` redacts and that the image's entrypoint keeps intact.
//!
//! The documented entrypoint appends `--requirepass $VALKEY_PASSWORD` to `VALKEY_EXTRA_FLAGS`. It
//! expands the result *unquoted*, with word splitting and globbing. A password that this would
//! change is refused here with the reason. Otherwise the server's password would differ from the
//! Secret's.

use std::fmt;

/// Length of a generated password, as documented by the chart (`auth.password`: "auto-generated
/// 16-char").
pub const GENERATED_LENGTH: usize = 16;

const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A password that reaches the server unchanged through the image's entrypoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// The reason that a text cannot be a password of this chart. Messages never contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// An empty password is "no password" to Valkey.
    #[error("password is empty")]
    Empty,
    /// The entrypoint would split a text with white space into several arguments.
    #[error("password contains white space, at which the image's entrypoint would split it")]
    Whitespace,
    /// `*`, `?`, `[` and `\` are patterns to the shell that expands the flags unquoted.
    #[error("password contains {0:?}, which the image's entrypoint would expand as a file name pattern")]
    Glob(char),
    /// Valkey reads an argument that begins with two dashes as the next option.
    #[error("password begins with \"--\", which the server would read as an option")]
    Option,
    /// Control characters do not survive a command line or an environment.
    #[error("password contains a control character")]
    Control,
}

impl Password {
    /// Accepts `text` if the entrypoint passes it on unchanged.
    ///
    /// # Errors
    /// Returns the first property of `text` that the entrypoint or the server cannot handle.
    pub fn parse(text: impl Into<String>) -> Result<Self, PasswordError> {
        let text = text.into();
        check(&text)?;
        Ok(Self(text))
    }

    /// Makes a 16-character alphanumeric password from `entropy`, which must come from a secure
    /// source. Two bytes for each character keep the modulo's bias below 0.1 %.
    #[must_use]
    pub fn from_entropy(entropy: &[u8; 2 * GENERATED_LENGTH]) -> Self {
        let character = |pair: &[u8]| {
            let number = usize::from(u16::from_be_bytes([pair[0], pair[1]]));
            char::from(ALPHANUMERIC[number % ALPHANUMERIC.len()])
        };
        Self(entropy.chunks_exact(2).map(character).collect())
    }

    /// Returns the password itself, for a Secret's data or an `AUTH`; never for a log or a command
    /// line.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

fn check(text: &str) -> Result<(), PasswordError> {
    if text.is_empty() {
        return Err(PasswordError::Empty);
    }
    if text.starts_with("--") {
        return Err(PasswordError::Option);
    }
    for character in text.chars() {
        match character {
            '*' | '?' | '[' | '\\' => return Err(PasswordError::Glob(character)),
            c if c.is_whitespace() => return Err(PasswordError::Whitespace),
            c if c.is_control() => return Err(PasswordError::Control),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_unquoted_expansion_would_change_is_refused() {
        for (text, error) in [
            ("", PasswordError::Empty),
            ("two words", PasswordError::Whitespace),
            ("line\nbreak", PasswordError::Whitespace),
            ("a*b", PasswordError::Glob('*')),
            ("back\\slash", PasswordError::Glob('\\')),
            ("--save", PasswordError::Option),
            ("nul\0", PasswordError::Control),
        ] {
            assert_eq!(Password::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn quotes_dollars_and_other_scripts_pass() {
        for text in [
            "it's\"quoted\"",
            "$(POD_IP)$HOME`id`",
            "пароль",
            "-single",
            "a#b;c&d|e",
        ] {
            assert_eq!(
                Password::parse(text).expect("is carried unchanged").reveal(),
                text
            );
        }
    }

    #[test]
    fn debug_output_hides_it() {
        let shown = format!("{:?}", Password::parse("topsecret").expect("valid"));
        assert!(!shown.contains("topsecret"), "{shown}");
    }

    #[test]
    fn generated_passwords_follow_the_entropy() {
        let one = Password::from_entropy(&[7; 32]);
        let other = Password::from_entropy(&[8; 32]);
        assert_eq!(one.reveal().len(), GENERATED_LENGTH);
        assert!(one.reveal().chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }
}
