//! (module map, written with the module)
