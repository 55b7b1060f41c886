//! The choice of an endpoint for a connection: a random one, as in kube-proxy. With session
//! affinity it is the client's earlier one.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::Backends;

/// The endpoints last used by each client.
#[derive(Debug, Default)]
pub(super) struct Choices(BTreeMap<IpAddr, Choice>);

#[derive(Debug)]
struct Choice {
    endpoint: SocketAddrV4,
    until: Instant,
}

impl Choices {
    /// Returns the endpoint for a connection of `client`.
    pub(super) fn choose(
        &mut self,
        backends: &Backends,
        client: IpAddr,
        now: Instant,
    ) -> Option<SocketAddrV4> {
        let Some(affinity) = backends.affinity else {
            return pick(&backends.addresses);
        };
        self.0.retain(|_, choice| choice.until > now);
        let before = self.0.get(&client).map(|choice| choice.endpoint);
        let endpoint = before
            .filter(|endpoint| backends.addresses.contains(endpoint))
            .or_else(|| pick(&backends.addresses))?;
        let until = now + affinity.min(Duration::from_secs(86_400));
        self.0.insert(client, Choice { endpoint, until });
        Some(endpoint)
    }
}

/// Returns a random endpoint. The hasher keys are the standard library's only source of randomness,
/// and are random enough to spread connections.
fn pick(backends: &[SocketAddrV4]) -> Option<SocketAddrV4> {
    let random = usize::try_from(RandomState::new().hash_one(()) >> 32).ok()?;
    backends.get(random.checked_rem(backends.len())?).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn backends(affinity: Option<u64>) -> Backends {
        Backends {
            addresses: (1..=3)
                .map(|n| SocketAddrV4::new([10, 244, 0, n].into(), 1))
                .collect(),
            affinity: affinity.map(Duration::from_secs),
        }
    }

    #[test]
    fn picks_reach_every_endpoint() {
        let (mut choices, client) = (Choices::default(), IpAddr::from([10, 244, 0, 9]));
        let now = Instant::now();
        let chosen = (0..200).filter_map(|_| choices.choose(&backends(None), client, now));
        assert_eq!(chosen.collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(choices.choose(&Backends::default(), client, now), None);
    }

    #[test]
    fn a_client_keeps_its_endpoint_until_a_long_pause_or_its_end() {
        let (mut choices, client) = (Choices::default(), IpAddr::from([10, 244, 0, 9]));
        let (mut now, all) = (Instant::now(), backends(Some(10)));
        let first = choices.choose(&all, client, now);
        for _ in 0..50 {
            now += Duration::from_secs(9);
            assert_eq!(choices.choose(&all, client, now), first);
        }
        let others: BTreeSet<_> = (10..60)
            .filter_map(|n| choices.choose(&all, IpAddr::from([10, 244, 0, n]), now))
            .collect();
        assert_eq!(others.len(), 3, "other clients have their own");
        let mut fewer = all.clone();
        fewer.addresses.retain(|address| Some(*address) != first);
        assert_ne!(choices.choose(&fewer, client, now), first);
        let later: BTreeSet<_> = (0..50)
            .filter_map(|_| {
                now += Duration::from_secs(11);
                choices.choose(&all, client, now)
            })
            .collect();
        assert!(later.len() > 1, "a pause of more than ten seconds ends it");
    }
}
