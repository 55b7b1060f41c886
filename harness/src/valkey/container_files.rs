//! Reading files of `/proc` inside a server's container that has no shell, no `cat`, nothing but Valkey.
//!
//! `valkey-cli --eval FILE` reads a file *inside the container* and sends its text as a script. It is no Lua, so nothing
//! is executed; but a connection in MONITOR mode is shown the whole command first. This works on every Kubernetes, needs
//! no ephemeral container and no privilege beyond exec, and changes nothing.

use std::io;
use std::time::Duration;

use super::dialer::Dialer;
use super::exec::Exec;
use super::wire::{Reply, Wire, encode};
use crate::checks::proc_facts::{ProcStatus, parse_mounts};
use crate::checks::security::{ContainerFacts, ExecOutcome, SHELLS};
use crate::secret::Password;

/// How long reading one file may take: an exec and a round trip.
const DEADLINE: Duration = Duration::from_secs(10);

/// The files that may be read so: their text is never valid Lua, so the server cannot execute it by accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcFile {
    /// `/proc/1/status`
    Status,
    /// `/proc/1/mountinfo`
    MountInfo,
}

impl ProcFile {
    /// Its path inside the container.
    pub fn path(self) -> &'static str {
        match self {
            Self::Status => "/proc/1/status",
            Self::MountInfo => "/proc/1/mountinfo",
        }
    }
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection that listens broke, or could not be made.
    #[error("listening to {pod} failed")]
    Monitor {
        /// The pod.
        pod: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// `valkey-cli` could not be run in the container.
    #[error("running valkey-cli in {pod} failed")]
    Exec {
        /// The pod.
        pod: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// `valkey-cli` ended without the server having seen the file.
    #[error("valkey-cli in {pod} exited with {exit_code} before the server saw {path}: {stderr}")]
    NotSent {
        /// The pod.
        pod: String,
        /// The file.
        path: &'static str,
        /// The exit code of `valkey-cli`.
        exit_code: i32,
        /// What it said.
        stderr: String,
    },
    /// It took too long.
    #[error("reading {path} in {pod} took longer than {DEADLINE:?}")]
    Timeout {
        /// The pod.
        pod: String,
        /// The file.
        path: &'static str,
    },
}

/// Everything the security check wants to know of a server's container.
pub async fn container_facts(
    dialer: &dyn Dialer,
    exec: &dyn Exec,
    pod: &str,
    password: Option<&Password>,
) -> ContainerFacts {
    let text = async |file| {
        read_file(dialer, exec, pod, password, file)
            .await
            .map_err(|error| with_causes(&error))
    };
    let status = text(ProcFile::Status)
        .await
        .and_then(|text| ProcStatus::parse(&text));
    let mounts = text(ProcFile::MountInfo)
        .await
        .and_then(|text| parse_mounts(&text));
    let mut shells = Vec::new();
    for shell in SHELLS {
        shells.push(((*shell).to_owned(), run_shell(exec, pod, shell).await));
    }
    ContainerFacts {
        pod: pod.to_owned(),
        status,
        mounts,
        shells,
    }
}

async fn run_shell(exec: &dyn Exec, pod: &str, shell: &str) -> ExecOutcome {
    match tokio::time::timeout(DEADLINE, exec.exec(pod, &[shell, "-c", "exit 0"])).await {
        Err(_elapsed) => ExecOutcome::Failed(format!("no end within {DEADLINE:?}")),
        Ok(Ok(output)) => ExecOutcome::Ran(output.exit_code),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => ExecOutcome::NotFound,
        Ok(Err(error)) => ExecOutcome::Failed(error.to_string()),
    }
}

/// Reads a file of the first process in the server container of `pod`. `valkey-cli` authenticates with what the
/// container's environment gives it (`REDISCLI_AUTH`).
///
/// # Errors
/// See [`ReadError`].
pub async fn read_file(
    dialer: &dyn Dialer,
    exec: &dyn Exec,
    pod: &str,
    password: Option<&Password>,
    file: ProcFile,
) -> Result<String, ReadError> {
    let path = file.path();
    let reading = async {
        let broken = |source| ReadError::Monitor {
            pod: pod.to_owned(),
            source,
        };
        let stream = dialer.dial(pod).await.map_err(broken)?;
        let mut wire = Wire::open(stream, password).await.map_err(broken)?;
        start_monitor(&mut wire).await.map_err(broken)?;
        // Tells our EVAL from anybody else's.
        let marker = uuid::Uuid::new_v4().to_string();
        let command = ["valkey-cli", "-e", "--eval", path, ",", &marker];
        let mut running = exec.exec(pod, &command);
        loop {
            tokio::select! {
                biased;
                text = next_script(&mut wire, &marker) => if let Some(text) = text.map_err(broken)? {
                    return Ok(text);
                },
                output = &mut running => {
                    let output = output.map_err(|source| ReadError::Exec { pod: pod.to_owned(), source })?;
                    // The server answers the command after it has shown it: what it showed is on its way.
                    return last_chance(&mut wire, &marker).await.map_err(broken)?.ok_or(ReadError::NotSent {
                        pod: pod.to_owned(),
                        path,
                        exit_code: output.exit_code,
                        stderr: output.stderr.trim().to_owned(),
                    });
                }
            }
        }
    };
    match tokio::time::timeout(DEADLINE, reading).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ReadError::Timeout {
            pod: pod.to_owned(),
            path,
        }),
    }
}

