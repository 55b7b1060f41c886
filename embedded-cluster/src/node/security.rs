//! The user and the permissions of a container: the `securityContext` of pod and container, applied
//! to the image. Pure, except that user names are looked up in the image's `/etc/passwd` and
//! `/etc/group`.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::capabilities::{DEFAULT_CAPABILITIES, is_confined};
use crate::confined::Confined;

/// Number of bytes read of an image's `/etc/passwd` and `/etc/group`. Real ones have a few KiB.
const ACCOUNTS_BYTES: u64 = 1024 * 1024;

/// The user and groups of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, in order and without duplicates.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) capabilities: BTreeSet<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
}

/// Computes the identity of `container` in an image whose configuration names `image_user`.
///
/// # Errors
/// Fails with the kubelet's text for `CreateContainerConfigError`.
pub(crate) fn identity(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    rootfs: &Path,
) -> Result<Identity, String> {
    let accounts = Accounts::read(rootfs);
    let pod_context = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.clone())
        .unwrap_or_default();
    let context = container.security_context.clone().unwrap_or_default();
    let (user, group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let wanted = context.run_as_user.or(pod_context.run_as_user);
    let image_uid = if user.is_empty() {
        Some(0)
    } else {
        user.parse::<i64>().ok()
    };
    if context.run_as_non_root.or(pod_context.run_as_non_root) == Some(true) {
        verify_non_root(pod, container, wanted, image_uid, user)?;
    }
    let uid = match wanted.or(image_uid) {
        Some(uid) => u32::try_from(uid).map_err(|_| format!("runAsUser {uid} is out of range"))?,
        None => accounts
            .uid(user)
            .ok_or_else(|| format!("unable to find user {user}: no matching entries in passwd file"))?,
    };
    let account = accounts.account(uid);
    let gid = match context.run_as_group.or(pod_context.run_as_group) {
        Some(gid) => u32::try_from(gid).map_err(|_| format!("runAsGroup {gid} is out of range"))?,
        None if wanted.is_none() && !group.is_empty() => accounts
            .gid(group)
            .ok_or_else(|| format!("unable to find group {group}: no matching entries in group file"))?,
        None => account.map_or(0, |account| account.gid),
    };
    let mut groups = vec![gid];
    let extra = pod_context
        .supplemental_groups
        .iter()
        .flatten()
        .chain(&pod_context.fs_group);
    for group in extra.filter_map(|group| u32::try_from(*group).ok()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if let Some(name) = account.map(|account| &account.name) {
        for group in accounts.groups_of(name) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    Ok(Identity {
        uid,
        gid,
        groups,
        home: account
            .map(|account| account.home.clone())
            .filter(|home| !home.is_empty())
            .unwrap_or_else(|| "/".to_owned()),
        capabilities: capabilities(&context.capabilities.unwrap_or_default()),
        no_new_privileges: context.allow_privilege_escalation == Some(false),
        read_only_root: context.read_only_root_filesystem == Some(true),
    })
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    wanted: Option<i64>,
    image: Option<i64>,
    user: &str,
) -> Result<(), String> {
    let place = format!("(pod: \"{}\", container: {})", describe(pod), container.name);
    match (wanted, image) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        (None, Some(_)) => Ok(()),
        (None, None) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {place}"
        )),
    }
}

/// Formats a pod as `name_namespace(uid)`, as the kubelet does in its messages.
pub(crate) fn describe(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    format!(
        "{}_{}({})",
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default()
    )
}

fn capabilities(wanted: &k8s_openapi::api::core::v1::Capabilities) -> BTreeSet<String> {
    let name = |name: &String| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    let add: Vec<String> = wanted.add.iter().flatten().map(name).collect();
    let drop: Vec<String> = wanted.drop.iter().flatten().map(name).collect();
    let available = available_capabilities();
    let mut set: BTreeSet<String> = DEFAULT_CAPABILITIES
        .iter()
        .map(|name| (*name).to_owned())
        // If the node itself lacks a capability (in an outer container), it cannot grant it.
        .filter(|name| may_be_given(name, available.as_ref()))
        .collect();
    if drop.iter().any(|name| name.eq_ignore_ascii_case("ALL")) {
        set.clear();
    }
    for name in &drop {
        set.remove(name);
    }
    // Pods that request other capabilities are refused earlier.
    set.extend(add.into_iter().filter(|name| is_confined(name)));
    set
}

/// Returns the permitted capabilities of this process; `None` if the kernel does not report them.
fn available_capabilities() -> Option<CapsHashSet> {
    caps::read(None, CapSet::Permitted).ok()
}

/// Returns true unless the capability is known not to be among `available`.
fn may_be_given(name: &str, available: Option<&CapsHashSet>) -> bool {
    let capability = format!("CAP_{name}").parse::<Capability>();
    match (capability, available) {
        (Ok(capability), Some(available)) => available.contains(&capability),
        _ => true,
    }
}

