//! Settings of the controllers.

use std::path::PathBuf;

/// Options of the controllers.
#[derive(Clone)]
pub struct ControllersConfig {
    /// A client with unlimited permissions.
    pub client: kube::Client,
    /// The directory of provisioned volumes: one subdirectory per PersistentVolume, with its name.
    pub volumes_dir: PathBuf,
    /// The API server's certificate authority in PEM, published as `kube-root-ca.crt` in every
    /// namespace.
    pub ca_certificate: String,
}
