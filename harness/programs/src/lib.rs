//! Child processes that must not outlive this process: `helm`, `kind`, `docker`. Dropping the
//! future that waits for a child kills the child. The kernel kills it when this process ends, for
//! any reason.
//!
//! The kernel sends the parent-death signal when the *thread* that started the child ends. Threads
//! of an async runtime are temporary. Therefore one thread that lives as long as the process starts
//! all children.

use std::io;
use std::process::{Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Start = Box<dyn FnOnce() + Send>;

/// The thread that starts all programs.
static STARTER: LazyLock<Result<Sender<Start>, io::ErrorKind>> = LazyLock::new(|| {
    let (sender, starts) = channel::<Start>();
    let thread = std::thread::Builder::new().name("starter".to_owned());
    thread
        .spawn(move || starts.into_iter().for_each(|start| start()))
        .map(|_| sender)
        .map_err(|error| error.kind())
});

/// Runs `command` to its end, and returns its output. Must be called within a tokio runtime.
pub async fn output(mut command: Command) -> io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).await?.wait_with_output().await
}

/// Starts `command`. The child dies with the returned value and with this process.
async fn spawn(mut command: Command) -> io::Result<Child> {
    // Ctrl-C must reach only this process, which decides its meaning for the child.
    command.kill_on_drop(true).process_group(0);
    die_with_this_process(&mut command);
    let starter = STARTER.as_ref().map_err(|kind| io::Error::from(*kind))?;
    let (answer, started) = oneshot::channel();
    let runtime = Handle::current();
    let start = move || {
        let _within = runtime.enter();
        // If the receiver is gone, dropping the returned value kills the child.
        let _ = answer.send(command.spawn());
    };
    let ended = || io::Error::other("the thread that starts programs has ended");
    starter.send(Box::new(start)).map_err(|_| ended())?;
    started.await.map_err(|_| ended())?
}

#[expect(
    unsafe_code,
    reason = "what a child does before it executes its program has no safe interface"
)]
fn die_with_this_process(command: &mut Command) {
    let parent = i32::try_from(std::process::id()).expect("a process ID fits a pid_t");
    let tie = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the signal was set.
        if getppid().as_raw() != parent {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(tie) };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Guards against the parent-death signal: the thread that started the child must stay alive.
    #[tokio::test]
    async fn a_child_is_started_by_the_thread_that_stays() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let child = spawn(command).await.unwrap();
        let pid = child.id().unwrap();
        let starters = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .filter(|thread| {
                let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
                read("children")
                    .split_whitespace()
                    .any(|child| child == pid.to_string())
                    && read("comm").trim() == "starter"
            });
        assert_eq!(starters.count(), 1);
        drop(child);
        let gone = tokio::time::timeout(Duration::from_secs(10), async {
            while std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
            {
                tokio::task::yield_now().await;
            }
        });
        gone.await.expect("a dropped child dies");
    }

    #[tokio::test]
    async fn what_a_program_prints_is_returned() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let output = output(command).await.unwrap();
        assert_eq!(
            (output.stdout, output.stderr),
            (b"out\n".to_vec(), b"err\n".to_vec())
        );
        assert_eq!(output.status.code(), Some(3));
        let missing = super::output(Command::new("/no/such/program")).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
