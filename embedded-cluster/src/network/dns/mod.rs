//! Cluster DNS: what CoreDNS's `kubernetes` plug-in answers, from memory.
//!
//! | module | what is in it |
//! |---|---|
//! | `zone` | names and records, made from Services and EndpointSlices; pure |
//! | `server` | hickory-server in front of it |

mod server;
mod zone;

pub(crate) use server::DnsServer;
pub(crate) use zone::Zone;
