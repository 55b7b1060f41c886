//! Authorization: the deny lists of configured tokens, and role-based access control for everybody
//! else.
//!
//! A configured token may do everything except what its deny list names. Service accounts and
//! impersonated users may do what Roles and ClusterRoles grant, as in Kubernetes. Two things are
//! missing: aggregated ClusterRoles, and refusing a role that grants more than its author has.

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::auth::Identity;
use super::kinds;
use super::object::{self, at, list, text};
use super::server::ApiServer;
use super::status::ApiError;

/// The group that may do everything, whatever the roles say.
const MASTERS: &str = "system:masters";

/// A caller, and the rules that judge it.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// True when roles judge the caller; false when its identity's deny list does.
    pub(crate) by_roles: bool,
}

impl Caller {
    /// Returns a caller that holds a configured token, or is a component of the cluster itself.
    pub(crate) fn configured(identity: Identity) -> Self {
        Self {
            identity,
            by_roles: false,
        }
    }

    /// Returns a user or service account of these groups.
    pub(crate) fn user(user: &str, mut groups: Vec<String>) -> Self {
        if let Some((namespace, _)) = service_account(user) {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        groups.push("system:authenticated".to_owned());
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|group| seen.insert(group.clone()));
        Self {
            identity: Identity {
                user: user.to_owned(),
                groups,
                denied: Vec::new(),
            },
            by_roles: true,
        }
    }
}

/// A verb on a resource, to be authorized.
#[derive(Clone, Debug, Default)]
pub(crate) struct Action<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    /// With its subresource after a slash.
    pub(crate) resource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl ApiServer {
    /// Returns true if the caller may do `action`.
    pub(crate) fn allows(&self, caller: &Caller, action: &Action<'_>) -> bool {
        if !caller.by_roles {
            let Action {
                verb,
                group,
                resource,
                namespace,
                ..
            } = *action;
            return !caller.identity.is_denied(verb, group, resource, namespace);
        }
        if caller.identity.groups.iter().any(|group| group == MASTERS) {
            return true;
        }
        let mut allowed = false;
        self.for_each_rule(caller, action.namespace, &mut |rule| {
            allowed |= grants(rule, action);
        });
        allowed
    }

    /// Returns true if the caller may read a path that is no resource, such as `/version`.
    pub(crate) fn allows_path(&self, caller: &Caller, path: &str) -> bool {
        if !caller.by_roles || caller.identity.groups.iter().any(|group| group == MASTERS) {
            return true;
        }
        let mut allowed = false;
        self.for_each_rule(caller, "", &mut |rule| {
            allowed |= list(rule, &["nonResourceURLs"])
                .iter()
                .filter_map(Value::as_str)
                .any(|pattern| {
                    pattern
                        .strip_suffix('*')
                        .map_or(pattern == path, |start| path.starts_with(start))
                });
        });
        allowed
    }

    /// Calls `take` with every rule that holds for the caller in the namespace (`""`: at the
    /// cluster scope).
    pub(crate) fn for_each_rule(&self, caller: &Caller, namespace: &str, take: &mut dyn FnMut(&Value)) {
        let bindings = |plural: &str, namespace: &str| self.store.list(rbac(plural), namespace).1;
        for binding in bindings("clusterrolebindings", "") {
            if is_bound(&binding.value, caller, "") {
                self.rules(&binding.value, "", take);
            }
        }
        if namespace.is_empty() {
            return;
        }
        for binding in bindings("rolebindings", namespace) {
            if is_bound(&binding.value, caller, namespace) {
                self.rules(&binding.value, namespace, take);
            }
        }
    }

    fn rules(&self, binding: &Value, namespace: &str, take: &mut dyn FnMut(&Value)) {
        let name = text(binding, &["roleRef", "name"]);
        let role = match text(binding, &["roleRef", "kind"]) {
            "Role" => self.store.get(rbac("roles"), namespace, name),
            "ClusterRole" => self.store.get(rbac("clusterroles"), "", name),
            _ => None,
        };
        if let Some(role) = role {
            list(&role.value, &["rules"]).iter().for_each(take);
        }
    }

    /// Returns the caller that the request runs as: the user that `Impersonate-User` names, if
    /// `caller` may impersonate it.
    pub(crate) fn impersonate(&self, caller: Caller, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let all = |name: &str| -> Vec<String> {
            let given = headers.get_all(name).iter();
            given
                .filter_map(|value| value.to_str().ok())
                .map(str::to_owned)
                .collect()
        };
        let (users, groups) = (all("impersonate-user"), all("impersonate-group"));
        let Some(user) = users.first().filter(|user| !user.is_empty()) else {
            if groups.is_empty() && !headers.contains_key("impersonate-uid") {
                return Ok(caller);
            }
            return Err(ApiError::internal(
                "requested impersonation of groups or a UID without impersonating a user",
            ));
        };
        let account = service_account(user);
        let of_user = match account {
            Some((namespace, name)) => ("serviceaccounts", namespace, name),
            None => ("users", "", user.as_str()),
        };
        let of_groups = groups.iter().map(|group| ("groups", "", group.as_str()));
        for (resource, namespace, name) in std::iter::once(of_user).chain(of_groups) {
            let action = Action {
                verb: "impersonate",
                group: "",
                resource,
                namespace,
                name,
            };
            if !self.allows(&caller, &action) {
                return Err(forbidden(&caller.identity, &action));
            }
        }
        Ok(Caller::user(user, groups))
    }
}

