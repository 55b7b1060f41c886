//! The commands for a user: their output, their exit codes, and their left-overs.

mod charts;
mod cli;
mod endings;
mod fixtures;
mod helm;
mod installed;
mod k3s;
mod kind;
mod kubeconfig;
mod kubectl;
mod outage;
mod report;
mod storm;
