//! Parsers for a container's `/proc/1/status` and `/proc/1/mountinfo`: the kernel's view of a
//! process.
//!
//! `trial::inside` reads the texts, also from images without a shell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The identity and privileges of a process. Source: proc_pid_status(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcStatus {
    /// The command name.
    pub name: String,
    /// Real, effective, saved and filesystem user id.
    pub uids: [u32; 4],
    /// Real, effective, saved and filesystem group id.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities, one bit each.
    pub cap_effective: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Inheritable capabilities.
    pub cap_inheritable: u64,
    /// Bounding set: the most that the process could ever gain.
    pub cap_bounding: u64,
    /// Ambient capabilities.
    pub cap_ambient: u64,
    /// True if the process can gain no privilege by executing a file.
    pub no_new_privs: bool,
}

impl ProcStatus {
    /// Parses the file's text.
    ///
    /// # Errors
    /// Names the field that is missing or malformed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let field = |name: &str| {
            fields
                .get(name)
                .copied()
                .ok_or_else(|| format!("there is no {name}"))
        };
        let numbers = |name: &str| -> Result<Vec<u32>, String> {
            let malformed = |_| format!("{name} is not a list of numbers: {:?}", fields.get(name));
            field(name)?
                .split_whitespace()
                .map(|id| id.parse().map_err(malformed))
                .collect()
        };
        let four = |name: &str| -> Result<[u32; 4], String> {
            numbers(name)?
                .try_into()
                .map_err(|ids: Vec<u32>| format!("{name} has {} numbers, not 4", ids.len()))
        };
        let mask = |name: &str| -> Result<u64, String> {
            let text = field(name)?;
            u64::from_str_radix(text, 16).map_err(|_| format!("{name} is not a mask: {text:?}"))
        };
        Ok(Self {
            name: field("Name")?.to_owned(),
            uids: four("Uid")?,
            gids: four("Gid")?,
            groups: numbers("Groups")?,
            cap_effective: mask("CapEff")?,
            cap_permitted: mask("CapPrm")?,
            cap_inheritable: mask("CapInh")?,
            cap_bounding: mask("CapBnd")?,
            cap_ambient: mask("CapAmb")?,
            no_new_privs: field("NoNewPrivs")? == "1",
        })
    }
}

/// One mount of a container. Source: proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path inside the container.
    pub path: String,
    /// The filesystem's type.
    pub fs_type: String,
    /// True if the mount or its whole filesystem is read-only.
    pub read_only: bool,
}

/// Parses `/proc/1/mountinfo`. If one mount covers another, the later line is in force.
///
/// # Errors
/// Names the line that is malformed.
pub fn parse_mounts(text: &str) -> Result<Vec<Mount>, String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            parse_mount(line).ok_or_else(|| format!("mountinfo line {}: {line:?}", index + 1))
        })
        .collect()
}

/// `id parent major:minor root path options [optional…] - type source super-options`
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(4);
    let path = unescape(fields.next()?);
    let options = fields.next()?;
    let mut after = after.split(' ');
    let fs_type = after.next()?.to_owned();
    let super_options = after.next_back()?;
    let read_only = [options, super_options]
        .iter()
        .any(|list| list.split(',').any(|option| option == "ro"));
    Some(Mount {
        path,
        fs_type,
        read_only,
    })
}

/// Undoes the octal escapes for space, tab, newline and backslash.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) const STATUS: &str = "Name:\tvalkey-server\nUmask:\t0077\nUid:\t999\t999\t999\t999\nGid:\t999\t999\t999\t999\nGroups:\t999 \nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n";

    #[test]
    fn a_status_file_is_understood() {
        let status = ProcStatus::parse(STATUS).expect("parses");
        assert_eq!(
            (status.uids, status.groups.as_slice(), status.no_new_privs),
            ([999; 4], &[999][..], true)
        );
        let error = ProcStatus::parse(&STATUS.replace("CapEff:\t0000000000000000", "CapEff:\tzz"))
            .expect_err("malformed");
        assert_eq!(error, "CapEff is not a mask: \"zz\"");
    }

    #[test]
    fn mounts_are_understood() {
        let text = "1 0 0:50 / / ro,relatime - overlay overlay rw,lowerdir=/a\n2 1 0:51 / /tmp rw,nosuid master:5 - tmpfs tmpfs rw,size=1k\n3 1 0:52 /x /a\\040b rw - ext4 /dev/sda1 ro\n";
        let mounts = parse_mounts(text).expect("parses");
        assert_eq!(
            mounts[0],
            Mount {
                path: "/".to_owned(),
                fs_type: "overlay".to_owned(),
                read_only: true
            }
        );
        assert_eq!(
            mounts[1],
            Mount {
                path: "/tmp".to_owned(),
                fs_type: "tmpfs".to_owned(),
                read_only: false
            }
        );
        assert!(mounts[2].read_only && mounts[2].path == "/a b");
        assert_eq!(
            parse_mounts("1 0 / /").expect_err("malformed"),
            "mountinfo line 1: \"1 0 / /\""
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s).{0,300}") {
            let _ = ProcStatus::parse(&text);
            let _ = parse_mounts(&text);
        }
    }
}
