//! What a binary needs to run: its ELF interpreter and the shared libraries it names, and those they name, found
//! the way the dynamic linker finds them.
//!
//! Not `ldd`, which runs the loader: reading the files needs no program and works for a binary of another C library.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::error::{IoContext as _, StandInError};

/// Where the linker looks when nothing else is configured, on the distributions there are.
const DEFAULT_FOLDERS: [&str; 8] = [
    "/lib64",
    "/usr/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib",
    "/usr/lib",
];

/// What `getaddrinfo` loads by itself when it looks up a name (built into the C library since glibc 2.34), so
/// that no binary names it.
const NAME_SERVICE: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// What some binaries need: for every name the linker will ask for, the file on this machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Closure {
    /// By the name that binaries ask for.
    pub(super) libraries: BTreeMap<String, PathBuf>,
    /// By the path that is written in the binaries.
    pub(super) interpreters: BTreeSet<PathBuf>,
}

/// What one ELF file says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    libraries: Vec<String>,
    interpreter: Option<PathBuf>,
}

impl Closure {
    /// Finds everything that `binaries` need.
    pub(super) fn of<'a>(binaries: impl IntoIterator<Item = &'a Path>) -> Result<Self, StandInError> {
        let folders = folders();
        let mut closure = Self::default();
        let mut queue: VecDeque<PathBuf> = binaries.into_iter().map(Path::to_owned).collect();
        while let Some(binary) = queue.pop_front() {
            let content = fs::read(&binary).doing("read", &binary)?;
            let needs = needs(&content).map_err(|source| StandInError::Elf {
                path: binary.clone(),
                source,
            })?;
            closure.interpreters.extend(needs.interpreter);
            for library in needs.libraries {
                closure.require(library, &binary, &folders, &mut queue)?;
            }
        }
        if closure.libraries.contains_key("libc.so.6") {
            for library in NAME_SERVICE {
                if let Some(path) = find(library, &folders) {
                    closure.libraries.insert(library.to_owned(), path);
                }
            }
        }
        Ok(closure)
    }

    fn require(
        &mut self,
        library: String,
        needed_by: &Path,
        folders: &[PathBuf],
        queue: &mut VecDeque<PathBuf>,
    ) -> Result<(), StandInError> {
        if self.libraries.contains_key(&library) {
            return Ok(());
        }
        // Programs of some packages bring libraries along, beside or above themselves.
        let beside = needed_by
            .parent()
            .map(|folder| vec![folder.to_owned(), folder.join("../lib")]);
        let found = find(&library, folders).or_else(|| find(&library, &beside.unwrap_or_default()));
        let Some(path) = found else {
            return Err(StandInError::Library {
                library,
                needed_by: needed_by.to_owned(),
            });
        };
        queue.push_back(path.clone());
        self.libraries.insert(library, path);
        Ok(())
    }
}

/// Whether a file is an ELF file at all; scripts are not, and need nothing.
pub(super) fn is_elf(content: &[u8]) -> bool {
    content.starts_with(b"\x7fELF")
}

fn needs(content: &[u8]) -> Result<Needs, object::Error> {
    let header = FileHeader64::<Endianness>::parse(content)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, content)? {
        if let Some(path) = segment.interpreter(endian, content)? {
            needs.interpreter = Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()));
        }
    }
    let dynamic = header.sections(endian, content)?.dynamic_table(endian, content)?;
    for entry in dynamic.iter().filter(|entry| entry.tag == DT_NEEDED) {
        needs
            .libraries
            .push(String::from_utf8_lossy(dynamic.string(entry)?).into_owned());
    }
    Ok(needs)
}

/// The folders of this machine that hold libraries, in the order in which they are searched.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    read_configuration(Path::new("/etc/ld.so.conf"), &mut folders);
    folders.extend(DEFAULT_FOLDERS.map(PathBuf::from));
    folders
}

fn read_configuration(path: &Path, folders: &mut Vec<PathBuf>) {
    let Ok(text) = fs::read_to_string(path) else {
        return;
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.strip_prefix("include ") {
            // The pattern is always `folder/*.conf`.
            Some(pattern) => {
                let Some(folder) = Path::new(pattern.trim()).parent() else {
                    continue;
                };
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                let files: BTreeSet<PathBuf> = entries.map(|entry| entry.path()).collect();
                for file in files
                    .iter()
                    .filter(|file| file.extension().is_some_and(|e| e == "conf"))
                {
                    read_configuration(file, folders);
                }
            }
            None if !line.is_empty() => folders.push(PathBuf::from(line)),
            None => {}
        }
    }
}

fn find(library: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(library))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_of_this_machine_needs_its_c_library_and_loader() {
        let this = std::env::current_exe().unwrap();
        let closure = Closure::of([this.as_path()]).unwrap();
        assert!(closure.libraries.contains_key("libc.so.6"), "{closure:?}");
        assert_eq!(closure.interpreters.len(), 1, "{closure:?}");
        assert!(closure.libraries.values().all(|path| path.is_file()));
    }

    #[test]
    fn a_library_that_does_not_exist_is_named_with_who_needs_it() {
        let mut closure = Closure::default();
        let error = closure
            .require(
                "libnowhere.so.9".to_owned(),
                Path::new("/bin/tool"),
                &[],
                &mut VecDeque::new(),
            )
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "find library libnowhere.so.9, which /bin/tool needs"
        );
    }

    #[test]
    fn a_script_is_no_elf_file() {
        assert!(!is_elf(b"#!/bin/sh\n"));
        assert!(needs(b"#!/bin/sh\n").is_err());
    }
}
