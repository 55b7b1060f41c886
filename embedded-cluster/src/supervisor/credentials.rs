//! The certificate authority of a run, the API's server certificate, and the administrator's token.
//!
//! All of them are created in memory at each start and vanish with the process.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Names and addresses of the API: from the host, and from pods through the `kubernetes` Service.
const SERVER_NAMES: [&str; 5] = [
    "127.0.0.1",
    "localhost",
    "10.96.0.1",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Certificates and tokens with which clients and the API server authenticate each other.
pub(super) struct Credentials {
    pub(super) certificate_authority: String,
    pub(super) token: String,
    pub(super) tls: rustls::ServerConfig,
}

/// The reasons why credentials could not be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
}

impl Credentials {
    /// Generates a fresh set.
    pub(super) fn generate(cluster: &str) -> Result<Self, CredentialsError> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority
            .distinguished_name
            .push(DnType::CommonName, format!("{cluster} authority"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_authority = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let server_key = KeyPair::generate()?;
        let mut server = CertificateParams::new(SERVER_NAMES.map(String::from))?;
        server
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = server.signed_by(&server_key, &issuer)?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

        // Two version 4 UUIDs: 244 random bits.
        let token = format!(
            "{}{}",
            uuid::Uuid::new_v4().simple(),
            uuid::Uuid::new_v4().simple()
        );
        Ok(Self {
            certificate_authority,
            token,
            tls,
        })
    }
}
