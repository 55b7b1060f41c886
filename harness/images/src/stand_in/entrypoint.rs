//! The entrypoint of the hardened stand-in image: `docker-entrypoint.sh` as a native program, for
//! an image without a shell. `build.rs` compiles it alone, with only the standard library. The
//! harness's own code does not include it.
//!
//! It honours the script's contract, with one exception. Words of `VALKEY_EXTRA_FLAGS` are split at
//! white space, but not expanded as file name patterns. No value in the chart is meant as a
//! pattern; a `*` is more likely part of a `--requirepass` password.

use std::os::unix::fs::{MetadataExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs, io};

/// The program that takes flags from the environment.
const SERVER: &str = "valkey-server";
/// The user that the server runs as when the container starts as root.
const USER: &str = "valkey";

fn main() -> ExitCode {
    let given: Vec<String> = env::args().skip(1).collect();
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let command = command(&given, &variable);
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("docker-entrypoint: no command given");
        return ExitCode::from(2);
    };
    let mut next = Command::new(program);
    next.args(arguments);
    if program == SERVER && process::is_root() {
        match prepare_user() {
            Ok((uid, gid)) => next.uid(uid).gid(gid),
            Err(error) => {
                eprintln!("docker-entrypoint: cannot become user {USER}: {error}");
                return ExitCode::FAILURE;
            }
        };
    }
    process::tighten_umask();
    let error = next.exec();
    eprintln!("docker-entrypoint: exec {program}: {error}");
    // The exit codes of a shell: not found, and found but not executable.
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}

/// Returns the command to execute: the given one with two changes. A leading flag or configuration
/// file gets the server in front. The server gets its flags from the environment at the end.
fn command(given: &[String], variable: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut command = given.to_vec();
    if given
        .first()
        .is_some_and(|first| first.starts_with('-') || first.ends_with(".conf"))
    {
        command.insert(0, SERVER.to_owned());
    }
    if command.first().is_some_and(|program| program == SERVER) {
        let mut flags = variable("VALKEY_EXTRA_FLAGS");
        for (flag, name) in [
            ("--requirepass", "VALKEY_PASSWORD"),
            ("--maxmemory", "VALKEY_MAXMEMORY"),
            ("--bind", "VALKEY_BIND"),
        ] {
            let value = variable(name);
            if !value.is_empty() {
                flags = format!("{flags} {flag} {value}");
            }
        }
        // The default separators of a shell; a no-break space is not among them.
        command.extend(
            flags
                .split([' ', '\t', '\n'])
                .filter(|word| !word.is_empty())
                .map(str::to_owned),
        );
    }
    command
}

/// Gives the working directory to the server's user, and returns the IDs of that user.
fn prepare_user() -> io::Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let (uid, gid) =
        find_user(&passwd, USER).ok_or_else(|| io::Error::other("/etc/passwd does not list it"))?;
    take_over(Path::new("."), uid)?;
    Ok((uid, gid))
}

fn find_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// Changes the owner of a folder and its content, and keeps the group.
fn take_over(path: &Path, uid: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.uid() != uid {
        lchown(path, Some(uid), None)?;
    }
    if metadata.is_dir() {
        for child in fs::read_dir(path)? {
            take_over(&child?.path(), uid)?;
        }
    }
    Ok(())
}

/// Two system calls that the standard library lacks.
mod process {
    #[allow(
        unsafe_code,
        reason = "libc is linked by std, and these two functions take and return integers"
    )]
    unsafe extern "C" {
        safe fn geteuid() -> u32;
        safe fn umask(mask: u32) -> u32;
    }

    pub(super) fn is_root() -> bool {
        geteuid() == 0
    }

    /// Sets 0077 instead of the default 0022. Keeps a mask that somebody chose.
    pub(super) fn tighten_umask() {
        let before = umask(0o077);
        if before != 0o022 {
            umask(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(given: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let given: Vec<String> = given.iter().map(|&word| word.to_owned()).collect();
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map_or_else(String::new, |(_, value)| (*value).to_owned())
        };
        command(&given, &variable)
    }

    #[test]
    fn a_flag_or_a_configuration_file_means_the_server() {
        assert_eq!(
            run(&["/etc/valkey/valkey.conf"], &[]),
            ["valkey-server", "/etc/valkey/valkey.conf"]
        );
        assert_eq!(run(&["--port", "1"], &[]), ["valkey-server", "--port", "1"]);
        assert_eq!(
            run(&["valkey-cli", "ping"], &[("VALKEY_BIND", "::")]),
            ["valkey-cli", "ping"]
        );
        assert!(run(&[], &[]).is_empty());
    }

    #[test]
    fn flags_from_the_environment_come_last_and_in_order() {
        let command = run(
            &["valkey-server"],
            &[
                ("VALKEY_BIND", "0.0.0.0 ::"),
                ("VALKEY_MAXMEMORY", "1gb"),
                ("VALKEY_PASSWORD", "secret"),
                ("VALKEY_EXTRA_FLAGS", "  --cluster-announce-ip\t10.0.0.1\n"),
            ],
        );
        assert_eq!(
            command,
            [
                "valkey-server",
                "--cluster-announce-ip",
                "10.0.0.1",
                "--requirepass",
                "secret",
                "--maxmemory",
                "1gb",
                "--bind",
                "0.0.0.0",
                "::",
            ]
        );
    }

    #[test]
    fn words_are_no_file_name_patterns() {
        assert_eq!(
            run(&["valkey-server"], &[("VALKEY_PASSWORD", "*")])
                .last()
                .unwrap(),
            "*"
        );
    }

    #[test]
    fn the_user_is_found_by_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nvalkey:x:999:998::/data:/sbin/nologin\n";
        assert_eq!(find_user(passwd, "valkey"), Some((999, 998)));
        assert_eq!(find_user(passwd, "redis"), None);
        assert_eq!(find_user("valkey:x", "valkey"), None);
    }
}
