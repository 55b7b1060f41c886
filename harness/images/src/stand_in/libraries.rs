//! Files that a binary needs to run: its ELF interpreter, and its shared libraries with their
//! dependencies. The search works like the dynamic linker's.
//!
//! `ldd` would run the loader. Reading the files needs no program, and works for binaries of
//! another C library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::error::{IoContext as _, StandInError};

/// Default folders of the linker on common distributions.
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

/// Libraries that `getaddrinfo` loads for a look-up, so no binary names them. The C library has
/// them built in since glibc 2.34.
const NAME_SERVICE: [&str; 3] = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// Files that some binaries need, on this machine, by the name that the linker asks for.
#[derive(Debug)]
pub(super) struct Closure {
    /// Libraries by the name in the binaries.
    pub(super) libraries: BTreeMap<String, PathBuf>,
    /// Interpreters by the path in the binaries.
    pub(super) interpreters: BTreeSet<PathBuf>,
    /// The folders to search.
    folders: Vec<PathBuf>,
}

/// The needs that one ELF file states.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    libraries: Vec<String>,
    interpreter: Option<PathBuf>,
}

impl Closure {
    /// Returns the empty closure of this machine.
    pub(super) fn new() -> Self {
        Self {
            libraries: BTreeMap::new(),
            interpreters: BTreeSet::new(),
            folders: folders(),
        }
    }

    /// Adds everything that a binary needs; a file that is not ELF needs nothing. `path` appears in
    /// errors. Its folder is searched for bundled libraries.
    pub(super) fn add(&mut self, path: &Path, content: &[u8]) -> Result<(), StandInError> {
        if !content.starts_with(b"\x7fELF") {
            return Ok(());
        }
        let needs = needs(content).map_err(|source| StandInError::Elf {
            path: path.to_owned(),
            source,
        })?;
        self.interpreters.extend(needs.interpreter);
        for library in needs.libraries {
            self.require(library, path)?;
        }
        Ok(())
    }

    fn require(&mut self, library: String, needed_by: &Path) -> Result<(), StandInError> {
        if self.libraries.contains_key(&library) {
            return Ok(());
        }
        let beside = needed_by
            .parent()
            .map(|folder| [folder.to_owned(), folder.join("../lib")]);
        let found = find(&library, &self.folders).or_else(|| find(&library, beside.as_ref()?));
        let Some(path) = found else {
            return Err(StandInError::Library {
                library,
                needed_by: needed_by.to_owned(),
            });
        };
        let content = fs::read(&path).doing("read", &path)?;
        let is_c_library = library == "libc.so.6";
        self.libraries.insert(library, path.clone());
        self.add(&path, &content)?;
        if is_c_library {
            for library in NAME_SERVICE {
                if find(library, &self.folders).is_some() {
                    self.require(library.to_owned(), &path)?;
                }
            }
        }
        Ok(())
    }
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

/// Returns this machine's library folders in search order.
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
        let mut closure = Closure::new();
        closure.add(&this, &fs::read(&this).unwrap()).unwrap();
        assert!(closure.libraries.contains_key("libc.so.6"), "{closure:?}");
        assert_eq!(closure.interpreters.len(), 1, "{closure:?}");
        assert!(closure.libraries.values().all(|path| path.is_file()));
    }

    #[test]
    fn a_library_that_does_not_exist_is_named_with_who_needs_it() {
        let mut closure = Closure::new();
        let error = closure
            .require("libnowhere.so.9".to_owned(), Path::new("/bin/tool"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "find library libnowhere.so.9, which /bin/tool needs"
        );
    }

    #[test]
    fn a_script_needs_nothing_and_a_broken_binary_is_named() {
        let mut closure = Closure::new();
        closure.add(Path::new("/bin/script"), b"#!/bin/sh\n").unwrap();
        assert!(closure.libraries.is_empty());
        let error = closure
            .add(Path::new("/bin/broken"), b"\x7fELF and no more")
            .unwrap_err();
        assert_eq!(error.to_string(), "read /bin/broken as an ELF file");
    }
}
