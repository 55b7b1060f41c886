//! Text layout for the terminal. Names are shortened in the middle, and sentences wrap between
//! words. Wrapped commands can still be copied. Without a known width (a pipe, a log), nothing is
//! wrapped.

use console::measure_text_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// The least width: below it, no layout is readable.
pub(super) const LEAST_WIDTH: usize = 24;

/// Indentation of continued lines.
const HANG: &str = "  ";

/// Returns `text` in at most `width` columns. Shortens it in the middle, because names differ at
/// both ends.
pub(super) fn shortened(text: &str, width: usize) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let tail = kept.div_ceil(2);
    let (head, rest) = characters.split_at(kept - tail);
    let end = &rest[rest.len() - tail..];
    head.iter().chain(['…'].iter()).chain(end).collect()
}

/// Wraps each line of `text` between words to at most `width` columns, with continued lines
/// indented. A word longer than a line stays whole on its own line: half a path is useless.
pub(super) fn wrapped(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let lines: Vec<String> = text.split('\n').map(|line| broken(line, width, "")).collect();
    lines.join("\n")
}

/// Wraps a command to at most `width` columns, so that a shell reads it as one command.
pub(super) fn command(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) => broken(text, width, " \\"),
        None => text.to_owned(),
    }
}

/// Breaks `line` between words and puts `mark` behind each part but the last.
fn broken(line: &str, width: usize, mark: &str) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let margin: String = line.chars().take_while(|character| *character == ' ').collect();
    let hanging = format!("{margin}{HANG}");
    let options = Options::new(width.saturating_sub(mark.len()))
        .initial_indent(&margin)
        .subsequent_indent(&hanging)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(line.trim_start(), options).join(&format!("{mark}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_both_of_its_ends() {
        assert_eq!(shortened("persistence::survives", 30), "persistence::survives");
        assert_eq!(shortened("persistence::survives", 11), "persi…vives");
        assert_eq!(shortened("persistence::survives", 1), "…");
    }

    #[test]
    fn a_sentence_is_broken_between_words_and_a_path_never() {
        let text = "  evidence: reports/r1/evidence/formation-forms-cluster-rpm is here";
        assert_eq!(
            wrapped(text, Some(24)),
            "  evidence:\n    reports/r1/evidence/formation-forms-cluster-rpm\n    is here"
        );
        assert_eq!(wrapped(text, None), text);
        assert_eq!(wrapped("one\n\ntwo", Some(24)), "one\n\ntwo");
    }

    #[test]
    fn colours_have_no_width() {
        let painted = "\u{1b}[1;31mFAIL\u{1b}[0m and more";
        assert_eq!(wrapped(painted, Some(13)), painted);
    }

    #[test]
    fn a_broken_command_is_still_one() {
        let text = command("  again: cargo xtask e2e --mode cluster --seed 7", Some(30));
        assert_eq!(text, "  again: cargo xtask e2e \\\n    --mode cluster --seed 7");
        assert!(text.lines().all(|line| line.len() <= 30), "{text}");
    }
}
