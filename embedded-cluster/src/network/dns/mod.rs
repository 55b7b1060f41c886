//! Cluster DNS: the answers of CoreDNS's `kubernetes` plug-in, from memory.
//!
//! | module | what is in it |
//! |---|---|
//! | `zone` | names and records, made from Services and EndpointSlices; pure |
//! | `server` | hickory-server that serves the zone |

mod server;
mod zone;

pub(crate) use server::DnsServer;
pub(crate) use zone::Zone;
