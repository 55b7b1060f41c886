//! Addresses of Services.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Number of addresses at the start of the range that are never allocated. They hold the API (.1),
/// the DNS (.10) and what kubeadm keeps around them.
const RESERVED: u32 = 16;

/// Returns the address of the `kubernetes` Service: the first of the range.
pub(crate) fn api_address(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + 1)
}

/// Returns the first free address after `last`, going round, so that a freed address is not soon
/// reused.
pub(crate) fn next_free(range: Ipv4Net, taken: &BTreeSet<Ipv4Addr>, last: u32) -> Option<(u32, Ipv4Addr)> {
    let size = 1_u32 << (32 - u32::from(range.prefix_len())).min(20);
    let usable = size.saturating_sub(RESERVED + 1);
    (1..=usable)
        .map(|step| RESERVED + (last + step) % usable.max(1))
        .map(|offset| {
            (
                offset - RESERVED,
                Ipv4Addr::from(u32::from(range.network()) + offset),
            )
        })
        .find(|(_, address)| !taken.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_skip_taken_ones() {
        let range = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 12);
        let taken = BTreeSet::from([Ipv4Addr::new(10, 96, 0, 17)]);
        let (offset, address) = next_free(range, &taken, 0).expect("free ones");
        assert_eq!(address, Ipv4Addr::new(10, 96, 0, 18));
        assert_eq!(
            next_free(range, &taken, offset).expect("free ones").1,
            Ipv4Addr::new(10, 96, 0, 19)
        );
        assert!(range.contains(&address));
    }

    #[test]
    fn a_full_range_is_none() {
        let range = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 27);
        let taken = (0..32).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        assert_eq!(next_free(range, &taken, 0), None);
    }
}