async fn start_monitor(wire: &mut Wire) -> io::Result<()> {
    let mut command = Vec::new();
    encode(&mut command, &[b"MONITOR"]);
    wire.send(&command).await?;
    wire.reply(|reply| match reply {
        Reply::Simple(b"OK") => Ok(()),
        other => Err(io::Error::other(format!("MONITOR answered {other:?}"))),
    })
    .await?
}

/// The next line that MONITOR shows; the script in it, when it is ours.
async fn next_script(wire: &mut Wire, marker: &str) -> io::Result<Option<String>> {
    wire.reply(|reply| {
        let line = reply.bytes()?;
        contains(line, marker.as_bytes())
            .then(|| script_of(line))
            .flatten()
    })
    .await
}

/// MONITOR's connection and valkey-cli's are two, so the line may still be under way when the program has ended. The
/// server writes both in the same turn of its loop; what is not here after the grace was never shown.
async fn last_chance(wire: &mut Wire, marker: &str) -> io::Result<Option<String>> {
    const GRACE: Duration = Duration::from_millis(500);
    let search = async {
        loop {
            if let Some(text) = next_script(wire, marker).await? {
                return Ok(Some(text));
            }
        }
    };
    tokio::time::timeout(GRACE, search).await.unwrap_or(Ok(None))
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// `1795392977.756545 [0 127.0.0.1:42420] "EVAL" "<script>" "0" "<marker>"`
fn script_of(line: &[u8]) -> Option<String> {
    let start = line.windows(8).position(|window| window == b"\"EVAL\" \"")? + 8;
    let mut text = Vec::new();
    let mut rest = line[start..].iter().copied();
    loop {
        match rest.next()? {
            b'"' => return Some(String::from_utf8_lossy(&text).into_owned()),
            b'\\' => text.push(match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 0x07,
                b'b' => 0x08,
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                other => other,
            }),
            byte => text.push(byte),
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    format!("{error}{cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_found_and_its_escapes_undone() {
        let line = br#"1795392977.75 [0 127.0.0.1:42420] "EVAL" "Name:\tvalkey\nq \"a\" \\ \x01" "0" "mark""#;
        assert_eq!(
            script_of(line).as_deref(),
            Some("Name:\tvalkey\nq \"a\" \\ \u{1}")
        );
        assert_eq!(script_of(br#"1.0 [0 a:1] "GET" "x""#), None);
        assert_eq!(script_of(br#"1.0 [0 a:1] "EVAL" "cut"#), None);
    }
}
