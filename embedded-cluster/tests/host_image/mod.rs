//! An image with this machine's shell and a few of its tools, libraries included.

use std::io;
use std::path::Path;
use std::process::Command;

use embedded_cluster::images::{ImageStore, LayerBuilder, NewImage};
use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder};

/// What the image is called.
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
        .build()?;
    let image = ImageConfigurationBuilder::default().config(config).build()?;
    ImageStore::open(store)?.add(NAME, &NewImage::new(image, vec![layer.to_tar()?]))?;
    Ok(())
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

/// The files that a small network program in perl loads.
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
