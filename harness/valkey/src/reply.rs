//! The meaning of an error reply for its command: final, later, or elsewhere.

use redis::RedisError;

/// The next step of a command that got an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A retry changes nothing.
    Final,
    /// The command was not executed. A later retry may succeed.
    Later,
    /// Another node executes the command.
    Elsewhere(Redirect),
}

/// The redirection of a command to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot now belongs to the node at this address.
    Moved { slot: u16, address: String },
    /// The key may already be at this address; the slot is still here.
    Ask { address: String },
}

/// Judges an error that the `redis` crate read.
pub(crate) fn judge(error: &RedisError) -> Verdict {
    let code = error.code().unwrap_or_default();
    judge_text(&format!("{code} {}", error.detail().unwrap_or_default()))
}

/// Judges an error in its wire form without the leading dash.
pub(crate) fn judge_text(text: &str) -> Verdict {
    let mut words = text.split(' ');
    match words.next().unwrap_or_default() {
        code @ ("MOVED" | "ASK") => {
            let slot = words.next().and_then(|slot| slot.parse().ok());
            match (slot, words.next()) {
                // An empty host means the answering node, which does not know its own address yet.
                (Some(_), Some(address)) if address.starts_with(':') => Verdict::Later,
                (Some(slot), Some(address)) => Verdict::Elsewhere(redirect(code, slot, address)),
                _ => Verdict::Final,
            }
        }
        // READONLY: the node has just become a replica, and the map is outdated. EXECABORT: one
        // command of a transaction was redirected, and none was executed.
        "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" | "EXECABORT" => Verdict::Later,
        _ => Verdict::Final,
    }
}

fn redirect(code: &str, slot: u16, address: &str) -> Redirect {
    let address = address.to_owned();
    if code == "MOVED" {
        Redirect::Moved { slot, address }
    } else {
        Redirect::Ask { address }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses an error in its wire form.
    fn error(text: &str) -> RedisError {
        match redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).expect("parses") {
            redis::Value::ServerError(error) => error.into(),
            other => panic!("not an error: {other:?}"),
        }
    }

    #[test]
    fn each_error_is_judged_as_the_cluster_specification_says() {
        let moved = Redirect::Moved {
            slot: 3999,
            address: "10.0.0.1:6381".to_owned(),
        };
        assert_eq!(
            judge(&error("MOVED 3999 10.0.0.1:6381")),
            Verdict::Elsewhere(moved)
        );
        let ask = Redirect::Ask {
            address: "10.0.0.1:6381".to_owned(),
        };
        assert_eq!(judge(&error("ASK 3999 10.0.0.1:6381")), Verdict::Elsewhere(ask));
        for later in [
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "CLUSTERDOWN Hash slot not served",
            "LOADING Valkey is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "READONLY You can't write against a read only replica.",
            "MOVED 3999 :6379",
        ] {
            assert_eq!(judge(&error(later)), Verdict::Later, "{later}");
        }
        for fin in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Valkey is configured to save RDB snapshots",
            "NOREPLICAS Not enough good replicas to write.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "ERR unknown command",
        ] {
            assert_eq!(judge(&error(fin)), Verdict::Final, "{fin}");
        }
    }
}
