//! Servers that are reached without a proxy: those on this machine and those in NO_PROXY.

use std::net::IpAddr;

/// Returns true if `host` is reached directly. `exceptions` is a NO_PROXY list of addresses,
/// networks, `*`, and names with their subdomains.
pub(crate) fn is_bypassed(host: &str, exceptions: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    exceptions.split(',').map(str::trim).any(|exception| {
        let name = exception
            .trim_start_matches("*.")
            .trim_start_matches('.')
            .to_lowercase();
        match (name.as_str(), address) {
            ("", _) => false,
            ("*", _) => true,
            (network, Some(address)) => contains(network, address),
            (name, None) => {
                let above = host.strip_suffix(name);
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    })
}

/// Returns true if `network`, such as `10.0.0.0/8` or a single address, contains `address`.
fn contains(network: &str, address: IpAddr) -> bool {
    let (base, length) = network
        .split_once('/')
        .map_or((network, None), |(base, length)| (base, Some(length)));
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let Ok(base) = base.parse::<IpAddr>() else {
        return false;
    };
    let ((base, width), (address, same)) = (bits(base), bits(address));
    let Some(length) = length.map_or(Some(width), |length| length.parse().ok()) else {
        return false;
    };
    width == same && length <= width && (length == 0 || (base ^ address) >> (128 - length) == 0)
}

/// Returns a proxy's address without user and password.
pub(crate) fn without_credentials(proxy: &http::Uri) -> String {
    let host = proxy.host().unwrap_or_default();
    let port = proxy.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", proxy.scheme_str().unwrap_or("http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_what_no_proxy_names_are_reached_directly() {
        for (host, exceptions, expected) in [
            ("127.0.0.1", "", true),
            ("localhost", "", true),
            ("[::1]", "", true),
            ("api.example.org", "", false),
            ("api.example.org", "other.org, example.org", true),
            ("api.example.org", ".example.org", true),
            ("api.example.org", "*.example.org", true),
            ("badexample.org", "example.org", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/x", false),
            ("fd00::1", "fd00::/8", true),
            ("fd00::1", "0.0.0.0/0", false),
            ("api.example.org", "*", true),
        ] {
            assert_eq!(is_bypassed(host, exceptions), expected, "{host} {exceptions}");
        }
    }

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let proxy = "http://user:hunter2@proxy.example.org:3128/"
            .parse()
            .expect("a URL");
        assert_eq!(without_credentials(&proxy), "http://proxy.example.org:3128");
    }
}
