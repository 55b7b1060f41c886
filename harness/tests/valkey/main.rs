//! The harness's Valkey side against real servers on loopback.
//!
//! The servers come from `PATH` or the cache of published binaries. Without them the tests are
//! ignored.

mod clients;
mod faults;
mod killed;
mod ledger;
mod load;
mod observing;
mod servers;
mod tripwire;
