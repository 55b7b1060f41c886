//! Colours, for those who want them: none when output is not a terminal or `NO_COLOR` is set. And the room that there is:
//! as much as the terminal has, or as `COLUMNS` says; without end in a pipe.

use super::layout::LEAST_WIDTH;

/// Whether and how to emphasise text, and how wide it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
    width: Option<usize>,
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Style {
    /// Decides by the terminal and the environment; `no_color` is the value of `NO_COLOR`, which counts when not empty
    /// (see no-color.org).
    pub fn choose(is_terminal: bool, no_color: Option<&str>) -> Self {
        Self {
            colour: is_terminal && no_color.is_none_or(str::is_empty),
            width: None,
        }
    }

    /// What suits `stream` in this process's environment.
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

    /// The same in lines of at most so many columns, where any are given.
    #[must_use]
    pub fn within(self, width: Option<usize>) -> Self {
        let width = width.map(|width| width.max(LEAST_WIDTH));
        Self { width, ..self }
    }

    /// How wide a line may be; nothing where it may have any width.
    pub fn width(self) -> Option<usize> {
        self.width
    }

    /// Never any colour, and lines of any width.
    pub const PLAIN: Self = Self {
        colour: false,
        width: None,
    };

    /// For what is as it should be.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what failed.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// For what was not learnt.
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For what may be passed over.
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

/// How many columns there are: what `COLUMNS` says outweighs what the terminal does, as POSIX has it.
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
