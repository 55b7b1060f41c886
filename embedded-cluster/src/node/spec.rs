//! Translation of a container's plan to its OCI runtime configuration. Pure.
//!
//! Left out on purpose: `oomScoreAdj` (refused without CAP_SYS_RESOURCE, and without use in a test)
//! and cgroups (see [`super::helper`]). `/sys/fs/cgroup` is therefore empty inside containers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, Mount, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

/// Paths hidden from containers, as in containerd by default (`procMount: Default`).
const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Paths read-only in containers, as in containerd by default.
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The plan of one container instance.
#[derive(Clone, Debug)]
pub(crate) struct ContainerPlan {
    pub(crate) args: Vec<String>,
    /// Environment entries `NAME=value`, in order.
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: BTreeSet<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
    pub(crate) namespaces: NamespacePaths,
    pub(crate) binds: Vec<Bind>,
}

/// The paths by which the pod's shared namespaces can be joined.
#[derive(Clone, Debug)]
pub(crate) struct NamespacePaths {
    pub(crate) net: PathBuf,
    pub(crate) ipc: PathBuf,
    pub(crate) uts: PathBuf,
}

/// A file or directory of the node that the container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) destination: PathBuf,
    pub(crate) read_only: bool,
}

/// Builds the OCI configuration of the plan.
///
/// # Errors
/// Fails for a capability that does not exist.
pub(crate) fn build(plan: &ContainerPlan) -> Result<Spec, SpecError> {
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(
            UserBuilder::default()
                .uid(plan.uid)
                .gid(plan.gid)
                .additional_gids(plan.groups.clone())
                .build()?,
        )
        .args(plan.args.clone())
        .env(plan.env.clone())
        .cwd(if plan.cwd.is_empty() { "/" } else { &plan.cwd })
        .capabilities(capabilities(&plan.capabilities)?)
        .rlimits(vec![])
        .no_new_privileges(plan.no_new_privileges)
        .build()?;
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(&plan.namespaces)?)
        .masked_paths(MASKED_PATHS.map(str::to_owned).to_vec())
        .readonly_paths(READONLY_PATHS.map(str::to_owned).to_vec())
        .build()?;
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(
            RootBuilder::default()
                .path("rootfs")
                .readonly(plan.read_only_root)
                .build()?,
        )
        .process(process)
        .mounts(mounts(&plan.binds)?)
        .build()?;
    let mut linux = linux;
    // The builder's default requests a devices cgroup.
    linux.set_resources(None);
    spec.set_linux(Some(linux));
    spec.set_hostname(None);
    Ok(spec)
}

/// The reasons why a plan has no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("unknown capability {0:?} to add or drop")]
    UnknownCapability(String),
    #[error("build the OCI configuration")]
    Oci(#[from] OciSpecError),
}

fn capabilities(names: &BTreeSet<String>) -> Result<oci_spec::runtime::LinuxCapabilities, SpecError> {
    let set = names
        .iter()
        .map(|name| {
            name.parse::<Capability>()
                .map_err(|_| SpecError::UnknownCapability(name.clone()))
        })
        .collect::<Result<std::collections::HashSet<_>, _>>()?;
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        // Inheritable and ambient capabilities would stay in programs of other users.
        .inheritable(std::collections::HashSet::new())
        .ambient(std::collections::HashSet::new())
        .build()?)
}

fn namespaces(paths: &NamespacePaths) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let joined = [
        (LinuxNamespaceType::Network, &paths.net),
        (LinuxNamespaceType::Ipc, &paths.ipc),
        (LinuxNamespaceType::Uts, &paths.uts),
    ];
    let mut namespaces = joined
        .into_iter()
        .map(|(typ, path)| LinuxNamespaceBuilder::default().typ(typ).path(path).build())
        .collect::<Result<Vec<_>, _>>()?;
    for typ in [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount] {
        namespaces.push(LinuxNamespaceBuilder::default().typ(typ).build()?);
    }
    Ok(namespaces)
}

fn mounts(binds: &[Bind]) -> Result<Vec<Mount>, OciSpecError> {
    let special = [
        ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        (
            "/dev",
            "tmpfs",
            "tmpfs",
            "nosuid,strictatime,mode=755,size=65536k",
        ),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    ];
    let mut mounts = special
        .into_iter()
        .map(|(destination, typ, source, options)| mount(destination.into(), typ, source.into(), options))
        .collect::<Result<Vec<_>, _>>()?;
    for bind in binds {
        let options = if bind.read_only {
            "rbind,rprivate,ro"
        } else {
            "rbind,rprivate,rw"
        };
        mounts.push(mount(
            bind.destination.clone(),
            "bind",
            bind.source.clone(),
            options,
        )?);
    }
    Ok(mounts)
}

fn mount(destination: PathBuf, typ: &str, source: PathBuf, options: &str) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(destination)
        .typ(typ)
        .source(source)
        .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> ContainerPlan {
        ContainerPlan {
            args: vec!["sh".to_owned()],
            env: vec![],
            cwd: String::new(),
            uid: 999,
            gid: 999,
            groups: vec![999],
            capabilities: BTreeSet::from(["CHOWN".to_owned()]),
            no_new_privileges: true,
            read_only_root: true,
            namespaces: NamespacePaths {
                net: "/n".into(),
                ipc: "/i".into(),
                uts: "/u".into(),
            },
            binds: vec![Bind {
                source: "/a".into(),
                destination: "/b".into(),
                read_only: true,
            }],
        }
    }

    #[test]
    fn no_cgroup_and_no_oom_score_are_asked_for() {
        let spec = build(&plan()).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.resources().is_none());
        assert!(spec.process().as_ref().unwrap().oom_score_adj().is_none());
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 5);
    }

    #[test]
    fn an_unknown_capability_is_refused_by_name() {
        let mut plan = plan();
        plan.capabilities.insert("NO_SUCH".to_owned());
        assert_eq!(
            build(&plan).unwrap_err().to_string(),
            "unknown capability \"NO_SUCH\" to add or drop"
        );
    }

    #[test]
    fn read_only_binds_are_read_only() {
        let spec = build(&plan()).unwrap();
        let last = spec.mounts().as_ref().unwrap().last().unwrap().clone();
        assert!(last.options().as_ref().unwrap().contains(&"ro".to_owned()));
    }
}
