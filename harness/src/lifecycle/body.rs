//! The body of a scenario.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::trial::Context;

/// A body that carries no data.
pub type PlainBody = for<'a> fn(&'a mut Context) -> BoxFuture<'a, anyhow::Result<()>>;

/// The body of a scenario: an act on a context. It may carry data.
#[derive(Clone)]
pub struct Body(Arc<Act>);

type Act = dyn for<'a> Fn(&'a mut Context) -> BoxFuture<'a, anyhow::Result<()>> + Send + Sync;

impl Body {
    /// Makes a body from a closure.
    pub fn new(
        act: impl for<'a> Fn(&'a mut Context) -> BoxFuture<'a, anyhow::Result<()>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(act))
    }

    pub(super) fn play<'a>(&self, context: &'a mut Context) -> BoxFuture<'a, anyhow::Result<()>> {
        (self.0)(context)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}
