//! What the node and its helper process say to each other: one JSON packet per message over a
//! `SOCK_SEQPACKET` pair, so that any number of processes can answer on the same socket without framing.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No packet is larger. The kernel's default send buffer holds about 200 KiB; what can be larger (a
/// container's environment) travels in the bundle's `config.json`.
pub(crate) const MAX_PACKET: usize = 160 * 1024;

/// Standard input, output and error.
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

/// Create and start a container from a prepared OCI bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartContainer {
    pub(crate) container: String,
    /// Holds `config.json`, and the directory `rootfs` that the container's root is mounted on.
    pub(crate) bundle: PathBuf,
    /// Where libcontainer keeps its own state.
    pub(crate) state: PathBuf,
    /// The image's unpacked root, never written to.
    pub(crate) image_rootfs: PathBuf,
    /// Owner of the standard streams, so that the container can open `/dev/stdout` again.
    pub(crate) uid: u32,
    /// In bytes.
    pub(crate) memory_limit: Option<u64>,
}

/// Run a command beside a container's init process.
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
    /// The new process's pid, or why there is none.
    pub(crate) outcome: Result<i32, Failure>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The program itself cannot be executed (missing, not executable): the user's doing, not the node's.
    pub(crate) program: bool,
    pub(crate) message: String,
}

/// Sends one message with its file descriptors. The value is ours, so it always serialises.
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

/// Room for any packet. One is used for all: a probe would otherwise clear 160 KiB to receive a few hundred bytes.
pub(crate) fn packet_buffer() -> Vec<u8> {
    vec![0; MAX_PACKET]
}

/// Receives one message into `buffer`; `None` when the other side has gone.
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
    // SAFETY: the kernel has just installed this descriptor for us, and nothing else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
