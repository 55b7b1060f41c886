//! An image with this machine's shell, a few of its tools, and their libraries.

use std::io;
use std::path::Path;
use std::process::Command;

use embedded_cluster::images::{ImageStore, LayerBuilder, NewImage};
use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder};

/// The name of the image.
pub(crate) const NAME: &str = "docker.io/test/tools:1";

const TOOLS: [&str; 15] = [
    "sh", "cat", "sleep", "id", "true", "grep", "hostname", "touch", "stat", "tr", "rm", "perl", "pwd",
    "test", "ls",
];

/// Adds the image to a new store in `store`.
pub(crate) fn add(store: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut layer = LayerBuilder::new();
    for folder in ["tmp", "data"] {
        layer.folder(folder, 0o1777, 0);
    }
    layer.folder("kept", 0o777, 999);
    layer.file("kept/inside", 0o644, "of the image\n");
    layer.file(
        "etc/passwd",
        0o644,
        "root:x:0:0::/root:/bin/sh\nvalkey:x:999:999::/data:/bin/sh\n",
    );
    layer.file("etc/group", 0o644, "root:x:0:\nvalkey:x:999:\n");
    for tool in TOOLS {
        let path = which(tool)?;
        layer.file(format!("bin/{tool}"), 0o755, std::fs::read(&path)?);
        for library in libraries(&path)? {
            layer.file(library.trim_start_matches('/'), 0o755, std::fs::read(&library)?);
        }
    }
    for module in perl_modules()? {
        layer.file(module.trim_start_matches('/'), 0o644, std::fs::read(&module)?);
    }
    let config = ConfigBuilder::default()
        .env(vec!["PATH=/bin".to_owned()])
        .volumes(vec!["/kept".to_owned(), "/fresh".to_owned()])
        .build()?;
    let image = ImageConfigurationBuilder::default().config(config).build()?;
    let mut layers = vec![layer.to_tar()?];
    if has_device() {
        layers.push(device()?);
    }
    ImageStore::open(store)?.add(NAME, &NewImage::new(image, layers))?;
    Ok(())
}

/// Returns true if the image has the device `/data/zero`, which only root can unpack.
pub(crate) fn has_device() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Builds a layer with a device that reads as zeros, accessible to everyone.
fn device() -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Char);
    header.set_mode(0o666);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000);
    for id in [header.set_device_major(1), header.set_device_minor(5)] {
        id?;
    }
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "data/zero", io::empty())?;
    tar.into_inner()
}

fn which(tool: &str) -> io::Result<String> {
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("readlink -f $(command -v -p {tool} | grep / || echo /usr/bin/{tool})"),
        ])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn libraries(path: &str) -> io::Result<Vec<String>> {
    let output = Command::new("ldd").arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect())
}

/// Returns the files that a small network program in Perl loads.
fn perl_modules() -> io::Result<Vec<String>> {
    let program = "use IO::Socket::INET; print join(\"\\n\", values %INC), \"\\n\"; \
        use DynaLoader; print join(\"\\n\", @DynaLoader::dl_shared_objects), \"\\n\"";
    let output = Command::new("perl").args(["-e", program]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter(|line| line.starts_with('/'))
        .map(str::to_owned)
        .collect())
}
