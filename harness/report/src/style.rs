//! Colours and line width. There are no colours when output is not a terminal or `NO_COLOR` is set.
//! The width is that of the terminal or `COLUMNS`; a pipe has no limit.

use super::layout::LEAST_WIDTH;

/// Emphasis and width of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
    width: Option<usize>,
}

/// The output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Style {
    /// Chooses by the terminal and `no_color`, the value of `NO_COLOR`. An empty value does not
    /// count (see no-color.org).
    pub fn choose(is_terminal: bool, no_color: Option<&str>) -> Self {
        Self {
            colour: is_terminal && no_color.is_none_or(str::is_empty),
            width: None,
        }
    }

    /// Returns the style for `stream` in this process's environment.
    pub fn of(stream: Stream) -> Self {
        use std::io::IsTerminal;
        let (is_terminal, terminal) = match stream {
            Stream::Stdout => (std::io::stdout().is_terminal(), console::Term::stdout()),
            Stream::Stderr => (std::io::stderr().is_terminal(), console::Term::stderr()),
        };
        let measured = terminal.size_checked().map(|(_, columns)| usize::from(columns));
        let said = std::env::var("COLUMNS").ok();
        Self::choose(is_terminal, std::env::var("NO_COLOR").ok().as_deref())
            .within(columns(said.as_deref(), measured.filter(|_| is_terminal)))
    }

    /// Returns the style with lines of at most `width` columns, if given.
    #[must_use]
    pub fn within(self, width: Option<usize>) -> Self {
        let width = width.map(|width| width.max(LEAST_WIDTH));
        Self { width, ..self }
    }

    /// Returns the maximum line width; `None` means no limit.
    pub fn width(self) -> Option<usize> {
        self.width
    }

    /// No colours and no limit of the width.
    pub const PLAIN: Self = Self {
        colour: false,
        width: None,
    };

    /// Styles a good result.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Styles a failure.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Styles a result that proves nothing.
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Styles text of minor importance.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Returns the number of columns. As in POSIX, `COLUMNS` overrides the terminal.
fn columns(said: Option<&str>, measured: Option<usize>) -> Option<usize> {
    let said = said.and_then(|text| text.trim().parse().ok());
    said.or(measured).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_outweighs_the_terminal_and_a_pipe_has_no_end() {
        assert_eq!(columns(Some("60"), Some(120)), Some(60));
        assert_eq!(columns(Some("wide"), Some(120)), Some(120));
        assert_eq!(columns(Some("0"), None), None);
        assert_eq!(columns(None, None), None);
        assert_eq!(Style::PLAIN.within(Some(3)).width(), Some(LEAST_WIDTH));
    }

    #[test]
    fn colour_needs_a_terminal_and_no_objection() {
        assert_eq!(Style::choose(true, None).good("x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Style::choose(true, Some("")).good("x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Style::choose(true, Some("1")).good("x"), "x");
        assert_eq!(Style::choose(false, None).good("x"), "x");
    }
}
