//! The container matches its security context when seen from inside: identity, capabilities, root
//! filesystem, shell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Violation;
use super::proc_facts::{Mount, ProcStatus};

/// The check's name.
pub const NAME: &str = "security";

/// The promises of the chart's values and variant about a server container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityExpectation {
    /// `securityContext.runAsUser`; nothing where the platform or the image decides.
    pub uid: Option<u32>,
    /// `securityContext.runAsGroup`, as above.
    pub gid: Option<u32>,
    /// `securityContext.fsGroup`, a supplementary group.
    pub fs_group: Option<u32>,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// Paths that must be writable tmpfs: `/tmp` and `/run/valkey` in hardened.
    pub tmpfs: Vec<String>,
    /// True if all capabilities are dropped.
    pub no_capabilities: bool,
    /// True if `allowPrivilegeEscalation` is false.
    pub no_new_privileges: bool,
    /// True if the image must have no shell.
    pub no_shell: bool,
}

impl SecurityExpectation {
    /// The chart's defaults for the rpm variant.
    pub fn rpm() -> Self {
        Self {
            uid: Some(999),
            gid: Some(999),
            fs_group: Some(999),
            read_only_root: false,
            tmpfs: Vec::new(),
            no_capabilities: true,
            no_new_privileges: true,
            no_shell: false,
        }
    }

    /// The chart's fixed settings for the hardened variant.
    pub fn hardened() -> Self {
        Self {
            read_only_root: true,
            tmpfs: vec!["/tmp".to_owned(), "/run/valkey".to_owned()],
            no_shell: true,
            ..Self::rpm()
        }
    }
}

/// Facts found inside a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// The pod.
    pub pod: String,
    /// `/proc/1/status`, or why it could not be read.
    pub status: Result<ProcStatus, String>,
    /// `/proc/1/mountinfo`, or why it could not be read.
    pub mounts: Result<Vec<Mount>, String>,
    /// Results of executing each shell, by name.
    pub shells: Vec<(String, ExecOutcome)>,
}

/// The result of an attempt to execute a program in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecOutcome {
    /// The image has no such program.
    NotFound,
    /// It ran, and exited with this code.
    Ran(i32),
    /// The attempt itself failed and proves nothing.
    Failed(String),
}

/// The programs that are shells or can act as one. `valkey-cli` proves that exec works at all.
pub const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "busybox"];

/// Finds every deviation from the expectation. Reports unreadable facts too: nothing unproven is
/// called secure.
pub fn check(expected: &SecurityExpectation, containers: &[ContainerFacts]) -> Vec<Violation> {
    if containers.is_empty() {
        return vec![Violation::new(
            NAME,
            "the release",
            "facts of its containers",
            "none",
        )];
    }
    let mut violations = Vec::new();
    for facts in containers {
        match &facts.status {
            Ok(status) => violations.extend(identity(expected, &facts.pod, status)),
            Err(why) => {
                violations.push(Violation::new(
                    NAME,
                    &facts.pod,
                    "/proc/1/status of the container",
                    why,
                ));
            }
        }
        match &facts.mounts {
            Ok(mounts) => violations.extend(filesystem(expected, &facts.pod, mounts)),
            Err(why) => {
                violations.push(Violation::new(
                    NAME,
                    &facts.pod,
                    "/proc/1/mountinfo of the container",
                    why,
                ));
            }
        }
        violations.extend(shells(expected, facts));
    }
    violations
}

