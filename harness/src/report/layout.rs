//! Text that fits the terminal: names shortened in the middle, sentences broken between words, commands broken so that they can
//! be copied. Where the width is not known (a pipe, a log), everything stays on its line.

use console::measure_text_width;

/// Narrower than this, nothing is readable, whatever is done about it.
pub(super) const LEAST_WIDTH: usize = 24;

/// How far the rest of a broken line is moved in.
const HANG: &str = "  ";

/// `text` in at most `width` columns. What does not fit is left out of the middle: names differ at both ends.
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

/// Every line of `text` in lines of at most `width` columns, broken between words; what is continued is moved in. A word
/// that is longer than a line stays whole, on a line of its own: half a path is of no use to anybody.
pub(super) fn wrapped(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| broken(line, width, HANG, ""))
        .collect();
    lines.join("\n")
}

/// A command in lines of at most `width` columns that a shell takes for one.
pub(super) fn command(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) => broken(text, width, HANG, " \\"),
        None => text.to_owned(),
    }
}

/// `line` broken between words, each but the last with `mark` behind it.
fn broken(line: &str, width: usize, hang: &str, mark: &str) -> String {
    if measure_text_width(line) <= width {
        return line.to_owned();
    }
    let margin: String = line.chars().take_while(|character| *character == ' ').collect();
    let mut done = String::new();
    let mut current = margin.clone();
    let mut empty = true;
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        let needed = measure_text_width(&current) + usize::from(!empty) + measure_text_width(word);
        if !empty && needed + mark.len() > width {
            done.push_str(&current);
            done.push_str(mark);
            done.push('\n');
            current = format!("{margin}{hang}");
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    done + &current
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
