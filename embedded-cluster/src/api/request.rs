//! A parsed request: its resource, its caller and its options.

use axum::extract::Query;
use http::{HeaderMap, Method, Uri};

use super::kinds::{self, ResourceKind, VirtualKind};
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

    /// Returns the parameter; `""` when absent.
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

    /// Returns true for `?watch` and `?watch=1`, as Go does.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0
            .iter()
            .any(|(k, v)| k == key && !matches!(v.as_str(), "false" | "0"))
    }

    /// Parses a whole number, if given.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        match self.get(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("invalid value {text:?} for parameter {key}"))),
        }
    }

    /// Returns true for `dryRun=All`, which does everything except the write.
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

/// The resource that a path names.
#[derive(Clone, Debug)]
pub(crate) enum Resource {
    Stored(&'static ResourceKind),
    Virtual(&'static VirtualKind),
}

/// A parsed resource path. Empty texts stand for absent parts.
#[derive(Clone, Debug)]
pub(crate) struct ResourcePath {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl ResourcePath {
    /// Parses `/api/v1/…` or `/apis/GROUP/VERSION/…`; `None` when the path names no resource served
    /// here.
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

/// Decodes the percent-encoding of a path segment. Names of roles may contain a colon.
fn decode(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8_lossy()
        .into_owned()
}

/// Returns the API verb of a request, as access rules name it.
pub(super) fn verb(method: &Method, target: &ResourcePath, options: &Options) -> &'static str {
    let named = !target.name.is_empty();
    match *method {
        // A WebSocket starts with a GET and a SPDY stream with a POST. Both run something in the
        // pod.
        _ if matches!(target.subresource.as_str(), "exec" | "attach" | "portforward") => "create",
        Method::GET if options.flag("watch") => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "unknown",
    }
}

/// Everything a verb needs besides the body.
#[derive(Debug)]
pub(crate) struct RequestContext {
    pub(crate) method: Method,
    pub(crate) kind: &'static ResourceKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) options: Options,
    pub(crate) headers: HeaderMap,
    /// True when a component of the cluster itself asks. Limits of clients do not apply to such a
    /// request, and its fields get no owner.
    pub(crate) internal: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Option<(String, String, String)> {
        ResourcePath::parse(path).map(|t| (t.namespace, t.name, t.subresource))
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
            "/apis/apps/v1/daemonsets",
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
