//! Why a controller could not do its work. It tries again by itself; these errors are for the log.

/// A failure of one reconciliation. The text reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The API server refused a request.
    #[error("{what}")]
    Api {
        /// What was being asked for, with the object's name.
        what: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A volume's directory could not be made or removed.
    #[error("{what}")]
    Volume {
        /// What was being attempted, with the path.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// An object says something its kind does not allow.
    #[error("understand {what}")]
    Malformed {
        /// The object and its field.
        what: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ControllerError {
    /// The object changed since it was read: trying again at once is right.
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

/// Says what an API request was for, and which refusals are fine.
pub(crate) trait During<T> {
    /// Names the request in its error.
    fn during(self, what: impl FnOnce() -> String) -> Result<T, ControllerError>;
    /// `None` when the object is gone.
    fn unless_gone(self) -> kube::Result<Option<T>>;
    /// `None` when the object is already there.
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
