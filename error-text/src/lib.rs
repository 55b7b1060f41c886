//! An error and its causes as one line of text: the one printer for every crate of the workspace.
//!
//! `anyhow` also prints chains, but repeats a cause that the outer error already includes. HTTP
//! client errors include their causes in this way.

use std::error::Error;

/// Returns the text of the error and its causes, outermost first, separated by colons. Leaves out a
/// cause that the text already contains.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn causes_follow_and_are_not_repeated() {
        let root = Layer("refused", None);
        let middle = Layer("connect: refused", Some(Box::new(root)));
        let outer = Layer("failed to list pods", Some(Box::new(middle)));
        assert_eq!(chain(&outer), "failed to list pods: connect: refused");
    }
}
