//! A request taken apart: which resource it is about, who asks, and with which options.

use axum::extract::Query;
use http::{HeaderMap, Method, Uri};

use super::kinds::{self, Kind, VirtualKind};
use super::status::ApiError;

/// Query parameters, in the order given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options(Vec<(String, String)>);

impl Options {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| ApiError::bad_request(format!("invalid query parameters: {error}")))?;
        Ok(Self(pairs))
    }

    /// The parameter, `""` when absent.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map_or("", |(_, v)| v.as_str())
    }

    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
            .collect()
    }

    /// `?watch` and `?watch=1` are true, as in Go.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0
            .iter()
            .any(|(k, v)| k == key && !matches!(v.as_str(), "false" | "0"))
    }

    /// A whole number, if given.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        match self.get(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("invalid value {text:?} for parameter {key}"))),
        }
    }

    /// `dryRun=All`: everything happens but the write.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(ApiError::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }
}

/// What the path names.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    Stored(&'static Kind),
    Virtual(&'static VirtualKind),
}

/// A resource path, taken apart. Empty texts stand for absent parts.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl Target {
    /// Takes `/api/v1/…` or `/apis/GROUP/VERSION/…` apart; `None` when it names no resource served here.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] if group.is_empty() => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return None,
        };
        if plural.is_empty() || (rest.len() > 1 && name.is_empty()) {
            return None;
        }
        let resource = resource(group, version, plural)?;
        let target = Self {
            resource,
            namespace: namespace.to_owned(),
            name: decode(name),
            subresource: subresource.to_owned(),
        };
        target.is_served().then_some(target)
    }

    fn is_served(&self) -> bool {
        let Resource::Stored(kind) = self.resource else {
            return self.name.is_empty() && self.namespace.is_empty();
        };
        let scope_fits = if kind.namespaced {
            !self.namespace.is_empty() || self.name.is_empty()
        } else {
            self.namespace.is_empty()
        };
        let subresource_fits = match self.subresource.as_str() {
            "" => true,
            "status" => kind.status,
            other => kind.subresources.contains(&other),
        };
        scope_fits && subresource_fits
    }
}

fn resource(group: &str, version: &str, plural: &str) -> Option<Resource> {
    if let Some(kind) = kinds::find(group, version, plural) {
        return Some(Resource::Stored(kind));
    }
    kinds::VIRTUAL
        .iter()
        .find(|v| v.group == group && v.version == version && v.plural == plural)
        .map(Resource::Virtual)
}

/// Undoes the percent-encoding of a path segment: names of roles may carry a colon.
fn decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let (mut out, mut index) = (Vec::with_capacity(bytes.len()), 0);
    while index < bytes.len() {
        let hex = (bytes[index] == b'%')
            .then(|| segment.get(index + 1..index + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(hex.unwrap_or(bytes[index]));
        index += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Everything a verb needs besides the body.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) method: Method,
    pub(crate) kind: &'static Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) options: Options,
    pub(crate) headers: HeaderMap,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Option<(String, String, String)> {
        Target::parse(path).map(|t| (t.namespace, t.name, t.subresource))
    }

    #[test]
    fn paths_are_taken_apart() {
        let own = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(parsed("/api/v1/pods"), own("", "", ""));
        assert_eq!(parsed("/api/v1/namespaces/a"), own("", "a", ""));
        assert_eq!(parsed("/api/v1/namespaces/a/finalize"), own("", "a", "finalize"));
        assert_eq!(parsed("/api/v1/namespaces/a/pods/b/log"), own("a", "b", "log"));
        assert_eq!(
            parsed("/apis/apps/v1/namespaces/a/statefulsets/b/scale"),
            own("a", "b", "scale")
        );
        assert_eq!(
            parsed("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"),
            own("", "system:node", "")
        );
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        for path in [
            "/apis/apps/v1/deployments",
            "/api/v2/pods",
            "/api/v1/namespaces/a/pods/b/what",
            "/api/v1/namespaces/a/nodes",
            "/api/v1/pods/b",
            "/api/v1//",
            "/apis/batch/v1/namespaces/a/jobs/b/status/c",
        ] {
            assert!(parsed(path).is_none(), "{path}");
        }
    }
}
