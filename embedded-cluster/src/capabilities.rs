//! Linux capabilities of containers: those that every container has and those that it may request.

/// containerd's default capabilities without MKNOD. No cgroup limits the devices that a container
/// opens here, so it must not create any.
pub(crate) const DEFAULT_CAPABILITIES: [&str; 13] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Additional capabilities that a container may request. The kernel confines their effects to the
/// container's namespaces (NET_ADMIN, NET_BROADCAST, SYS_PTRACE, IPC_OWNER) or to its processes.
///
/// All others affect the machine:
///
/// - mounts and cgroups (SYS_ADMIN)
/// - devices (MKNOD, SYS_RAWIO)
/// - files by handle (DAC_READ_SEARCH)
/// - the kernel's code and memory (SYS_MODULE, BPF, PERFMON, SYS_BOOT)
/// - the clock (SYS_TIME, WAKE_ALARM)
/// - the log and audit (SYSLOG, AUDIT_*)
/// - files that nobody can remove (LINUX_IMMUTABLE)
const CONFINED_CAPABILITIES: [&str; 9] = [
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "NET_ADMIN",
    "NET_BROADCAST",
    "SYS_NICE",
    "SYS_PTRACE",
    "SYS_RESOURCE",
    "SYS_TTY_CONFIG",
];

/// Returns true if a container may request this capability: its effects stay inside the container.
pub(crate) fn is_confined(capability: &str) -> bool {
    let name = capability.strip_prefix("CAP_").unwrap_or(capability);
    DEFAULT_CAPABILITIES.contains(&name) || CONFINED_CAPABILITIES.contains(&name)
}
