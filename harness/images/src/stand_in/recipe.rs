//! The files and the configuration of the two stand-in images.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use embedded_cluster::images::{LayerBuilder, NewImage};
use oci_spec::image::{Arch, Config, ImageConfiguration, Os};

use super::binaries::{Binaries, on_path};
use super::error::{IoContext as _, StandInError};
use super::libraries::Closure;

/// The label that marks a stand-in.
pub const STAND_IN_LABEL: &str = "com.percona.valkey-e2e.stand-in";
/// The label that names the parts of a stand-in.
pub(crate) const BUILT_FROM_LABEL: &str = "com.percona.valkey-e2e.built-from";

/// User and group of the server in the published images, and the chart's `runAsUser`.
const VALKEY_ID: u32 = 999;

const SCRIPT_ENTRYPOINT: &str = include_str!("docker-entrypoint.sh");
const NATIVE_ENTRYPOINT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/entrypoint"));

/// Tools that the chart's scripts and entrypoint use, so the rpm image must have them.
const NEEDED_TOOLS: [&str; 24] = [
    "sh", "cat", "chown", "cut", "date", "env", "find", "grep", "head", "id", "ls", "mkdir", "mv", "rm",
    "sed", "seq", "sleep", "sort", "tail", "tee", "touch", "tr", "uniq", "wc",
];
/// Tools that people and scripts use where available. UBI and most machines have them.
const USUAL_TOOLS: [&str; 38] = [
    "awk",
    "basename",
    "bash",
    "chmod",
    "cksum",
    "comm",
    "cp",
    "dd",
    "df",
    "dirname",
    "du",
    "expr",
    "false",
    "free",
    "getent",
    "kill",
    "ln",
    "md5sum",
    "mktemp",
    "mount",
    "nproc",
    "od",
    "pgrep",
    "pkill",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rmdir",
    "setpriv",
    "sha256sum",
    "stat",
    "sync",
    "tar",
    "test",
    "timeout",
    "true",
    "umount",
];
const MORE_TOOLS: [&str; 4] = ["uname", "whoami", "xargs", "yes"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nvalkey:x:999:999:Valkey:/data:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nvalkey:x:999:\n";
/// The usual order, files before DNS. Without this file the C library's own order applies.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
/// The configuration of the published images. The chart mounts its own over it.
const VALKEY_CONF: &str = "protected-mode yes\nport 6379\ndir /data\n";

/// Builds the image with a shell and the usual tools.
pub(super) fn rpm(binaries: &Binaries) -> Result<NewImage, StandInError> {
    let mut programs = valkey(binaries);
    for tool in NEEDED_TOOLS {
        programs.insert(tool.to_owned(), on_path(tool).ok_or(StandInError::Tool { tool })?);
    }
    for tool in USUAL_TOOLS.into_iter().chain(MORE_TOOLS) {
        if let Some(program) = on_path(tool) {
            programs.insert(tool.to_owned(), program);
        }
    }
    let mut layer = base();
    layer.file("/usr/local/bin/docker-entrypoint.sh", 0o755, SCRIPT_ENTRYPOINT);
    layer.symlink("/docker-entrypoint.sh", "usr/local/bin/docker-entrypoint.sh");
    let mut closure = Closure::new();
    add_programs(&mut layer, &mut closure, &programs)?;
    add_libraries(&mut layer, &closure)?;
    Ok(image(
        &layer,
        binaries,
        "rpm",
        "/usr/local/bin/docker-entrypoint.sh",
    ))
}

/// Builds the image that contains only Valkey.
pub(super) fn hardened(binaries: &Binaries) -> Result<NewImage, StandInError> {
    let mut layer = base();
    layer.file("/usr/local/bin/docker-entrypoint", 0o755, NATIVE_ENTRYPOINT);
    let mut closure = Closure::new();
    closure.add(Path::new("docker-entrypoint"), NATIVE_ENTRYPOINT)?;
    add_programs(&mut layer, &mut closure, &valkey(binaries))?;
    add_libraries(&mut layer, &closure)?;
    Ok(image(
        &layer,
        binaries,
        "hardened",
        "/usr/local/bin/docker-entrypoint",
    ))
}

fn valkey(binaries: &Binaries) -> BTreeMap<String, PathBuf> {
    BTreeMap::from([
        ("valkey-server".to_owned(), binaries.server.clone()),
        ("valkey-cli".to_owned(), binaries.cli.clone()),
    ])
}

/// Returns the base of both images: folders, users, and the layout in which `/bin` is `/usr/bin`.
fn base() -> LayerBuilder {
    let mut layer = LayerBuilder::new();
    for (link, target) in [
        ("/bin", "usr/bin"),
        ("/sbin", "usr/sbin"),
        ("/lib", "usr/lib"),
        ("/lib64", "usr/lib64"),
    ] {
        layer
            .symlink(link, target)
            .folder(Path::new("/").join(target), 0o755, 0);
    }
    for folder in ["/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var"] {
        layer.folder(folder, 0o755, 0);
    }
    layer.folder("/tmp", 0o1777, 0);
    layer
        .folder("/data", 0o755, VALKEY_ID)
        .folder("/run/valkey", 0o755, VALKEY_ID);
    layer
        .file("/etc/passwd", 0o644, PASSWD)
        .file("/etc/group", 0o644, GROUP);
    layer.file("/etc/nsswitch.conf", 0o644, NSSWITCH);
    layer.file("/etc/valkey/valkey.conf", 0o644, VALKEY_CONF);
    layer
}

/// Adds programs under the names they are called by, and records their dependencies.
fn add_programs(
    layer: &mut LayerBuilder,
    closure: &mut Closure,
    programs: &BTreeMap<String, PathBuf>,
) -> Result<(), StandInError> {
    // Several names of one file (busybox, or coreutils in one binary) stay one file.
    let mut first_name: HashMap<&Path, &str> = HashMap::new();
    for (name, program) in programs {
        let folder = if name.starts_with("valkey-") {
            "/usr/local/bin"
        } else {
            "/usr/bin"
        };
        let to = Path::new(folder).join(name);
        if let Some(first) = first_name.get(program.as_path()) {
            layer.symlink(to, first);
            continue;
        }
        first_name.insert(program, name);
        let content = fs::read(program).doing("read", program)?;
        closure.add(program, &content)?;
        layer.file(to, 0o755, content);
    }
    Ok(())
}

/// Adds all libraries to the C library's own folder, which the loader always searches.
fn add_libraries(layer: &mut LayerBuilder, closure: &Closure) -> Result<(), StandInError> {
    for interpreter in &closure.interpreters {
        let content = fs::read(interpreter).doing("read", interpreter)?;
        layer.file(without_links(interpreter), 0o755, content);
    }
    let c_library = closure
        .libraries
        .get("libc.so.6")
        .or_else(|| closure.libraries.values().next());
    let Some(folder) = c_library.and_then(|path| path.canonicalize().ok()?.parent().map(Path::to_owned))
    else {
        return Ok(());
    };
    for (name, path) in &closure.libraries {
        let to = without_links(&folder.join(name));
        if !layer.contains(&to) {
            layer.file(to, 0o755, fs::read(path).doing("read", path)?);
        }
    }
    Ok(())
}

/// Returns the real path in an image, where `/lib`, `/lib64`, `/bin` and `/sbin` link into `/usr`.
fn without_links(path: &Path) -> PathBuf {
    let first = path.components().find_map(|c| {
        if let Component::Normal(name) = c {
            name.to_str()
        } else {
            None
        }
    });
    match first {
        Some("lib" | "lib64" | "bin" | "sbin") => {
            Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path))
        }
        _ => path.to_owned(),
    }
}

