//! Access to Valkey: connections, and the topology from each node's own point of view.
//!
//! | module | content |
//! |---|---|
//! | [`dialer`] | interface that opens byte streams to pods (port-forward in a run, TCP in tests) |
//! | [`connection`] | turns a stream into a `redis` connection and distinguishes all failures |
//! | [`cluster_info`], [`cluster_nodes`], [`cluster_shards`], [`slot_migrations`], [`info`] | parsers |
//! | [`slots`] | the 16384 hash slots: key to slot, sets of slots, a key for every slot |
//! | [`links`] | connections that are kept between observations |
//! | [`view`] | one node's view, collected in one round trip |
//! | [`observation`] | all views of a release and its pods: what the checks read |
//! | [`slot_map`], [`cluster_client`], [`routed`] | slot routing over port-forwarded connections |
//! | [`ledger`] | data in every slot, the outcome of every write, and the fate of every key |
//! | [`record_file`] | the on-disk records of the ledger and the load |
//! | [`load`] | writers in the background, their gaps and their losses |
//! | [`wire`] | plain RESP2 for MONITOR and bulk transfers |

pub mod cluster_client;
pub mod cluster_info;
pub mod cluster_nodes;
pub mod cluster_shards;
pub mod connection;
pub mod dialer;
pub mod info;
pub mod ledger;
pub mod links;
pub mod load;
pub mod observation;
pub mod parse_error;
pub mod record_file;
mod reply;
mod resp;
pub mod routed;
pub mod slot_map;
pub mod slot_migrations;
pub mod slots;
pub mod view;
pub mod wire;

pub use cluster_client::RoutedClient;
pub use connection::{ConnectError, Connection, connect, dial_and_connect, dial_with_any};
pub use dialer::{BoxedStream, Dialer};
pub use observation::{ClusterObservation, ExpectedTopology, Mode, PodFacts};
pub use routed::{CommandError, Resend, Routed};
pub use view::{NodeView, ViewError, observe_node};
