//! Tests of the controllers against the real API server, without processes or namespaces. A fake
//! node reports pods as running.

mod cluster;
mod others;
mod stateful_sets;
