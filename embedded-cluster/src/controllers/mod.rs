//! (in progress)
mod events;
pub(crate) use events::EventRecorder;
