//! The words that start this program, for hints that a user can type.

use std::env;

/// The name of the installed program.
pub const INSTALLED: &str = "valkey-e2e";

/// Returns `cargo xtask` if cargo runs this program, and the name of the installed program
/// otherwise.
pub fn program() -> &'static str {
    name(env::var_os("CARGO_MANIFEST_DIR").is_some())
}

/// Returns the words to type; `by_cargo` says that cargo set its variables for this process.
fn name(by_cargo: bool) -> &'static str {
    if by_cargo { "cargo xtask" } else { INSTALLED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_and_an_installation_are_started_differently() {
        assert_eq!((name(true), name(false)), ("cargo xtask", "valkey-e2e"));
        assert_eq!(program(), "cargo xtask", "cargo runs the tests");
    }
}
