//! Reading files inside a server's container, even if its image has no tools.
//!
//! The rpm image has `cat`. The hardened image has only Valkey, but `valkey-cli --eval FILE` reads
//! any file. It sends the file to its server as a script, and a client with `MONITOR` receives it.
//! The script does not need to compile.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::context::Context;
use super::error::TrialError;
use super::exec::{ExecEnd, ExecOutput};
use crate::checks::proc_facts::{self, ProcStatus};
use crate::checks::security::{self, ContainerFacts, ExecOutcome, SHELLS, SecurityExpectation};

/// Time that the file may take to appear on the monitor.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(5);

/// Distinguishes our script from the server's other commands.
const MARKER: &str = "read-by-the-harness";

/// The client, which takes the password from the container's environment, set by the manifests. The
/// password is never an argument.
const CLIENT: &str = "valkey-cli";

impl Context {
    /// Checks that the server's container of `pod`, seen from inside, matches the installed values.
    /// Notes each violation; it fails the trial at its end.
    pub async fn verify_security(&mut self, pod: &str) -> Result<(), TrialError> {
        let judged = async {
            let facts = self.container_facts(pod).await;
            let expected = self.security_expectation()?;
            Ok::<_, TrialError>(security::check(&expected, &[facts]))
        };
        let violations = self
            .recorder
            .steps
            .judge(format!("look inside {pod}"), judged)
            .await?;
        let kept = violations.is_empty();
        self.recorder.note_broken(violations);
        if kept {
            self.recorder.kept([security::NAME]);
        }
        Ok(())
    }

    /// Returns the content of a file inside the server's container of `pod`.
    pub async fn read_file(&self, pod: &str, path: &str) -> Result<String, String> {
        let output = self.exec_in_server(pod, &["cat", path]).await;
        match output.map_err(|error| error.to_string())? {
            output @ ExecOutput {
                end: ExecEnd::Exited(0),
                ..
            } => Ok(output.stdout),
            ExecOutput {
                end: ExecEnd::NotStarted(_),
                ..
            } => self.read_through_valkey(pod, path).await,
            ExecOutput {
                end: ExecEnd::Exited(code),
                stderr,
                ..
            } => Err(format!("cat ended with {code}: {}", stderr.trim())),
        }
    }

    fn security_expectation(&self) -> Result<SecurityExpectation, TrialError> {
        let values = self.deployment.values()?;
        let mut expected = match values.image.variant {
            manifests::Variant::Rpm => SecurityExpectation::rpm(),
            manifests::Variant::Hardened => SecurityExpectation::hardened(),
        };
        let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        let declared = &values.security_context;
        expected.uid = id(declared.run_as_user);
        expected.gid = id(declared.run_as_group);
        expected.fs_group = id(declared.fs_group);
        Ok(expected)
    }

    async fn container_facts(&self, pod: &str) -> ContainerFacts {
        let status = self.read_file(pod, "/proc/1/status").await;
        let mounts = self.read_file(pod, "/proc/1/mountinfo").await;
        let mut shells = Vec::new();
        for shell in SHELLS {
            let outcome = match self.exec_in_server(pod, &[shell, "-c", "exit 0"]).await {
                Ok(ExecOutput {
                    end: ExecEnd::Exited(code),
                    ..
                }) => ExecOutcome::Ran(code),
                Ok(ExecOutput {
                    end: ExecEnd::NotStarted(_),
                    ..
                }) => ExecOutcome::NotFound,
                Err(error) => ExecOutcome::Failed(error.to_string()),
            };
            shells.push(((*shell).to_owned(), outcome));
        }
        ContainerFacts {
            pod: pod.to_owned(),
            status: status.and_then(|text| ProcStatus::parse(&text)),
            mounts: mounts.and_then(|text| proc_facts::parse_mounts(&text)),
            shells,
        }
    }

    async fn read_through_valkey(&self, pod: &str, path: &str) -> Result<String, String> {
        let found = tokio::time::timeout(MONITOR_TIMEOUT, self.monitor_script(pod, path)).await;
        found.map_err(|_| {
            format!(
                "the content of {path} was not seen within {} s",
                MONITOR_TIMEOUT.as_secs()
            )
        })?
    }

    async fn monitor_script(&self, pod: &str, path: &str) -> Result<String, String> {
        let io = |error: std::io::Error| error.to_string();
        let mut stream = self.dialer().dial(pod).await.map_err(io)?;
        let password = self.credentials.passwords.first().map(|password| {
            let password = password.expose();
            format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len())
        });
        let answers = 1 + usize::from(password.is_some());
        let greeting = format!("{}*1\r\n$7\r\nMONITOR\r\n", password.unwrap_or_default());
        stream.write_all(greeting.as_bytes()).await.map_err(io)?;
        let mut lines = BufReader::new(stream).lines();
        for _ in 0..answers {
            let answer = lines.next_line().await.map_err(io)?.unwrap_or_default();
            if answer.trim() != "+OK" {
                return Err(format!("the server refuses MONITOR: {answer}"));
            }
        }
        let command = [CLIENT, "--eval", path, ",", MARKER];
        let exec = self.exec_in_server(pod, &command);
        let seen = async {
            while let Some(line) = lines.next_line().await.map_err(io)? {
                if let Some(content) = script_of(&line) {
                    return Ok(content);
                }
            }
            Err("the server ended the connection".to_owned())
        };
        let (ran, seen) = tokio::join!(exec, seen);
        ran.map_err(|error| error.to_string())?;
        seen
    }
}

/// Returns the script in a line of `MONITOR`, if it is ours: `… "EVAL" "SCRIPT" "0" "MARKER"`.
fn script_of(line: &str) -> Option<String> {
    let rest = line.trim_end().strip_suffix(&format!(" \"0\" \"{MARKER}\""))?;
    let (_, quoted) = rest
        .split_once("\"EVAL\" \"")
        .or_else(|| rest.split_once("\"eval\" \""))?;
    Some(unescape(quoted.strip_suffix('"')?))
}

/// Reverses Valkey's `sdscatrepr`, the quoting of `MONITOR`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'n') => bytes.push(b'\n'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'a') => bytes.push(7),
            Some(b'b') => bytes.push(8),
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.extend(u8::from_str_radix(&digits, 16).ok());
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_script_is_told_from_other_commands_and_unquoted() {
        let line = "+1700000000.1 [0 127.0.0.1:5] \"EVAL\" \"Name:\\tvalkey-server\\nUid:\\t999 \\\"x\\\\ \\x01\" \
                    \"0\" \"read-by-the-harness\"";
        assert_eq!(
            script_of(line).unwrap(),
            "Name:\tvalkey-server\nUid:\t999 \"x\\ \u{1}"
        );
        assert_eq!(
            script_of("+1700000000.1 [0 127.0.0.1:5] \"EVAL\" \"return 1\" \"0\""),
            None
        );
        assert_eq!(script_of("+1700000000.1 [0 127.0.0.1:5] \"PING\""), None);
    }
}