/// The image's users and groups.
#[derive(Debug, Default)]
struct Accounts {
    users: Vec<Account>,
    groups: Vec<(String, u32, Vec<String>)>,
}

#[derive(Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Accounts {
    fn read(rootfs: &Path) -> Self {
        // An image without these files (a distroless one) has no names; numbers still work.
        let text = |file: &str| {
            let bytes = Confined::open(rootfs)?.read(&Path::new("etc").join(file), ACCOUNTS_BYTES)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Self::parse(
            &text("passwd").unwrap_or_default(),
            &text("group").unwrap_or_default(),
        )
    }

    fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else {
                return None;
            };
            Some(Account {
                name: name.to_owned(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: home.to_owned(),
            })
        });
        let groups = group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members] = fields[..] else {
                return None;
            };
            Some((
                name.to_owned(),
                gid.parse().ok()?,
                members.split(',').map(str::to_owned).collect(),
            ))
        });
        Self {
            users: users.collect(),
            groups: groups.collect(),
        }
    }

    fn account(&self, uid: u32) -> Option<&Account> {
        self.users.iter().find(|account| account.uid == uid)
    }

    fn uid(&self, name: &str) -> Option<u32> {
        self.users
            .iter()
            .find(|account| account.name == name)
            .map(|account| account.uid)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| {
            self.groups
                .iter()
                .find(|(known, ..)| known == name)
                .map(|(_, gid, _)| *gid)
        })
    }

    fn groups_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = u32> + 'a {
        self.groups
            .iter()
            .filter(move |(_, _, members)| members.iter().any(|m| m == user))
            .map(|(_, gid, _)| *gid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "json! literals read best as arguments"
    )]
    fn of(pod: serde_json::Value, container: serde_json::Value, user: &str) -> Result<Identity, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "securityContext": pod}})).unwrap();
        let container: Container =
            serde_json::from_value(json!({"name": "c", "securityContext": container})).unwrap();
        identity(&pod, &container, user, Path::new("/nonexistent"))
    }

    #[test]
    fn the_container_overrides_the_pod_and_the_pod_the_image() {
        let pod =
            json!({"runAsUser": 999, "runAsGroup": 998, "fsGroup": 997, "supplementalGroups": [5, 998]});
        let identity = of(pod.clone(), json!({}), "1").unwrap();
        assert_eq!(
            (identity.uid, identity.gid, identity.groups),
            (999, 998, vec![998, 5, 997])
        );
        assert_eq!(of(pod, json!({"runAsUser": 7}), "1").unwrap().uid, 7);
        assert_eq!(of(json!({}), json!({}), "12:34").unwrap().gid, 34);
    }

    #[test]
    fn non_root_is_verified_with_the_kubelets_texts() {
        let non_root = json!({"runAsNonRoot": true});
        assert_eq!(
            of(non_root.clone(), json!({}), "").unwrap_err(),
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(
            of(non_root.clone(), json!({}), "valkey")
                .unwrap_err()
                .contains("non-numeric user (valkey)")
        );
        assert!(
            of(non_root.clone(), json!({"runAsUser": 0}), "9")
                .unwrap_err()
                .contains("breaks non-root policy")
        );
        assert!(of(non_root, json!({}), "999").is_ok());
    }

    #[test]
    fn dropping_all_then_adding_one_leaves_one() {
        let context = json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "allowPrivilegeEscalation": false});
        let identity = of(json!({}), context, "").unwrap();
        assert_eq!(
            identity.capabilities,
            BTreeSet::from(["NET_BIND_SERVICE".to_owned()])
        );
        assert!(identity.no_new_privileges);
    }

    #[test]
    fn no_capability_reaches_beyond_the_container() {
        for capability in [
            "SYS_ADMIN",
            "CAP_SYS_MODULE",
            "MKNOD",
            "DAC_READ_SEARCH",
            "BPF",
            "ALL",
            "SYS_TIME",
        ] {
            assert!(!is_confined(capability), "{capability}");
            let context = json!({"capabilities": {"add": [capability]}});
            let identity = of(json!({}), context, "").unwrap();
            let own: BTreeSet<&str> = identity.capabilities.iter().map(String::as_str).collect();
            assert!(
                own.iter().all(|name| DEFAULT_CAPABILITIES.contains(name)),
                "{own:?}"
            );
        }
        for capability in ["NET_ADMIN", "CAP_SYS_RESOURCE", "CHOWN", "NET_BIND_SERVICE"] {
            assert!(is_confined(capability), "{capability}");
        }
    }

    #[test]
    fn names_come_from_the_image() {
        let accounts = Accounts::parse(
            "root:x:0:0::/root:/bin/sh\nvalkey:x:999:998::/data:/bin/sh\n",
            "extra:x:5:root,valkey\n",
        );
        assert_eq!(accounts.uid("valkey"), Some(999));
        assert_eq!(accounts.account(999).map(|account| account.gid), Some(998));
        assert_eq!(accounts.groups_of("valkey").collect::<Vec<_>>(), [5]);
    }
}
