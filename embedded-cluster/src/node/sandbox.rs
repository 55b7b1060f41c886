//! Namespaces that the containers of a pod share: network, IPC and UTS. There is no pause process:
//! open descriptors keep the namespaces, and closing them is the only clean-up.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns, unshare};

use super::spec::NamespacePaths;

/// A pod's namespaces.
#[derive(Debug)]
pub(crate) struct Sandbox {
    net: File,
    ipc: File,
    uts: File,
}

impl Sandbox {
    /// Creates new namespaces with this hostname.
    pub(crate) fn create(hostname: &str) -> io::Result<Self> {
        let hostname = hostname.to_owned();
        // A separate thread enters the new namespaces and ends in them.
        in_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
            nix::unistd::sethostname(&hostname)?;
            // As in containerd, port 80 and ping inside a pod need no capability.
            for (key, value) in [
                ("ip_unprivileged_port_start", "0"),
                ("ping_group_range", "0 2147483647"),
            ] {
                if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value) {
                    tracing::debug!(%error, key, "pod network setting refused");
                }
            }
            let open = |name: &str| File::open(format!("/proc/thread-self/ns/{name}"));
            Ok(Self {
                net: open("net")?,
                ipc: open("ipc")?,
                uts: open("uts")?,
            })
        })
    }

    /// Returns paths by which other processes of this pid namespace can join.
    pub(crate) fn paths(&self) -> NamespacePaths {
        let path =
            |file: &File| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        NamespacePaths {
            net: path(&self.net),
            ipc: path(&self.ipc),
            uts: path(&self.uts),
        }
    }

    /// Returns the network namespace.
    pub(crate) fn network(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }

    /// Runs `body` on its own thread inside the pod's network namespace. Sockets created there stay
    /// in that namespace.
    pub(crate) fn in_network<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let net = self.net.try_clone()?;
        in_thread(move || {
            setns(net, CloneFlags::CLONE_NEWNET)?;
            body()
        })
    }
}

fn in_thread<T: Send + 'static>(body: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new()
        .name("pod-sandbox".to_owned())
        .spawn(body)?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the sandbox thread panicked")))
}
