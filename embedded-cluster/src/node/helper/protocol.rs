//! The protocol between the node and its helper process: one JSON packet per message over a
//! `SOCK_SEQPACKET` pair. Any number of processes can answer on one socket without framing.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cgroup::Group;
use crate::node::volumes::SubPath;

/// The maximum packet size. The kernel's default send buffer holds about 200 KiB. A container's
/// environment, which can be larger, is passed in the bundle's `config.json`.
pub(crate) const MAX_PACKET: usize = 160 * 1024;

/// Number of standard streams: input, output and error.
pub(crate) const STDIO: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) action: Action,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Action {
    Start(StartContainer),
    Exec(ExecInContainer),
}

/// A request to create and start a container from a prepared OCI bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartContainer {
    pub(crate) container: String,
    /// The directory with `config.json` and `rootfs`, where the container's root is mounted.
    pub(crate) bundle: PathBuf,
    /// The directory of libcontainer's state.
    pub(crate) state: PathBuf,
    /// The image's unpacked root, which is never written to.
    pub(crate) image_rootfs: PathBuf,
    /// Parts of volumes, mounted in `sub_paths/INDEX` of the bundle.
    pub(crate) sub_paths: Vec<SubPath>,
    /// Owner of the standard streams, so that the container can open `/dev/stdout` again.
    pub(crate) uid: u32,
    /// The cgroup, and the limit in bytes.
    pub(crate) memory_limit: Option<(Group, u64)>,
    /// Paths that the image declares as volumes, mounted in `image_volumes/INDEX` of the bundle.
    pub(crate) image_volumes: Vec<PathBuf>,
}

/// A request to run a command next to a container's init process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ExecInContainer {
    pub(crate) bundle: PathBuf,
    pub(crate) init: i32,
    pub(crate) command: Vec<String>,
    pub(crate) tty: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    /// The new process's pid, or the reason why there is none.
    pub(crate) outcome: Result<i32, Failure>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// True if the program cannot be executed (missing, not executable): an error of the user, not
    /// of the node.
    pub(crate) program: bool,
    /// True if the worker was killed before it answered; the message names the cause.
    pub(crate) lost: bool,
    pub(crate) message: String,
}

/// Sends one message with its file descriptors. All message types serialise without error.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> nix::Result<()> {
    let bytes = serde_json::to_vec(message).expect("protocol messages have string keys only");
    if bytes.len() > MAX_PACKET {
        return Err(nix::Error::E2BIG);
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let data = [IoSlice::new(&bytes)];
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &data, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Allocates a buffer for any packet. One buffer serves all messages: a probe would otherwise clear
/// 160 KiB to receive a few hundred bytes.
pub(crate) fn packet_buffer() -> Vec<u8> {
    vec![0; MAX_PACKET]
}

/// Receives one message into `buffer`; returns `None` when the other side has closed the socket.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> std::io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut control = nix::cmsg_space!([RawFd; STDIO]);
    let (length, fds) = loop {
        let mut data = [IoSliceMut::new(buffer)];
        match recvmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &mut data,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(message) => {
                let mut fds = Vec::new();
                for item in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(received) = item {
                        fds.extend(received.into_iter().map(adopt));
                    }
                }
                break (message.bytes, fds);
            }
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if length == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[..length])?;
    Ok(Some((message, fds)))
}

#[expect(unsafe_code, reason = "a descriptor received over a socket has no owner yet")]
fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just installed this descriptor for this process, and nothing else
    // knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