fn identity(expected: &SecurityExpectation, pod: &str, status: &ProcStatus) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut differs = |promise: String, seen: String| {
        violations.push(Violation::new(NAME, pod, promise, seen).from_pod(pod));
    };
    if let Some(uid) = expected.uid.filter(|uid| status.uids != [*uid; 4]) {
        differs(
            format!("uid {uid}"),
            format!("uids {:?} (real, effective, saved, fs)", status.uids),
        );
    }
    if let Some(gid) = expected.gid.filter(|gid| status.gids != [*gid; 4]) {
        differs(
            format!("gid {gid}"),
            format!("gids {:?} (real, effective, saved, fs)", status.gids),
        );
    }
    if let Some(group) = expected.fs_group
        && !status.gids.contains(&group)
        && !status.groups.contains(&group)
    {
        differs(
            format!("supplementary group {group} (fsGroup)"),
            format!("{:?}", status.groups),
        );
    }
    if expected.no_capabilities {
        let sets = [
            ("CapEff", status.cap_effective),
            ("CapPrm", status.cap_permitted),
            ("CapInh", status.cap_inheritable),
            ("CapBnd", status.cap_bounding),
            ("CapAmb", status.cap_ambient),
        ];
        for (set, mask) in sets.into_iter().filter(|(_, mask)| *mask != 0) {
            differs(
                format!("no capability in {set} (drop: ALL)"),
                format!("{mask:016x}: {}", capability_names(mask)),
            );
        }
    }
    if expected.no_new_privileges && !status.no_new_privs {
        differs(
            "NoNewPrivs 1 (allowPrivilegeEscalation: false)".to_owned(),
            "0".to_owned(),
        );
    }
    violations
}

fn filesystem(expected: &SecurityExpectation, pod: &str, mounts: &[Mount]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let at = |path: &str| mounts.iter().rev().find(|mount| mount.path == path);
    match at("/") {
        None => violations.push(Violation::new(NAME, pod, "a root mount", "none").from_pod(pod)),
        Some(root) if expected.read_only_root && !root.read_only => {
            violations.push(
                Violation::new(
                    NAME,
                    pod,
                    "a read-only root filesystem",
                    format!("{} mounted rw", root.fs_type),
                )
                .from_pod(pod),
            );
        }
        Some(_) => {}
    }
    // Paths with the same problem have one reason.
    let mut problems: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for path in &expected.tmpfs {
        let seen = match at(path) {
            Some(mount) if mount.fs_type == "tmpfs" && !mount.read_only => continue,
            Some(mount) => format!(
                "{} mounted {}",
                mount.fs_type,
                if mount.read_only { "ro" } else { "rw" }
            ),
            None => "no mount".to_owned(),
        };
        problems.entry(seen).or_default().push(path);
    }
    for (seen, paths) in problems {
        let expected = format!("a writable tmpfs at {}", paths.join(" and "));
        violations.push(Violation::new(NAME, pod, expected, seen).from_pod(pod));
    }
    violations
}

fn shells(expected: &SecurityExpectation, facts: &ContainerFacts) -> Vec<Violation> {
    if !expected.no_shell {
        return Vec::new();
    }
    let mut violations = Vec::new();
    if facts.shells.is_empty() {
        violations.push(Violation::new(
            NAME,
            &facts.pod,
            "proof that there is no shell",
            "no attempt to run one",
        ));
    }
    for (shell, outcome) in &facts.shells {
        let seen = match outcome {
            ExecOutcome::NotFound => continue,
            ExecOutcome::Ran(code) => format!("{shell} ran and exited with {code}"),
            ExecOutcome::Failed(why) => format!("running {shell} failed for another reason: {why}"),
        };
        violations.push(Violation::new(NAME, &facts.pod, "no shell in the image", seen).from_pod(&facts.pod));
    }
    violations
}

