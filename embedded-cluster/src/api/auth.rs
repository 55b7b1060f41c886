//! Authentication of callers, and their deny lists.
//!
//! A configured bearer token stands for an identity. The identity may do everything except what its
//! deny list names. That is enough to see how a client behaves when a request is refused.
//! `authorize` judges other callers.

use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::status::ApiError;

/// The user name of the cluster's own components. No token stands for it.
pub(crate) const INTERNAL: &str = "system:embedded-cluster";

/// A caller.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Identity {
    /// User name, as `SelfSubjectReview` shows it.
    pub user: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Requests that this caller is refused with a 403.
    pub denied: Vec<Denial>,
}

impl Identity {
    /// Returns an identity that may do everything.
    pub fn admin(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            groups: vec!["system:masters".to_owned()],
            denied: Vec::new(),
        }
    }

    pub(crate) fn is_denied(&self, verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
        self.denied
            .iter()
            .any(|denial| denial.covers(verb, group, resource, namespace))
    }
}

/// One refusal. `*` stands for anything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Denial {
    /// API verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Resource, with its subresource after a slash and its group after a dot: `pods/exec`,
    /// `statefulsets.apps`.
    pub resource: String,
    /// Namespace in which the request is refused; `None` for all.
    pub namespace: Option<String>,
}

/// A denial that cannot be parsed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid denial {0:?}: expected VERB:RESOURCE or VERB:RESOURCE:NAMESPACE, such as create:pods/exec or \
     *:secrets:default"
)]
pub struct DenialError(String);

impl std::str::FromStr for Denial {
    type Err = DenialError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let (verb, resource, namespace) = match parts.as_slice() {
            [verb, resource] => (verb, resource, None),
            [verb, resource, namespace] => (verb, resource, Some((*namespace).to_owned())),
            _ => return Err(DenialError(text.to_owned())),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(DenialError(text.to_owned()));
        }
        Ok(Self {
            verb: (*verb).to_owned(),
            resource: (*resource).to_owned(),
            namespace,
        })
    }
}

impl Denial {
    fn covers(&self, verb: &str, group: &str, resource: &str, namespace: &str) -> bool {
        let full = if group.is_empty() {
            resource.to_owned()
        } else {
            format!("{resource}.{group}")
        };
        (self.verb == "*" || self.verb == verb)
            && (self.resource == "*" || self.resource == full || self.resource == resource)
            && self.namespace.as_deref().is_none_or(|denied| denied == namespace)
    }
}

/// A bearer token and the identity it stands for. Its `Debug` does not show the token.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token {
    /// The secret text.
    pub secret: String,
    /// The identity that the token stands for.
    pub identity: Identity,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("secret", &"…")
            .field("identity", &self.identity)
            .finish()
    }
}

/// Returns the bearer token of a request; empty when there is none.
pub(crate) fn bearer(headers: &HeaderMap) -> &str {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    given
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
        .trim()
}

/// Returns the caller that a request's `Authorization` header names.
pub(crate) fn authenticate(tokens: &[Token], headers: &HeaderMap) -> Result<Identity, ApiError> {
    let given = bearer(headers);
    tokens
        .iter()
        .find(|token| same(token.secret.as_bytes(), given.as_bytes()))
        .map(|token| token.identity.clone())
        .ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"))
}

/// Compares without stopping at the first difference, so that timing reveals nothing of the secret.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    !a.is_empty() && a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_read_from_its_parts() {
        let denial: Denial = "create:pods/exec:default".parse().expect("three parts");
        assert!(denial.covers("create", "", "pods/exec", "default"));
        assert!(!denial.covers("create", "", "pods/exec", "other"));
        for wrong in ["create", "a:b:c:d", ":pods", "get:"] {
            assert!(wrong.parse::<Denial>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_known_token_is_somebody() {
        let tokens = [Token {
            secret: "s3".to_owned(),
            identity: Identity::admin("root"),
        }];
        let headers =
            |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("ascii"))]);
        assert_eq!(
            authenticate(&tokens, &headers("Bearer s3")).expect("known").user,
            "root"
        );
        for value in ["Bearer s4", "Bearer ", "s3", "Basic s3"] {
            assert_eq!(authenticate(&tokens, &headers(value)).expect_err(value).code, 401);
        }
        assert!(!format!("{tokens:?}").contains("s3"));
    }
}
