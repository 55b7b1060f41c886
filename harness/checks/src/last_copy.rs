//! No primary is taken down while none of its replicas is in sync. Otherwise the only up-to-date
//! copy of its slots would go with it.
//!
//! A replica that lost its link a moment ago was in sync: the link broke as the primary went down.

use std::time::Duration;

use super::Violation;
use valkey::observation::ClusterObservation;

/// The check's name.
pub const NAME: &str = "last_copy";

/// Allowance for the server's whole seconds since a link went down, and for the late news of a
/// deletion.
const MARGIN: Duration = Duration::from_secs(2);

/// Finds a primary without a synchronised replica. `pod` was taken down when its peers were `seen`
/// like this. The pod's node ID comes from `before`. The views were complete `took` after the news
/// of the deletion.
pub fn check(
    before: &ClusterObservation,
    pod: &str,
    seen: &ClusterObservation,
    took: Duration,
) -> Vec<Violation> {
    let just_now = 0..=i64::try_from((took + MARGIN).as_secs()).unwrap_or(i64::MAX);
    let view = before.views.get(pod).and_then(|view| view.as_ref().ok());
    let Some(id) = view.and_then(|view| Some(view.nodes.as_ref()?.myself()?.id.as_str())) else {
        return Vec::new();
    };
    let survivors = || seen.node_tables().filter(|(viewer, _)| *viewer != pod);
    let owned = survivors().find_map(|(_, nodes)| nodes.by_id(id).filter(|node| !node.slots.is_empty()));
    let Some(owner) = owned else {
        return Vec::new();
    };
    if before.expected.replicas_per_primary == 0 {
        return Vec::new();
    }
    let mut replicas = Vec::new();
    for (name, nodes) in survivors() {
        let follows = nodes.myself().and_then(|myself| myself.primary.as_deref()) == Some(id);
        let Some(Ok(view)) = seen.views.get(name).filter(|_| follows) else {
            continue;
        };
        let link = &view.replication;
        let since = link.link_down_since_seconds;
        if link.link_up == Some(true) || since.is_some_and(|since| just_now.contains(&since)) {
            return Vec::new();
        }
        replicas.push(match since {
            Some(since) if since >= 0 => format!("the link of {name} had been down for {since} s"),
            _ => format!("{name} had not synchronised yet"),
        });
    }
    let subject = format!("{pod}, owner of slots {}", owner.slots.summary());
    let seen = if replicas.is_empty() {
        "it had no replica".to_owned()
    } else {
        replicas.join(", ")
    };
    vec![Violation::new(
        NAME,
        subject,
        "a replica in sync when it was taken down",
        seen,
    )]
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn verdict(link: &str) -> Vec<Violation> {
        let before = Fixture::cluster(6, 1);
        let mut seen = Fixture::cluster(6, 1);
        seen.edit_info("valkey-4", "master_link_status:up", link);
        check(
            &before.observation(),
            "valkey-1",
            &seen.observation(),
            Duration::ZERO,
        )
    }

    #[test]
    fn a_primary_goes_only_while_a_replica_is_in_sync() {
        assert_eq!(verdict("master_link_status:up"), []);
        let violations = verdict("master_link_status:down\r\nmaster_link_down_since_seconds:9");
        assert_eq!(
            violations[0].to_string(),
            "last_copy: valkey-1, owner of slots 5461-10922: expected a replica in sync when it was taken down, \
             saw the link of valkey-4 had been down for 9 s"
        );
        let violations = verdict("master_link_status:down\r\nmaster_link_down_since_seconds:-1");
        assert_eq!(violations[0].seen, "valkey-4 had not synchronised yet");
    }

    #[test]
    fn a_link_that_breaks_because_the_primary_goes_was_in_sync() {
        assert_eq!(
            verdict("master_link_status:down\r\nmaster_link_down_since_seconds:1"),
            []
        );
    }

    #[test]
    fn a_look_that_takes_long_finds_the_link_broken_for_longer() {
        let before = Fixture::cluster(6, 1);
        let mut seen = Fixture::cluster(6, 1);
        let down = "master_link_status:down\r\nmaster_link_down_since_seconds:4";
        seen.edit_info("valkey-4", "master_link_status:up", down);
        let (before, seen) = (before.observation(), seen.observation());
        let after = |seconds| check(&before, "valkey-1", &seen, Duration::from_secs(seconds));
        assert_eq!(after(2), []);
        assert_eq!(after(1).len(), 1);
    }

    #[test]
    fn a_replica_may_go_at_any_time() {
        let observation = Fixture::cluster(6, 1).observation();
        assert_eq!(check(&observation, "valkey-4", &observation, Duration::ZERO), []);
    }
}
