//! A bounded storm: runs are killed at random moments and leave no traces. `cargo xtask storm
//! --minutes N` takes longer.

use crate::fixtures::run;

#[test]
fn ten_killed_runs_leave_nothing_and_the_next_one_passes() {
    let (code, said) = run(&["storm", "--kills", "10", "--within", "4", "--seed", "20261127"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("10 kills, 0 faults, seed 20261127"), "{said}");
}
