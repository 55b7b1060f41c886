//! What the controllers need to know of the cluster they run in.

use std::path::PathBuf;

/// How to run the controllers.
#[derive(Clone)]
pub struct ControllersConfig {
    /// A client that may do everything.
    pub client: kube::Client,
    /// Where provisioned volumes live: one directory per PersistentVolume, named like it.
    pub volumes_dir: PathBuf,
    /// The API server's certificate authority in PEM, published as `kube-root-ca.crt` in every namespace.
    pub ca_certificate: String,
}
