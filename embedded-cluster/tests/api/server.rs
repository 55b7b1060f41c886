//! A server on loopback with a generated certificate, for the tests of the API.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use embedded_cluster::api::{ApiConfig, ApiServer, Identity, Token};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

/// The administrator's token.
pub(crate) const TOKEN: &str = "a-token-for-tests";

/// A running server; it stops when this is dropped.
pub(crate) struct Server {
    pub(crate) api: Arc<ApiServer>,
    pub(crate) address: SocketAddr,
    pub(crate) certificate_pem: String,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(Vec::new())
    }

    pub(crate) fn start_with(more_tokens: Vec<Token>) -> Self {
        // Fails when another test of this process installed a provider first, which is equally
        // good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut tokens = vec![Token {
            secret: TOKEN.to_owned(),
            identity: Identity::admin("admin"),
        }];
        tokens.extend(more_tokens);
        let api = ApiServer::new(ApiConfig {
            tokens,
            ..ApiConfig::default()
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a good pair");
        let serving = Arc::clone(&api).serve(listener, tls);
        let task = tokio::spawn(async move { serving.await.expect("serving") });
        Self {
            api,
            address,
            certificate_pem: made.cert.pem(),
            task,
        }
    }

    /// Returns a kubeconfig for this server.
    pub(crate) fn kubeconfig(&self, token: &str) -> Kubeconfig {
        let value = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "embedded",
            "clusters": [{"name": "embedded", "cluster": {"server": format!("https://{}", self.address),
                "certificate-authority-data": base64(&self.certificate_pem)}}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": "admin"}}],
        });
        serde_json::from_value(value).expect("a kubeconfig")
    }

    /// Returns a client over TLS.
    pub(crate) fn client(&self) -> kube::Client {
        self.client_with(TOKEN)
    }

    pub(crate) fn client_with(&self, token: &str) -> kube::Client {
        let kubeconfig = self.kubeconfig(token);
        let config = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(kube::Config::from_custom_kubeconfig(
                kubeconfig,
                &KubeConfigOptions::default(),
            ))
        });
        kube::Client::try_from(config.expect("a client configuration")).expect("a client")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Parses a typed object from JSON.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the JSON is of that type")
}

/// Returns the HTTP code of a refusal.
#[track_caller]
pub(crate) fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Builds a pod with one container.
pub(crate) fn pod(name: &str) -> Pod {
    from_json(json!({"metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "example/image:1"}]}}))
}

/// Builds a StatefulSet with two replicas.
pub(crate) fn stateful_set(name: &str) -> StatefulSet {
    from_json(json!({"metadata": {"name": name}, "spec": {
        "replicas": 2, "serviceName": name,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": "example/image:1"}]}}}}))
}

/// Creates a pod and marks it as running on a node.
pub(crate) async fn running_pod(client: &kube::Client, name: &str) {
    use kube::api::{Api, Patch, PatchParams, PostParams};
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let mut pod = pod(name);
    pod.spec.as_mut().expect("spec").node_name = Some("node".to_owned());
    api.create(&PostParams::default(), &pod).await.expect("created");
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.9",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0, "image": "i", "imageID": "",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("patched");
}
