//! Commands of the probes: both variants run `valkey-cli` directly.
//!
//! They use no shell, as the hardened image has none. They contain no password, as `valkey-cli`
//! reads `REDISCLI_AUTH` from the environment. A timeout kills `valkey-cli` itself. With
//! `sh -c 'a | b'` only the shell would die, and a frozen server could stay Ready.
//!
//! - *Alive* (startup and liveness) means any answer, be it LOADING, MASTERDOWN, BUSY or NOAUTH. A
//!   restart would not remove their cause, and would begin the loading again. Without `-e`,
//!   `valkey-cli` exits 0 on any answer and 1 on none.
//! - *Ready* means PONG. In a cluster, the server must also report `cluster_state:ok`. A replica
//!   must also have its primary's data. Otherwise a rolling restart could stop a primary before its
//!   only replica has any data. With `-e`, `valkey-cli` exits 1 on an error.

use k8s_openapi::api::core::v1::{ExecAction, Probe};

use crate::values::{self, Mode};

/// Succeeds only if this node reports `cluster_state:ok` and, as a replica, is linked to its
/// primary. A script may run both queries even while the cluster is down. So the probe needs no
/// shell or `grep`.
const CLUSTER_IS_OK: &str = "if not string.find(redis.call('CLUSTER', 'INFO'), 'cluster_state:ok', 1, true) then \
                             return redis.error_reply('CLUSTERDOWN cluster_state is not ok') end \
                             local r = redis.call('INFO', 'replication') \
                             if string.find(r, 'role:slave', 1, true) and not string.find(r, 'master_link_status:up', 1, true) \
                             then return redis.error_reply('MASTERDOWN the link to the primary is down') end \
                             return 'cluster_state:ok'";

/// Renders the probe for liveness and startup.
pub(super) fn alive(given: &values::Probe) -> Option<Probe> {
    probe(given, &["valkey-cli", "ping"])
}

/// Renders the readiness probe.
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
