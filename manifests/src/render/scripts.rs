//! The shell scripts, included at build time. Each is self-contained: it begins with the shared
//! functions.
//!
//! In a container's command, the kubelet expands `$(NAME)` and turns `$$` into `$`. The scripts
//! therefore contain no `$$` and no command substitution that looks like a variable. A test ensures
//! this.

use crate::values::Values;

macro_rules! script {
    ($($name:literal),+) => {
        concat!($(include_str!(concat!("../../scripts/", $name))),+)
    };
}

/// Forms the cluster; does nothing if it is formed already.
pub(super) const CLUSTER_INIT: &str = script!("lib.sh", "form.sh", "cluster-init.sh");
/// Brings a running cluster to its number of replicas.
pub(super) const CLUSTER_SCALE: &str = script!("lib.sh", "reshape.sh", "form.sh", "cluster-scale.sh");
/// Moves slots off the pods that an upgrade is about to remove.
pub(super) const CLUSTER_DRAIN: &str = script!("lib.sh", "reshape.sh", "cluster-drain.sh");
/// Introduces peers to each other after a restart on new addresses.
pub(super) const INTRODUCE_PEERS: &str = script!("lib.sh", "introduce-peers.sh");
/// Pings the client Service.
pub(super) const TEST_CONNECTION: &str = script!("test-connection.sh");

/// Twice the time that a pod may take to be scheduled, pull its image and pass its startup probe.
const DEADLINE_SECONDS: u64 = 300;

/// Returns the time that a Job waits for one condition before it names the condition and fails. It
/// adds the start of pods to a multiple of the node timeout, in which a cluster repairs itself.
pub(super) fn timeout_seconds(values: &Values) -> u64 {
    DEADLINE_SECONDS + 4 * u64::from(values.cluster.node_timeout).div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_leaves_the_scripts_as_they_are() {
        let scripts = [
            CLUSTER_INIT,
            CLUSTER_SCALE,
            CLUSTER_DRAIN,
            INTRODUCE_PEERS,
            TEST_CONNECTION,
        ];
        let reference = regex::Regex::new(r"\$\([A-Za-z_][A-Za-z0-9_.-]*\)").expect("valid pattern");
        for script in scripts {
            assert!(
                !script.contains("$$"),
                "the kubelet would take one of the two away"
            );
            assert!(
                !reference.is_match(script),
                "{:?} reads like a variable",
                reference.find(script)
            );
        }
    }

    /// Arguments of the only permitted uses of `sleep`:
    /// - the one loop that waits for conditions,
    /// - the guard of a call that might never end,
    /// - the container next to each server.
    const PAUSES: [&str; 3] = ["\"$POLL_SECONDS\"", "\"$CALL_SECONDS\" &", "\"$interval\" &"];

    fn lines(script: &str) -> impl Iterator<Item = &str> {
        let lines = script.lines().map(str::trim);
        lines.filter(|line| !line.starts_with('#'))
    }

    #[test]
    fn no_script_sleeps_instead_of_waiting_for_something() {
        for script in [CLUSTER_INIT, CLUSTER_SCALE, CLUSTER_DRAIN, INTRODUCE_PEERS] {
            for line in lines(script).filter(|line| line.contains("sleep ")) {
                let pause = line.strip_prefix("sleep ");
                assert!(
                    pause.is_some_and(|pause| PAUSES.contains(&pause)),
                    "{line:?} sleeps without looking at anything"
                );
            }
        }
        // Jobs wait in one loop only.
        for script in [CLUSTER_INIT, CLUSTER_SCALE, CLUSTER_DRAIN] {
            let polls = lines(script).filter(|line| *line == "sleep \"$POLL_SECONDS\"");
            assert_eq!(polls.count(), 1);
            assert!(!script.contains("$interval"));
        }
    }

    #[test]
    fn every_wait_has_a_limit_and_a_condition_of_its_own() {
        let wait = regex::Regex::new(r#"wait_for (\S+) (\w+)"#).expect("valid pattern");
        let limits = ["\"$TIMEOUT_SECONDS\"", "\"$DEADLINE_SECONDS\"", "\"$deadline\""];
        for script in [CLUSTER_INIT, CLUSTER_SCALE, CLUSTER_DRAIN] {
            let waits: Vec<_> = lines(script).filter(|line| line.contains("wait_for ")).collect();
            assert!(!waits.is_empty());
            for line in waits {
                let found = wait.captures(line).unwrap_or_else(|| panic!("{line:?}"));
                assert!(
                    limits.contains(&&found[1]),
                    "{line:?} waits without a limit that is known"
                );
                let condition = &found[2];
                let defined = format!("\n{condition}() {{");
                assert!(
                    script.contains(&defined),
                    "{line:?} waits for what is no condition"
                );
            }
        }
    }

    #[test]
    fn no_script_puts_a_password_on_a_command_line() {
        for script in [
            CLUSTER_INIT,
            CLUSTER_SCALE,
            CLUSTER_DRAIN,
            INTRODUCE_PEERS,
            TEST_CONNECTION,
        ] {
            assert!(!script.contains(" -a ") && !script.contains("--pass"));
        }
    }
}
