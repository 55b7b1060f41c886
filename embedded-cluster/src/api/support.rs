//! Which parts of pods and Services the embedded cluster supports.
