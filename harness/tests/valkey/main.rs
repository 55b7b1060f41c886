//! The harness's Valkey side against real servers on loopback.
//!
//! The servers come from `PATH` or the cache of published binaries; without them the tests say so and prove nothing.

mod clients;
mod faults;
mod killed;
mod ledger;
mod load;
mod observing;
mod servers;
mod tripwire;
