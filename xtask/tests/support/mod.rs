//! What the tests of the command line have in common.

/// The command line under test.
pub(crate) const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
