//! Allocation of pod addresses: round robin over the range, so that an address is not reused soon.
//!
//! A real cluster's host-local IPAM does the same. Reuse matters: a Valkey node that still dials
//! its peer's old address must get no answer there, not another Valkey.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The pod range, and the addresses in use.
#[derive(Debug)]
pub(crate) struct AddressPool {
    first: u32,
    last: u32,
    next: u32,
    used: BTreeSet<u32>,
}

impl AddressPool {
    /// Creates a pool over the range that `gateway` and `prefix_len` span, without the network,
    /// broadcast and gateway addresses. Returns `None` when the prefix leaves no room.
    pub(crate) fn new(gateway: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        if !(1..=30).contains(&prefix_len) {
            return None;
        }
        let mask = u32::MAX << (32 - u32::from(prefix_len));
        let network = gateway.to_bits() & mask;
        let first = network + 1;
        Some(Self {
            first,
            last: (network | !mask) - 1,
            next: first,
            used: [gateway.to_bits()].into(),
        })
    }

    /// Takes the next free address after the last one taken; `None` when all are in use.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        for _ in self.first..=self.last {
            let candidate = self.next;
            self.next = if candidate == self.last {
                self.first
            } else {
                candidate + 1
            };
            if self.used.insert(candidate) {
                return Some(Ipv4Addr::from_bits(candidate));
            }
        }
        None
    }

    /// Returns an address to the pool. It is taken again only after the rest of the range.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.used.remove(&address.to_bits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_address_comes_round_only_after_the_whole_range() {
        let mut pool = AddressPool::new(Ipv4Addr::new(10, 0, 0, 1), 29).expect("room");
        let first = pool.take().expect("free");
        assert_eq!(first, Ipv4Addr::new(10, 0, 0, 2));
        pool.release(first);
        let following: Vec<_> = (0..4).map(|_| pool.take().expect("free").octets()[3]).collect();
        assert_eq!(
            following,
            [3, 4, 5, 6],
            "the gateway, network and broadcast addresses are left out"
        );
        assert_eq!(pool.take(), Some(first));
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn a_prefix_without_room_is_refused() {
        assert!(AddressPool::new(Ipv4Addr::LOCALHOST, 31).is_none());
        assert!(AddressPool::new(Ipv4Addr::LOCALHOST, 0).is_none());
    }
}
