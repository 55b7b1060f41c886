//! Failures of the cluster network.

use std::io;
use std::net::SocketAddr;

/// A failure of the cluster network. The text reads after "failed to …" or as a cause.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The kernel refused a netlink request.
    #[error("{what}")]
    Netlink {
        /// The request, with the interface's name.
        what: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// The action.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Cluster DNS could not bind its address.
    #[error("serve cluster DNS on {address}")]
    Dns {
        /// The address to bind.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Every address of the pod range is in use.
    #[error("no free pod address left in {gateway}/{prefix_len}")]
    AddressesExhausted {
        /// The range's gateway.
        gateway: std::net::Ipv4Addr,
        /// The range's prefix length.
        prefix_len: u8,
    },
    /// The pod range's prefix leaves no room for a gateway and a pod.
    #[error("pod range prefix /{0} is not between /1 and /30")]
    BadPrefix(u8),
    /// The pod already has an address.
    #[error("pod {namespace}/{name} ({uid}) is already attached")]
    AlreadyAttached {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
        /// The pod's UID.
        uid: String,
    },
}

impl NetworkError {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what: what.into(),
            source: source.into(),
        }
    }

    pub(crate) fn netlink(what: impl Into<String>, source: rtnetlink::Error) -> Self {
        Self::Netlink {
            what: what.into(),
            source,
        }
    }
}