/// Returns Kubernetes' refusal of an action that the identity may not do.
pub(crate) fn forbidden(identity: &Identity, action: &Action<'_>) -> ApiError {
    let Action {
        verb,
        group,
        resource,
        namespace,
        name,
    } = *action;
    let scope = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {namespace:?}")
    };
    let plural = resource.split('/').next().unwrap_or_default();
    let what = if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    };
    let name = if name.is_empty() {
        String::new()
    } else {
        format!(" {name:?}")
    };
    ApiError::new(
        StatusCode::FORBIDDEN,
        "Forbidden",
        format!(
            "{what}{name} is forbidden: User {:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}",
            identity.user
        ),
    )
}

/// Returns Kubernetes' refusal of a path that the identity may not read.
pub(crate) fn forbidden_path(identity: &Identity, verb: &str, path: &str) -> ApiError {
    ApiError::new(
        StatusCode::FORBIDDEN,
        "Forbidden",
        format!("forbidden: User {:?} cannot {verb} path {path:?}", identity.user),
    )
}

fn rbac(plural: &str) -> &'static kinds::ResourceKind {
    kinds::find("rbac.authorization.k8s.io", "v1", plural).expect("the kinds of RBAC are in the table")
}

/// Splits a service account's user name into namespace and name.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

fn is_bound(binding: &Value, caller: &Caller, namespace: &str) -> bool {
    list(binding, &["subjects"]).iter().any(|subject| {
        let name = text(subject, &["name"]);
        match text(subject, &["kind"]) {
            "User" => name == caller.identity.user,
            "Group" => caller.identity.groups.iter().any(|group| group == name),
            "ServiceAccount" => {
                let own = match text(subject, &["namespace"]) {
                    "" => namespace,
                    given => given,
                };
                service_account(&caller.identity.user) == Some((own, name))
            }
            _ => false,
        }
    })
}

fn grants(rule: &Value, action: &Action<'_>) -> bool {
    let has = |field: &str, wanted: &str| {
        list(rule, &[field])
            .iter()
            .any(|value| value == "*" || value == wanted)
    };
    let names = list(rule, &["resourceNames"]);
    has("verbs", action.verb)
        && has("apiGroups", action.group)
        && list(rule, &["resources"])
            .iter()
            .filter_map(Value::as_str)
            .any(|given| covers(given, action.resource))
        && (names.is_empty() || names.iter().any(|name| name == action.name))
}

/// Returns true if `given` is `*`, the resource itself, or `*/SUBRESOURCE`.
fn covers(given: &str, resource: &str) -> bool {
    given == "*"
        || given == resource
        || given
            .strip_prefix("*/")
            .is_some_and(|sub| resource.split_once('/').is_some_and(|(_, own)| own == sub))
}

/// Returns the namespace that decides access to an object. A namespace object is in itself.
pub(crate) fn scope<'a>(group: &str, plural: &str, namespace: &'a str, name: &'a str) -> &'a str {
    if group.is_empty() && plural == "namespaces" {
        name
    } else {
        namespace
    }
}

/// Returns the user name of a stored service account.
pub(crate) fn user_of(account: &Value) -> String {
    format!(
        "system:serviceaccount:{}:{}",
        object::namespace(account),
        object::name(account)
    )
}

/// Returns the rules that `SelfSubjectRulesReview` lists.
pub(crate) fn rules_of(server: &ApiServer, caller: &Caller, namespace: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    server.for_each_rule(caller, namespace, &mut |rule| {
        let kind = if at(rule, &["nonResourceURLs"]).is_some() {
            &mut paths
        } else {
            &mut resources
        };
        kind.push(rule.clone());
    });
    (resources, paths)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_grant_what_they_name_and_nothing_else() {
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/log"], "resourceNames": ["a"]});
        let action = |verb, resource, name| Action {
            verb,
            resource,
            name,
            ..Action::default()
        };
        assert!(grants(&rule, &action("get", "pods", "a")));
        assert!(grants(&rule, &action("get", "pods/log", "a")));
        for (verb, resource, name) in [
            ("list", "pods", "a"),
            ("get", "pods", "b"),
            ("get", "pods/exec", "a"),
            ("get", "secrets", "a"),
            ("get", "pods", ""),
        ] {
            assert!(
                !grants(&rule, &action(verb, resource, name)),
                "{verb} {resource} {name}"
            );
        }
        assert!(!grants(
            &rule,
            &Action {
                group: "apps",
                ..action("get", "pods", "a")
            }
        ));
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        assert!(grants(
            &all,
            &Action {
                group: "apps",
                ..action("delete", "x/y", "")
            }
        ));
    }

    #[test]
    fn subjects_are_users_groups_and_service_accounts() {
        let caller = Caller::user("system:serviceaccount:shop:cart", Vec::new());
        let binding = |subject: Value| json!({ "subjects": [subject] });
        for subject in [
            json!({"kind": "ServiceAccount", "name": "cart", "namespace": "shop"}),
            json!({"kind": "ServiceAccount", "name": "cart"}),
            json!({"kind": "User", "name": "system:serviceaccount:shop:cart"}),
            json!({"kind": "Group", "name": "system:serviceaccounts:shop"}),
            json!({"kind": "Group", "name": "system:authenticated"}),
        ] {
            assert!(is_bound(&binding(subject.clone()), &caller, "shop"), "{subject}");
        }
        for subject in [
            json!({"kind": "ServiceAccount", "name": "cart", "namespace": "other"}),
            json!({"kind": "User", "name": "cart"}),
        ] {
            assert!(!is_bound(&binding(subject.clone()), &caller, "shop"), "{subject}");
        }
    }
}
