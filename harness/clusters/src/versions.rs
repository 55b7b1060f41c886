//! Supported Kubernetes versions, and the image of each provider. The only place for these pins.

use std::fmt;
use std::str::FromStr;

/// The repository of kind's node images.
const NODE_REPOSITORY: &str = "kindest/node";

/// The repository of k3s' images.
pub const K3S_REPOSITORY: &str = "rancher/k3s";

/// The default minor version of k3s; kind has its own default. The newest but one is the default,
/// so that its images have been in use for a while.
const K3S_DEFAULT: &str = "v1.36";

/// The first minor version where kubelet refuses to run on cgroup v1 (KEP-4569).
pub const NEEDS_CGROUP_V2: u32 = 35;

/// One minor version, with its pinned images.
struct Pin {
    minor: &'static str,
    patch: &'static str,
    /// The node image's digest from the release notes of kind v0.33.0. Only the digest selects the
    /// image that was built for that kind.
    node_digest: &'static str,
    /// The tag of k3s. Its releases publish no digests, so none is pinned.
    k3s: &'static str,
}

/// The versions that Kubernetes maintains, and the one before them.
const PINS: [Pin; 4] = [
    Pin {
        minor: "v1.34",
        patch: "v1.34.11",
        node_digest: "sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d",
        k3s: "v1.34.9-k3s1",
    },
    Pin {
        minor: "v1.35",
        patch: "v1.35.8",
        node_digest: "sha256:07b2536e30b803ed61d1677a79df6115f798ce64c80f9e22f6ed45afd09323c0",
        k3s: "v1.35.8-k3s1",
    },
    Pin {
        minor: "v1.36",
        patch: "v1.36.4",
        node_digest: "sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed",
        k3s: "v1.36.4-k3s1",
    },
    Pin {
        minor: "v1.37",
        patch: "v1.37.0",
        node_digest: "sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5",
        k3s: "v1.37.1-k3s1",
    },
];

/// A version as a user types it: `v1.36` selects the pinned image, `v1.36.2` is taken literally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeVersion {
    text: String,
    minor: u32,
}

/// A text that is not a version, or not a known one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeVersionError {
    /// The text does not look like a version.
    #[error("a version is vX.Y, one of {}, or a full vX.Y.Z", known())]
    Malformed,
    /// No image is pinned for that minor version.
    #[error(
        "no image is known for {0}; known versions are {all}; a full version (vX.Y.Z) is used as it is",
        all = known()
    )]
    Unknown(String),
}

impl FromStr for KubeVersion {
    type Err = KubeVersionError;

    fn from_str(text: &str) -> Result<Self, KubeVersionError> {
        let numbers: Option<Vec<u32>> = text
            .strip_prefix('v')
            .and_then(|rest| rest.split('.').map(|number| number.parse().ok()).collect());
        let version = |minor| Self {
            text: text.to_owned(),
            minor,
        };
        match numbers.as_deref() {
            Some(&[_, minor, _]) => Ok(version(minor)),
            Some(&[_, minor]) if pin(text).is_some() => Ok(version(minor)),
            Some([_, _]) => Err(KubeVersionError::Unknown(text.to_owned())),
            _ => Err(KubeVersionError::Malformed),
        }
    }
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl KubeVersion {
    /// Returns the default version of k3s.
    pub fn default_of_k3s() -> Self {
        K3S_DEFAULT.parse().expect("the default is one of the pins")
    }

    /// Returns true if the kubelet of this version refuses to run on cgroup v1.
    pub fn needs_cgroup_v2(&self) -> bool {
        self.minor >= NEEDS_CGROUP_V2
    }

    /// Returns the node image for `kind create cluster --image`. An unpinned patch version has no
    /// digest.
    pub fn node_image(&self) -> String {
        let pin = pin(&self.text).or_else(|| PINS.iter().find(|pin| pin.patch == self.text));
        pin.map_or_else(
            || format!("{NODE_REPOSITORY}:{self}"),
            |pin| format!("{NODE_REPOSITORY}:{}@{}", pin.patch, pin.node_digest),
        )
    }

    /// Returns the tag of the k3s image. Each version of Kubernetes has a first build, `-k3s1`.
    pub fn k3s_tag(&self) -> String {
        pin(&self.text).map_or_else(|| format!("{self}-k3s1"), |pin| pin.k3s.to_owned())
    }
}

/// Lists the minor versions with pinned images.
pub fn minors() -> impl Iterator<Item = &'static str> {
    PINS.iter().map(|pin| pin.minor)
}

fn pin(minor: &str) -> Option<&'static Pin> {
    PINS.iter().find(|pin| pin.minor == minor)
}

fn known() -> String {
    minors().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> KubeVersion {
        text.parse().expect("the test asks for a version")
    }

    #[test]
    fn a_minor_version_is_what_is_pinned_for_it() {
        let image = version("v1.36").node_image();
        assert!(image.starts_with("kindest/node:v1.36.4@sha256:099e"), "{image}");
        assert_eq!(version("v1.36.4").node_image(), image);
        assert_eq!(version("v1.36").k3s_tag(), "v1.36.4-k3s1");
        assert!(version("v1.36").needs_cgroup_v2() && !version("v1.34.1").needs_cgroup_v2());
    }

    #[test]
    fn a_whole_version_is_taken_as_it_is() {
        assert_eq!(version("v1.33.1").node_image(), "kindest/node:v1.33.1");
        assert_eq!(version("v1.33.1").k3s_tag(), "v1.33.1-k3s1");
    }

    #[test]
    fn what_is_not_known_is_answered_with_what_is() {
        let error = |text: &str| text.parse::<KubeVersion>().unwrap_err().to_string();
        assert_eq!(
            error("v1.20"),
            "no image is known for v1.20; known versions are v1.34, v1.35, v1.36, v1.37; a full version (vX.Y.Z) is \
             used as it is"
        );
        for malformed in ["1.36", "v1", "v1.x", "latest", "v1.36.4-k3s1"] {
            assert!(
                error(malformed).starts_with("a version is vX.Y, one of v1.34"),
                "{malformed}"
            );
        }
    }

    #[test]
    fn every_pin_is_of_its_own_minor_version_and_has_a_digest() {
        for pin in &PINS {
            let of_minor = format!("{}.", pin.minor);
            assert!(
                pin.patch.starts_with(&of_minor) && pin.k3s.starts_with(&of_minor),
                "{}",
                pin.minor
            );
            let digest = pin
                .node_digest
                .strip_prefix("sha256:")
                .expect("a digest is of SHA-256");
            assert!(
                digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{}",
                pin.minor
            );
        }
        let default = KubeVersion::default_of_k3s();
        assert!(minors().any(|minor| minor == default.to_string()));
    }
}
