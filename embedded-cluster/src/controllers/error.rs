//! Failures of controllers. Each controller retries by itself; these errors are for the log.

/// A failure of one reconciliation. The text reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The API server refused a request.
    #[error("{what}")]
    Api {
        /// The request, with the object's name.
        what: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A volume's directory could not be created or removed.
    #[error("{what}")]
    Volume {
        /// The action, with the path.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A controller has ended, although none should end by itself.
    #[error("keep the {name} running: {why}")]
    Stopped {
        /// The controller.
        name: &'static str,
        /// The message of the panic.
        why: String,
    },
    /// An object contains a value that its kind does not allow.
    #[error("parse {what}")]
    Malformed {
        /// The object and its field.
        what: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ControllerError {
    /// Returns true if the object changed since it was read, so that an immediate retry is right.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(source.as_ref(), kube::Error::Api(status) if status.is_conflict()))
    }

    pub(crate) fn malformed(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Malformed {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// Context for the errors of an API request, and acceptance of expected refusals.
pub(crate) trait During<T> {
    /// Names the request in its error.
    fn during(self, what: impl FnOnce() -> String) -> Result<T, ControllerError>;
    /// Returns `None` when the object is gone.
    fn unless_gone(self) -> kube::Result<Option<T>>;
    /// Returns `None` when the object already exists.
    fn unless_there(self) -> kube::Result<Option<T>>;
}

impl<T> During<T> for kube::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, ControllerError> {
        self.map_err(|source| ControllerError::Api {
            what: what(),
            source: Box::new(source),
        })
    }

    fn unless_gone(self) -> kube::Result<Option<T>> {
        match self {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    fn unless_there(self) -> kube::Result<Option<T>> {
        match self {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            other => other.map(Some),
        }
    }
}
