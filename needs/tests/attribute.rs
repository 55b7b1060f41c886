//! The attribute on real tests.

use needs::needs;

/// Runs, because nothing is missing; `cargo test` would show it as ignored otherwise.
#[needs()]
#[test]
fn a_test_without_needs_runs() {}

/// Is compiled as ignored where Docker is missing, and the test runner says so.
#[needs(docker)]
#[test]
fn a_test_whose_tool_is_missing_is_ignored() {
    let engine = std::process::Command::new("docker").arg("version").status();
    assert!(
        engine.is_ok_and(|status| status.success()),
        "the attribute found a Docker engine"
    );
}

/// Asks this executable for its ignored tests.
#[test]
fn what_is_ignored_is_listed_with_the_reason() {
    let program = std::env::current_exe().expect("a test has an executable");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(&program)
            .args(arguments)
            .output()
            .expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let name = "a_test_whose_tool_is_missing_is_ignored";
    let is_ignored = run(&["--list", "--ignored"]).contains(name);
    let said = run(&["--exact", name]);
    let reason = format!("{name} ... ignored, no Docker engine answers");
    assert_eq!(is_ignored, said.contains(&reason), "{said}");
    assert_eq!(!is_ignored, said.contains("1 passed"), "{said}");
}
