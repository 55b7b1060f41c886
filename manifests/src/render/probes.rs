//! What the probes run: `valkey-cli`, directly, in both variants.
//!
//! No shell: the hardened image promises none. No password in the arguments: `valkey-cli` reads
//! `REDISCLI_AUTH` from the container's environment. And a timeout kills the client itself, where with
//! `sh -c 'a | b'` only the shell dies and a frozen server can stay Ready.
//!
//! - *Alive* (startup and liveness) is a server that answers anything at all. An answer such as LOADING,
//!   MASTERDOWN, BUSY or NOAUTH is an answer; restarting the server would not mend the cause, and for LOADING
//!   it would begin the loading anew, forever. Without `-e`, `valkey-cli` exits 0 on any answer and 1 when
//!   nobody answers.
//! - *Ready* is PONG, and in a cluster `cluster_state:ok` from the server's own point of view; of a replica also that
//!   it has its primary's data. A rolling restart goes on when a pod is ready: without the latter it would take a
//!   primary down whose only replica has nothing yet. With `-e` an error answer is exit code 1.

use k8s_openapi::api::core::v1::{ExecAction, Probe};

use crate::values::{self, Mode};

/// Succeeds only while this node says `cluster_state:ok` and, if it is a replica, is linked to its primary. Both may be
/// asked from scripts also while the cluster is down, which is what makes this work without a shell and `grep`.
const CLUSTER_IS_OK: &str = "if not string.find(redis.call('CLUSTER', 'INFO'), 'cluster_state:ok', 1, true) then \
                             return redis.error_reply('CLUSTERDOWN cluster_state is not ok') end \
                             local r = redis.call('INFO', 'replication') \
                             if string.find(r, 'role:slave', 1, true) and not string.find(r, 'master_link_status:up', 1, true) \
                             then return redis.error_reply('MASTERDOWN the link to the primary is down') end \
                             return 'cluster_state:ok'";

/// The probe that tells whether the server is alive; also used for startup.
pub(super) fn alive(given: &values::Probe) -> Option<Probe> {
    probe(given, &["valkey-cli", "ping"])
}

/// The probe that tells whether the server may have clients.
pub(super) fn ready(given: &values::Probe, mode: Mode) -> Option<Probe> {
    match mode {
        Mode::Standalone => probe(given, &["valkey-cli", "-e", "ping"]),
        Mode::Cluster => probe(given, &["valkey-cli", "-e", "eval", CLUSTER_IS_OK, "0"]),
    }
}

fn probe(given: &values::Probe, command: &[&str]) -> Option<Probe> {
    given.enabled.then(|| Probe {
        exec: Some(ExecAction {
            command: Some(command.iter().map(|&word| word.to_owned()).collect()),
        }),
        initial_delay_seconds: Some(given.initial_delay_seconds),
        period_seconds: Some(given.period_seconds),
        timeout_seconds: Some(given.timeout_seconds),
        failure_threshold: Some(given.failure_threshold),
        success_threshold: given.success_threshold,
        ..Probe::default()
    })
}
