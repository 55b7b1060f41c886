//! Foreign text, made safe for a terminal, Markdown and HTML. Control characters are shown instead
//! of interpreted.

use std::borrow::Cow;

use serde_json::Value;

/// Replaces each control character by a visible sign. Line breaks and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let text = text.replace("\r\n", "\n");
    Cow::Owned(
        text.chars()
            .map(|c| if is_active(c) { shown(c) } else { c })
            .collect(),
    )
}

/// Makes every string in a JSON document printable, keys included.
pub fn printable_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(clean) = printable(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(printable_json),
        Value::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                printable_json(&mut item);
                map.insert(printable(&key).into_owned(), item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns true if a terminal or a browser interprets this character instead of showing it. That
/// includes C0 and C1 controls, and controls of the text direction.
fn is_active(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

fn shown(c: char) -> char {
    match c {
        // The Control Pictures block of Unicode.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, expected) in [
            ("plain\n\ttext", "plain\n\ttext"),
            ("\u{1b}[2J\u{1b}]0;pwned\u{7}", "␛[2J␛]0;pwned␇"),
            ("a\0b\rc\r\nd\u{7f}", "a␀b␍c\nd␡"),
            ("\u{9b}31m \u{202e}txt", "\u{fffd}31m \u{fffd}txt"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn json_is_made_printable_in_depth() {
        let mut value = serde_json::json!({"\u{1b}k": ["\u{1b}v"], "n": 1});
        printable_json(&mut value);
        assert_eq!(value, serde_json::json!({"␛k": ["␛v"], "n": 1}));
    }
}
