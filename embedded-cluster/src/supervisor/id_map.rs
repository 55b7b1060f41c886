//! Mapping of user and group IDs into a supervisor's user namespace.
//!
//! Pods run as many users (Valkey as 999), so mapping only this user is not enough. The setuid
//! programs `newuidmap` and `newgidmap` map the range that `/etc/subuid` and `/etc/subgid` grant.

use std::path::Path;
use std::process::Command;

use super::handle::StartError;

/// First ID and number of IDs of a subordinate range.
type Range = (u32, u32);

/// Maps root to this user, and IDs from 1 to its subordinate range, for both users and groups of
/// `pid`.
pub(super) fn map(pid: u32) -> Result<(), StartError> {
    let uid = nix::unistd::geteuid().as_raw();
    let gid = nix::unistd::getegid().as_raw();
    map_one("newuidmap", "/etc/subuid", pid, uid)?;
    map_one("newgidmap", "/etc/subgid", pid, gid)
}

fn map_one(program: &str, file: &str, pid: u32, own: u32) -> Result<(), StartError> {
    let refused = |cause: String| StartError::Permission {
        what: format!("map IDs into a user namespace with {program}"),
        cause,
    };
    let text = std::fs::read_to_string(file).map_err(|e| refused(format!("{file}: {e}")))?;
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid)
        .ok()
        .flatten()
        .map(|user| user.name);
    let (first, count) = subordinate_range(&text, name.as_deref(), uid.as_raw()).ok_or_else(|| {
        refused(format!(
            "{file} grants no range to user {}",
            name.as_deref().unwrap_or("?")
        ))
    })?;
    let output = Command::new(Path::new(program))
        .args([pid, 0, own, 1, 1, first, count].map(|number| number.to_string()))
        .output()
        .map_err(|e| refused(format!("could not run {program}: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Returns the first range that `text`, in the format of subuid(5), grants to a user, by name or by
/// number.
fn subordinate_range(text: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    let uid = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner != uid {
            return None;
        }
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::subordinate_range;

    #[test]
    fn a_range_is_found_by_name_and_by_number() {
        let text = "alice:100000:65536\n1001:165536:65536\n";
        assert_eq!(
            subordinate_range(text, Some("alice"), 1000),
            Some((100_000, 65_536))
        );
        assert_eq!(
            subordinate_range(text, Some("bob"), 1001),
            Some((165_536, 65_536))
        );
        assert_eq!(subordinate_range(text, Some("carol"), 1002), None);
    }

    #[test]
    fn a_malformed_line_grants_nothing() {
        assert_eq!(
            subordinate_range("alice:x:65536\nalice\n", Some("alice"), 1000),
            None
        );
    }
}
