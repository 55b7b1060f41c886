//! The permissions of a run, checked with the API server before anything is changed. All missing
//! permissions are reported at once, so that a user does not find them one run at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

/// Number of concurrent requests.
const AT_A_TIME: usize = 16;

/// Group, resource with subresource, and verbs of a run within its own namespaces.
const IN_NAMESPACES: [(&str, &str, &[&str]); 14] = [
    (
        "",
        "pods",
        &["get", "list", "watch", "create", "delete", "deletecollection"],
    ),
    ("", "pods/log", &["get"]),
    // WebSocket clients upgrade a GET; Kubernetes 1.35 and later require `create` as well.
    ("", "pods/exec", &["get", "create"]),
    ("", "pods/portforward", &["get", "create"]),
    ("", "configmaps", WRITTEN),
    ("", "secrets", WRITTEN),
    ("", "serviceaccounts", WRITTEN),
    ("", "services", WRITTEN),
    ("", "persistentvolumeclaims", &["get", "list", "watch", "delete"]),
    ("", "events", &["list", "watch"]),
    ("apps", "statefulsets", WRITTEN),
    ("batch", "jobs", WRITTEN),
    ("policy", "poddisruptionbudgets", WRITTEN),
    ("discovery.k8s.io", "endpointslices", &["list"]),
];

/// Verbs on an object of the release.
const WRITTEN: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Verbs of a run at cluster scope.
const OF_THE_CLUSTER: [(&str, &str, &[&str]); 3] = [
    ("", "namespaces", &["get", "list", "watch", "create", "delete"]),
    ("", "nodes", &["list"]),
    ("storage.k8s.io", "storageclasses", &["list"]),
];

/// One permission that a run needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// `None` at cluster scope.
    namespace: Option<String>,
}

/// All permissions that the user lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(BTreeSet<Permission>);

impl fmt::Display for Missing {
    /// Writes one line per resource and scope: `pods/exec in namespace x: get, create`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: BTreeMap<(String, &str, &str), Vec<&str>> = BTreeMap::new();
        for permission in &self.0 {
            let scope = permission.namespace.as_ref().map_or_else(
                || "of the cluster".to_owned(),
                |namespace| format!("in namespace {namespace}"),
            );
            let verbs = lines.entry((scope, permission.group, permission.resource));
            verbs.or_default().push(permission.verb);
        }
        for ((scope, group, resource), verbs) in lines {
            let group = if group.is_empty() {
                String::new()
            } else {
                let (resource, _) = resource.split_once('/').unwrap_or((resource, ""));
                format!(" ({resource}.{group})")
            };
            write!(f, "\n  {resource}{group} {scope}: {}", verbs.join(", "))?;
        }
        Ok(())
    }
}

/// Returns the missing permissions in namespaces like `namespace`, which need not exist. Includes
/// reading a Secret in the namespace `pull_secret`, where one is to be copied.
///
/// # Errors
/// When a request fails.
pub async fn missing(
    client: &Client,
    namespace: &str,
    pull_secret: Option<&str>,
) -> Result<Option<Missing>, kube::Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answers = futures::stream::iter(needed(namespace, pull_secret).into_iter().map(|permission| {
        let reviews = reviews.clone();
        async move {
            let review = question(&permission);
            let answer = reviews.create(&PostParams::default(), &review).await?;
            let allowed = answer.status.is_some_and(|status| status.allowed);
            Ok::<_, kube::Error>((!allowed).then_some(permission))
        }
    }));
    let refused: Vec<Option<Permission>> = answers.buffer_unordered(AT_A_TIME).try_collect().await?;
    let refused: BTreeSet<Permission> = refused.into_iter().flatten().collect();
    Ok((!refused.is_empty()).then_some(Missing(refused)))
}

fn needed(namespace: &str, pull_secret: Option<&str>) -> Vec<Permission> {
    let permissions = |table: &'static [(&str, &str, &[&str])], namespace: Option<&str>| {
        let each = table.iter().flat_map(move |(group, resource, verbs)| {
            verbs.iter().map(move |verb| (*group, *resource, *verb))
        });
        let namespace = namespace.map(str::to_owned);
        each.map(move |(group, resource, verb)| Permission {
            group,
            resource,
            verb,
            namespace: namespace.clone(),
        })
    };
    let mut needed: Vec<Permission> = permissions(&OF_THE_CLUSTER, None).collect();
    needed.extend(permissions(&IN_NAMESPACES, Some(namespace)));
    needed.extend(pull_secret.map(|namespace| Permission {
        group: "",
        resource: "secrets",
        verb: "get",
        namespace: Some(namespace.to_owned()),
    }));
    needed
}

fn question(permission: &Permission) -> SelfSubjectAccessReview {
    let (resource, subresource) = permission
        .resource
        .split_once('/')
        .unwrap_or((permission.resource, ""));
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let attributes = ResourceAttributes {
        group: Some(permission.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: given(subresource),
        verb: Some(permission.verb.to_owned()),
        namespace: permission.namespace.clone(),
        ..ResourceAttributes::default()
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_said_by_resource_and_scope() {
        let refused = needed("vk-x", Some("ci"))
            .into_iter()
            .filter(|permission| {
                permission.resource == "pods/exec"
                    || (permission.resource == "namespaces" && permission.verb == "create")
                    || permission.namespace.as_deref() == Some("ci")
                    || (permission.group == "apps" && permission.verb == "patch")
            })
            .collect();
        assert_eq!(
            Missing(refused).to_string(),
            "\n  secrets in namespace ci: get\
             \n  pods/exec in namespace vk-x: create, get\
             \n  statefulsets (statefulsets.apps) in namespace vk-x: patch\
             \n  namespaces of the cluster: create"
        );
    }

    #[test]
    fn a_subresource_is_asked_for_as_one() {
        let exec = needed("vk-x", None)
            .into_iter()
            .find(|permission| permission.resource == "pods/exec");
        let asked = question(&exec.expect("commands are run in pods"));
        let attributes = asked.spec.resource_attributes.expect("it asks for a resource");
        assert_eq!(attributes.resource.as_deref(), Some("pods"));
        assert_eq!(attributes.subresource.as_deref(), Some("exec"));
        assert_eq!(attributes.namespace.as_deref(), Some("vk-x"));
    }
}
