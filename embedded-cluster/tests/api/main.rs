//! The API server through its clients: kube-rs, kubectl, helm and raw requests. No container runs.
//!
//! | module | content |
//! |---|---|
//! | `server`, `fake_node` | a server on loopback, and a node without containers |
//! | `objects`, `streams` | valid requests: objects, watches, logs, exec, port-forward |
//! | `access` | roles, tokens and impersonation |
//! | `errors`, `limits`, `fuzz` | bad, huge and malformed requests |
//! | `kubectl`, `helm` | the programs that people use |

mod access;
mod errors;
mod fake_node;
mod fuzz;
mod helm;
mod kubectl;
mod limits;
mod objects;
mod server;
mod streams;