/// The capabilities of a mask by name. Source: linux/capability.h.
fn capability_names(mask: u64) -> String {
    const NAMES: &[&str] = &[
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    (0..64)
        .filter(|bit| mask >> bit & 1 == 1)
        .map(|bit| {
            NAMES
                .get(bit)
                .map_or_else(|| bit.to_string(), |name| (*name).to_owned())
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tvalkey-server\nUid:\t999\t999\t999\t999\nGid:\t999\t999\t999\t999\nGroups:\t999\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\t0\nCapAmb:\t0\nNoNewPrivs:\t1\n";

    fn hardened() -> ContainerFacts {
        let mount = |path: &str, fs: &str, read_only| Mount {
            path: path.to_owned(),
            fs_type: fs.to_owned(),
            read_only,
        };
        ContainerFacts {
            pod: "valkey-0".to_owned(),
            status: ProcStatus::parse(STATUS),
            mounts: Ok(vec![
                mount("/", "overlay", true),
                mount("/tmp", "tmpfs", false),
                mount("/run/valkey", "tmpfs", false),
            ]),
            shells: SHELLS
                .iter()
                .map(|shell| ((*shell).to_owned(), ExecOutcome::NotFound))
                .collect(),
        }
    }

    fn seen(facts: ContainerFacts) -> String {
        let violations = check(&SecurityExpectation::hardened(), &[facts]);
        assert_eq!(violations.len(), 1, "{violations:#?}");
        format!("{} | {}", violations[0].expected, violations[0].seen)
    }

    #[test]
    fn a_container_as_declared_is_fine() {
        assert_eq!(check(&SecurityExpectation::hardened(), &[hardened()]), []);
        let mut rpm = hardened();
        rpm.mounts = parse_root_rw();
        rpm.shells = vec![("sh".to_owned(), ExecOutcome::Ran(0))];
        assert_eq!(check(&SecurityExpectation::rpm(), &[rpm]), []);
    }

    fn parse_root_rw() -> Result<Vec<Mount>, String> {
        super::super::proc_facts::parse_mounts("1 0 0:50 / / rw - overlay overlay rw\n")
    }

    #[test]
    fn each_privilege_too_many_is_named() {
        let status = |from: &str, to: &str| {
            let mut facts = hardened();
            facts.status = ProcStatus::parse(&STATUS.replace(from, to));
            seen(facts)
        };
        assert_eq!(
            status("Uid:\t999\t999\t999\t999", "Uid:\t0\t0\t0\t0"),
            "uid 999 | uids [0, 0, 0, 0] (real, effective, saved, fs)"
        );
        assert_eq!(
            status("CapEff:\t0", "CapEff:\t0000000000000401"),
            "no capability in CapEff (drop: ALL) | 0000000000000401: CHOWN, NET_BIND_SERVICE"
        );
        assert_eq!(
            status("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            "NoNewPrivs 1 (allowPrivilegeEscalation: false) | 0"
        );
    }

    #[test]
    fn a_writable_root_and_a_missing_tmpfs_are_named() {
        let mut facts = hardened();
        facts.mounts.as_mut().expect("mounts")[0].read_only = false;
        assert_eq!(seen(facts), "a read-only root filesystem | overlay mounted rw");
        let mut facts = hardened();
        facts.mounts.as_mut().expect("mounts").remove(2);
        assert_eq!(seen(facts), "a writable tmpfs at /run/valkey | no mount");
    }

    #[test]
    fn a_shell_and_a_failed_attempt_are_both_named() {
        let mut facts = hardened();
        facts.shells[0].1 = ExecOutcome::Ran(0);
        assert_eq!(seen(facts), "no shell in the image | sh ran and exited with 0");
        let mut facts = hardened();
        facts.shells[1].1 = ExecOutcome::Failed("deadline".to_owned());
        assert_eq!(
            seen(facts),
            "no shell in the image | running bash failed for another reason: deadline"
        );
    }

    #[test]
    fn nothing_unproven_is_called_secure() {
        assert_eq!(check(&SecurityExpectation::rpm(), &[]).len(), 1);
        let mut facts = hardened();
        facts.status = Err("exec was refused".to_owned());
        assert_eq!(seen(facts), "/proc/1/status of the container | exec was refused");
        let mut facts = hardened();
        facts.shells.clear();
        assert_eq!(
            seen(facts),
            "proof that there is no shell | no attempt to run one"
        );
    }
}
