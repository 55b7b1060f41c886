//! The commands as a person types them: what they print, how they end, and what they leave behind.

mod charts;
mod cli;
mod helm;
mod k3s;
mod kind;
mod kubeconfig;
mod kubectl;
mod outage;
mod report;
mod support;
