//! Colours, for those who want them: none when output is not a terminal or `NO_COLOR` is set.

/// Whether and how to emphasise text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Decides by the terminal and the environment; `no_color` is the value of `NO_COLOR`, which counts when not empty
    /// (see no-color.org).
    pub fn choose(is_terminal: bool, no_color: Option<&str>) -> Self {
        Self {
            colour: is_terminal && no_color.is_none_or(str::is_empty),
        }
    }

    /// Never any colour.
    pub const PLAIN: Self = Self { colour: false };

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_needs_a_terminal_and_no_objection() {
        assert_eq!(Style::choose(true, None).good("x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Style::choose(true, Some("")).good("x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Style::choose(true, Some("1")).good("x"), "x");
        assert_eq!(Style::choose(false, None).good("x"), "x");
    }
}
