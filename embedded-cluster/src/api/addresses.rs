//! Addresses of Services.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The addresses at the start of the range that are not handed out: the API (.1), the DNS (.10) and what
/// kubeadm keeps around them.
const RESERVED: u32 = 16;

/// The address of the `kubernetes` Service: the first of the range.
pub(crate) fn api_address((network, _): (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network) + 1)
}

/// The address lies in the range.
pub(crate) fn contains((network, prefix): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(prefix);
    u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
}

/// The first free address after `last`, going round: an address is not soon used again.
pub(crate) fn next_free(
    (network, prefix): (Ipv4Addr, u8),
    taken: &BTreeSet<Ipv4Addr>,
    last: u32,
) -> Option<(u32, Ipv4Addr)> {
    let size = 1_u32 << (32 - u32::from(prefix)).min(20);
    let usable = size.saturating_sub(RESERVED + 1);
    (1..=usable)
        .map(|step| RESERVED + (last + step) % usable.max(1))
        .map(|offset| (offset - RESERVED, Ipv4Addr::from(u32::from(network) + offset)))
        .find(|(_, address)| !taken.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_skip_taken_ones() {
        let range = (Ipv4Addr::new(10, 96, 0, 0), 12);
        let taken = BTreeSet::from([Ipv4Addr::new(10, 96, 0, 17)]);
        let (offset, address) = next_free(range, &taken, 0).expect("free ones");
        assert_eq!(address, Ipv4Addr::new(10, 96, 0, 18));
        assert_eq!(
            next_free(range, &taken, offset).expect("free ones").1,
            Ipv4Addr::new(10, 96, 0, 19)
        );
        assert!(contains(range, address) && !contains(range, Ipv4Addr::new(10, 112, 0, 1)));
    }

    #[test]
    fn a_full_range_is_none() {
        let range = (Ipv4Addr::new(10, 0, 0, 0), 27);
        let taken = (0..32).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
        assert_eq!(next_free(range, &taken, 0), None);
    }
}
