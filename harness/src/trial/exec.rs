//! Running a command inside a container, as `kubectl exec` does.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::context::Context;
use super::error::TrialError;
use crate::checks::server_container::server_container;

/// The way a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEnd {
    /// The command ran and exited with this code.
    Exited(i32),
    /// The command could not start, for example because the program does not exist.
    NotStarted(String),
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// The way the command ended.
    pub end: ExecEnd,
    /// The text on standard output.
    pub stdout: String,
    /// The text on standard error.
    pub stderr: String,
}

impl ExecOutput {
    /// Returns the standard output of a successful command, without surrounding white space.
    pub fn success(&self) -> Option<&str> {
        (self.end == ExecEnd::Exited(0)).then(|| self.stdout.trim())
    }
}

impl Context {
    /// Runs `command` in the server's container of a pod and waits for its end.
    pub async fn exec_in_server(&self, pod: &str, command: &[&str]) -> Result<ExecOutput, TrialError> {
        let found = self.pods().get(pod).await;
        let found = found.map_err(|source| TrialError::api(format!("read pod {pod}"), source))?;
        let container = server_container(&found).map_or("", |container| &container.name);
        run(&self.pods(), pod, container, command, None).await
    }
}

/// Runs `command` in a container of one of `pods`, writes `input` to it, and waits for its end.
pub(super) async fn run(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    command: &[&str],
    input: Option<&str>,
) -> Result<ExecOutput, TrialError> {
    let program = command.first().copied().unwrap_or_default();
    let failed = |source| TrialError::api(format!("exec {program} in pod {pod}"), source);
    let broken = |error: std::io::Error| failed(kube::Error::Service(Box::new(error)));
    let params = AttachParams::default()
        .container(container)
        .stdin(input.is_some())
        .stdout(true)
        .stderr(true);
    let mut process = match pods.exec(pod, command.iter().copied(), &params).await {
        Ok(process) => process,
        Err(source) => return not_started(&source).ok_or_else(|| failed(source)),
    };
    let status = process
        .take_status()
        .expect("the status of a new process has not been taken");
    let mut stdout = process.stdout().expect("standard output was asked for");
    let mut stderr = process.stderr().expect("standard error was asked for");
    let mut stdin = process.stdin();
    if let (Some(stdin), Some(input)) = (&mut stdin, input) {
        stdin.write_all(input.as_bytes()).await.map_err(broken)?;
        stdin.flush().await.map_err(broken)?;
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (read, read_too, status) =
        tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err), status);
    read.and(read_too).map_err(broken)?;
    Ok(ExecOutput {
        end: end_of(&status.ok_or_else(|| failed(cut_off()))?, &out, &err),
        stdout: String::from_utf8_lossy(&out).into_owned(),
        stderr: String::from_utf8_lossy(&err).into_owned(),
    })
}

/// Returns the error for a connection that closed before the command ended.
fn cut_off() -> kube::Error {
    kube::Error::Service("the connection ended before the command did".into())
}

/// Turns a refusal to start the command into a result. It concerns the container, not the request.
fn not_started(error: &kube::Error) -> Option<ExecOutput> {
    let kube::Error::Api(status) = error else {
        return None;
    };
    let message = status.message.clone();
    (status.code == 500 && message.contains("executable file not found")).then(|| ExecOutput {
        end: ExecEnd::NotStarted(message),
        stdout: String::new(),
        stderr: String::new(),
    })
}

/// Reads the status with which Kubernetes ends an exec. `NonZeroExitCode` carries the exit code as
/// a cause.
fn end_of(status: &Status, stdout: &[u8], stderr: &[u8]) -> ExecEnd {
    if status.status.as_deref() == Some("Success") {
        return ExecEnd::Exited(0);
    }
    let causes = status
        .details
        .iter()
        .flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_deref()?.parse().ok());
    // Some runtimes start the command before they find that it does not exist. They then exit with
    // a shell's codes.
    let missing = [stdout, stderr]
        .map(String::from_utf8_lossy)
        .into_iter()
        .find(|said| said.contains("executable file not found"));
    match code {
        Some(126..=127) if missing.is_some() => ExecEnd::NotStarted(missing.unwrap_or_default().into_owned()),
        Some(code) => ExecEnd::Exited(code),
        None => ExecEnd::NotStarted(
            status
                .message
                .clone()
                .unwrap_or_else(|| "no reason given".to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> Status {
        serde_yaml::from_str(json).expect("the test's own status is one")
    }

    #[test]
    fn the_exit_code_is_read_from_the_causes() {
        assert_eq!(end_of(&status("{status: Success}"), b"", b""), ExecEnd::Exited(0));
        let failed =
            "{status: Failure, reason: NonZeroExitCode, message: command terminated with exit code 3,
                       details: {causes: [{reason: ExitCode, message: '3'}]}}";
        assert_eq!(end_of(&status(failed), b"", b""), ExecEnd::Exited(3));
        let missing = b"exec: \"sh\": executable file not found in $PATH";
        let failed = failed.replace('3', "127");
        assert!(matches!(
            end_of(&status(&failed), missing, b""),
            ExecEnd::NotStarted(_)
        ));
    }

    #[test]
    fn a_command_that_does_not_exist_did_not_start() {
        let refused =
            "{status: Failure, reason: InternalError, message: 'exec: \"sh\": executable file not found'}";
        assert!(
            matches!(end_of(&status(refused), b"", b""), ExecEnd::NotStarted(why) if why.contains("\"sh\""))
        );
    }
}