fn image(layer: &LayerBuilder, binaries: &Binaries, variant: &str, entrypoint: &str) -> NewImage {
    let mut config = Config::default();
    config.set_env(Some(vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    ]));
    config.set_entrypoint(Some(vec![entrypoint.to_owned()]));
    config.set_cmd(Some(vec!["valkey-server".to_owned()]));
    config.set_working_dir(Some("/data".to_owned()));
    config.set_exposed_ports(Some(vec!["6379/tcp".to_owned()]));
    config.set_volumes(Some(vec!["/data".to_owned()]));
    config.set_labels(Some(labels(binaries, variant)));
    let mut image = ImageConfiguration::default();
    image.set_architecture(Arch::default());
    image.set_os(Os::Linux);
    image.set_config(Some(config));
    let tar = layer
        .to_tar()
        .expect("names and sizes of a stand-in fit a tar archive");
    NewImage::new(image, vec![tar])
}

fn labels(binaries: &Binaries, variant: &str) -> HashMap<String, String> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    HashMap::from([
        label(STAND_IN_LABEL, variant),
        label("org.opencontainers.image.title", "Stand-in for perconalab/valkey"),
        label(
            "org.opencontainers.image.description",
            "Valkey behind the chart's entrypoint contract, built by the end-to-end suite. Not a Percona image.",
        ),
        label("org.opencontainers.image.version", &binaries.server_version),
        label(BUILT_FROM_LABEL, &binaries.origin),
    ])
}
