//! Rules about text: width of doc lines, openings of docs, banned words, and paths of one machine.

use std::sync::LazyLock;

use regex::Regex;

use super::Violation;
use super::tree::{File, Tree};

/// The widest line of docs, in columns.
const WIDTH: usize = 100;

/// Openings that hide what the documented thing is.
const OPENINGS: [&str; 6] = ["What ", "How ", "Whether ", "Which ", "Who ", "The same"];

/// Words that readers stumble over, with the plain alternative.
const WORDS: [(&str, &str); 13] = [
    ("told", "distinguished, reported, given"),
    ("beside", "next to"),
    ("of its own", "own"),
    ("of their own", "own"),
    ("be had", "be available"),
    ("anew", "again"),
    ("whence", "from where"),
    ("of which", "two sentences"),
    ("for ever", "forever, without end"),
    ("it is so", "the fact itself"),
    ("doom", "terminal state"),
    ("patience", "deadline"),
    ("hopeless", "blocked"),
];

static BANNED: LazyLock<Regex> = LazyLock::new(|| {
    let words = WORDS.map(|(word, _)| word.replace(' ', r"\s")).join("|");
    Regex::new(&format!(r"(?i)\b({words})\b")).expect("words are a pattern")
});

static STRING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""((?:[^"\\]|\\.)*)""#).expect("a string literal is a pattern"));

static MACHINE_PATH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(^|[\s`'(=:])(/work/|/home/[a-z][a-z0-9_-]*/|/Users/[A-Za-z]+/)")
        .expect("paths are a pattern")
});

/// Finds lines of docs wider than [`WIDTH`]. Tables, code and links in Markdown cannot be wrapped.
pub(super) fn wide_docs(tree: &Tree) -> Vec<Violation> {
    let too_wide = |line: &str| {
        let columns = line.chars().count();
        (columns > WIDTH).then(|| format!("{columns} columns"))
    };
    let mut found = Vec::new();
    for file in tree.rust() {
        let docs = file
            .lines()
            .filter(|(_, line)| doc(line).is_some_and(|text| !text.starts_with('|')));
        found.extend(violations(file, docs, too_wide));
    }
    for file in tree.markdown() {
        let prose = prose(file).filter(|(_, line)| !line.starts_with('|') && !line.contains("](http"));
        found.extend(violations(file, prose, too_wide));
    }
    found
}

/// Finds docs that open with What, How, Whether, Which, Who or "The same".
pub(super) fn openings(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let mut inside = false;
        for (number, line) in file.lines() {
            let text = doc(line);
            if let Some(text) = text.filter(|_| !inside)
                && OPENINGS.iter().any(|opening| text.starts_with(opening))
            {
                found.push(Violation::new(&file.path, number, format!("{text:?}")));
            }
            inside = text.is_some();
        }
    }
    found
}

/// Finds banned words in docs and in the program's messages.
pub(super) fn banned_words(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !is_this_rule(file)) {
        found.extend(violations(file, file.lines(), |line| banned(doc(line)?)));
        if file.is_program() {
            let code = file
                .lines_of_program()
                .filter(|(_, line)| !line.trim_start().starts_with("//"));
            found.extend(violations(file, code, |line| {
                STRING.captures_iter(line).find_map(|string| banned(&string[1]))
            }));
        }
    }
    for file in tree.markdown().filter(|file| !is_this_rule(file)) {
        found.extend(violations(file, prose(file), banned));
    }
    found
}

/// Finds paths that exist only on one person's machine.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Violation> {
    let path = |line: &str| MACHINE_PATH.captures(line).map(|found| found[2].to_owned());
    let files = tree.files.iter().filter(|file| !is_this_rule(file));
    files
        .flat_map(|file| violations(file, file.lines_of_program(), path))
        .collect()
}

/// Returns the first banned word in a text, with the plain alternative.
fn banned(text: &str) -> Option<String> {
    let word = BANNED.find(text)?.as_str().to_lowercase();
    let (_, plain) = WORDS.iter().find(|(banned, _)| *banned == word)?;
    Some(format!("{word:?}; plain: {plain}"))
}

/// Returns the text of a Rust doc line.
fn doc(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))?;
    Some(text.trim_start())
}

/// Returns the lines of Markdown outside code blocks.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    file.lines().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Returns true for the files that must spell banned words: this one, and the guide that bans them.
fn is_this_rule(file: &File) -> bool {
    file.path.ends_with("tidy/prose.rs") || file.path == "CONTRIBUTING.md"
}

fn violations<'a>(
    file: &File,
    lines: impl Iterator<Item = (usize, &'a str)>,
    wrong: impl Fn(&str) -> Option<String>,
) -> Vec<Violation> {
    let violation = |(number, line)| Some(Violation::new(&file.path, number, wrong(line)?));
    lines.filter_map(violation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(found: &[Violation]) -> Vec<(String, usize)> {
        found
            .iter()
            .map(|violation| (violation.file.clone(), violation.line))
            .collect()
    }

    fn at(file: &str, line: usize) -> Vec<(String, usize)> {
        vec![(file.to_owned(), line)]
    }

    #[test]
    fn a_wide_doc_line_is_found_and_a_wide_line_of_code_is_not() {
        let wide = "x".repeat(WIDTH);
        let text = format!("/// Short.\n/// {wide}\nlet a = {wide};\n/// | {wide} |\n");
        assert_eq!(
            lines(&wide_docs(&Tree::of(&[("a/src/a.rs", &text)]))),
            at("a/src/a.rs", 2)
        );
    }

    #[test]
    fn a_wide_line_of_markdown_is_found_outside_code_and_tables() {
        let wide = "x".repeat(WIDTH + 1);
        let text = format!("{wide}\n```\n{wide}\n```\n| {wide} |\n");
        assert_eq!(
            lines(&wide_docs(&Tree::of(&[("docs/a.md", &text)]))),
            at("docs/a.md", 1)
        );
    }

    #[test]
    fn an_opening_is_found_on_the_first_line_only() {
        let text = "/// Returns the slots.\n/// What follows is fine.\nfn a() {}\n/// Whether it is up.\nfn b() {}\n";
        assert_eq!(
            lines(&openings(&Tree::of(&[("a/src/a.rs", text)]))),
            at("a/src/a.rs", 4)
        );
    }

    #[test]
    fn a_banned_word_is_found_in_docs_and_messages_but_not_in_names() {
        let docs = Tree::of(&[("a/src/a.rs", "/// Made anew.\nfn anew() {}\n")]);
        assert_eq!(lines(&banned_words(&docs)), at("a/src/a.rs", 1));
        let message = Tree::of(&[("a/src/a.rs", "fn a() {}\nprintln!(\"pod can be had\");\n")]);
        assert_eq!(lines(&banned_words(&message)), at("a/src/a.rs", 2));
        let plain = Tree::of(&[(
            "a/src/a.rs",
            "/// Besides, renewal and toldness are other words.\n",
        )]);
        assert_eq!(banned_words(&plain), []);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let text = "let a = 1;\n// see /home/someone/notes\n";
        assert_eq!(
            lines(&machine_paths(&Tree::of(&[("a/src/a.rs", text)]))),
            at("a/src/a.rs", 2)
        );
        let other = Tree::of(&[(
            "a/src/a.rs",
            "let a = \"/var/home/x\"; // https://example.org/work/\n",
        )]);
        assert_eq!(machine_paths(&other), []);
    }
}
