//! Tests of pulls from a registry. A small registry in this test listens on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use embedded_cluster::images::{Credentials, ImageStore, LayerBuilder, NewImage, PullError};
use oci_spec::image::{Arch, ImageConfiguration};
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The content of the registry, and the requests that it received.
#[derive(Default)]
struct Registry {
    /// Manifests by tag or digest: media type and content.
    manifests: Mutex<BTreeMap<String, (&'static str, Vec<u8>)>>,
    blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    blobs_served: AtomicUsize,
    locked: bool,
}

impl Registry {
    /// Starts the registry and returns its host and port.
    async fn start(self: Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v2/", get(root))
            .route("/v2/a/b/manifests/{name}", get(manifest))
            .route("/v2/a/b/blobs/{digest}", get(blob))
            .fallback(|| async { error(StatusCode::NOT_FOUND, "NAME_UNKNOWN") })
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address.to_string()
    }

    /// Puts an image of a store into the registry under a tag.
    fn publish(&self, store: &ImageStore, digest: &str, tag: &str) {
        let read = |digest: &str| fs::read(store.dir().join("blobs/sha256").join(&digest[7..])).unwrap();
        let text = read(digest);
        let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let parts = manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .chain([&manifest["config"]]);
        for part in parts {
            let digest = part["digest"].as_str().unwrap();
            self.blobs.lock().unwrap().insert(digest.to_owned(), read(digest));
        }
        let mut manifests = self.manifests.lock().unwrap();
        manifests.insert(tag.to_owned(), (MANIFEST, text.clone()));
        manifests.insert(digest.to_owned(), (MANIFEST, text));
    }
}

async fn root(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    if registry.locked && !headers.contains_key(header::AUTHORIZATION) {
        let mut response = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        let challenge = "Basic realm=\"test\"".parse().unwrap();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return response;
    }
    StatusCode::OK.into_response()
}

async fn manifest(
    State(registry): State<Arc<Registry>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    // The Base64 encoding of "me:secret".
    if registry.locked
        && headers
            .get(header::AUTHORIZATION)
            .is_none_or(|a| a != "Basic bWU6c2VjcmV0")
    {
        return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
    }
    match registry.manifests.lock().unwrap().get(&name) {
        Some((media_type, content)) => {
            ([(header::CONTENT_TYPE, *media_type)], content.clone()).into_response()
        }
        None if name == "broken" => error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
    }
}

async fn blob(State(registry): State<Arc<Registry>>, Path(digest): Path<String>) -> Response {
    registry.blobs_served.fetch_add(1, Ordering::Relaxed);
    match registry.blobs.lock().unwrap().get(&digest) {
        Some(content) => content.clone().into_response(),
        None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
    }
}

fn error(status: StatusCode, code: &str) -> Response {
    (
        status,
        axum::Json(json!({ "errors": [{ "code": code, "message": "no" }] })),
    )
        .into_response()
}

fn image(arch: Arch, content: &str) -> NewImage {
    let mut layer = LayerBuilder::new();
    layer.file("/file", 0o644, content);
    let mut config = ImageConfiguration::default();
    config.set_architecture(arch);
    NewImage::new(config, vec![layer.to_tar().unwrap()])
}

fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    (dir, store)
}

#[tokio::test]
async fn an_image_arrives_whole_and_only_once() {
    let (_origin_dir, origin) = store();
    let registry = Arc::new(Registry::default());
    let original = origin.add("a/b:1", &image(Arch::default(), "pulled")).unwrap();
    registry.publish(&origin, &original.digest, "1");
    let host = registry.clone().start().await;

    let (_dir, store) = store();
    let name = format!("{host}/a/b:1");
    let pulled = store.pull(&name, &Credentials::anonymous()).await.unwrap();
    assert_eq!(pulled.digest, original.digest);
    assert_eq!(fs::read_to_string(pulled.rootfs.join("file")).unwrap(), "pulled");
    assert_eq!(store.get(&name).unwrap().unwrap().digest, original.digest);

    let served = registry.blobs_served.load(Ordering::Relaxed);
    store.pull(&name, &Credentials::anonymous()).await.unwrap();
    assert_eq!(
        registry.blobs_served.load(Ordering::Relaxed),
        served,
        "blobs are not pulled twice"
    );

    let by_digest = format!("{host}/a/b@{}", original.digest);
    assert_eq!(
        store
            .pull(&by_digest, &Credentials::anonymous())
            .await
            .unwrap()
            .digest,
        original.digest
    );
}

#[tokio::test]
async fn a_damaged_blob_is_pulled_again() {
    let (_origin_dir, origin) = store();
    let registry = Arc::new(Registry::default());
    let original = origin.add("a/b:1", &image(Arch::default(), "pulled")).unwrap();
    registry.publish(&origin, &original.digest, "1");
    let name = format!("{}/a/b:1", registry.clone().start().await);
    let (_dir, store) = store();
    store.pull(&name, &Credentials::anonymous()).await.unwrap();
    for blob in fs::read_dir(store.dir().join("blobs/sha256")).unwrap() {
        fs::write(blob.unwrap().path(), "damaged").unwrap();
    }
    assert!(store.get(&name).unwrap_err().is_damage());
    store.pull(&name, &Credentials::anonymous()).await.unwrap();
    assert_eq!(store.get(&name).unwrap().unwrap().digest, original.digest);
}

#[tokio::test]
async fn a_multi_platform_image_gives_the_one_for_this_machine() {
    let (_origin_dir, origin) = store();
    let registry = Arc::new(Registry::default());
    let mut entries = Vec::new();
    for (arch, content) in [(Arch::s390x, "theirs"), (Arch::default(), "ours")] {
        let image = origin
            .add(&format!("a/b:{arch}"), &image(arch.clone(), content))
            .unwrap();
        registry.publish(&origin, &image.digest, content);
        let size = registry.manifests.lock().unwrap()[content].1.len();
        entries.push(
            json!({ "mediaType": MANIFEST, "digest": image.digest, "size": size,
            "platform": { "os": "linux", "architecture": arch } }),
        );
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    registry
        .manifests
        .lock()
        .unwrap()
        .insert("1".to_owned(), (INDEX, index.to_string().into_bytes()));
    let host = registry.start().await;

    let (_dir, store) = store();
    let pulled = store
        .pull(&format!("{host}/a/b:1"), &Credentials::anonymous())
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(pulled.rootfs.join("file")).unwrap(), "ours");
}

#[tokio::test]
async fn a_registry_that_answers_is_not_out_of_reach() {
    let host = Arc::new(Registry::default()).start().await;
    let (_dir, store) = store();
    let missing = store
        .pull(&format!("{host}/a/b:missing"), &Credentials::anonymous())
        .await
        .unwrap_err();
    assert!(matches!(missing, PullError::NotFound { .. }), "{missing}");
    assert!(missing.to_string().contains("a/b:missing"), "{missing}");
    let missing = store
        .pull(&format!("{host}/x/y:1"), &Credentials::anonymous())
        .await
        .unwrap_err();
    assert!(matches!(missing, PullError::NotFound { .. }), "{missing}");
    let broken = store
        .pull(&format!("{host}/a/b:broken"), &Credentials::anonymous())
        .await
        .unwrap_err();
    assert!(matches!(broken, PullError::Registry { .. }), "{broken}");
    assert!(store.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_with_the_wrong_content_is_refused() {
    let (_origin_dir, origin) = store();
    let registry = Arc::new(Registry::default());
    let original = origin.add("a/b:1", &image(Arch::default(), "pulled")).unwrap();
    registry.publish(&origin, &original.digest, "1");
    for content in registry.blobs.lock().unwrap().values_mut() {
        content.push(b'!');
    }
    let host = registry.start().await;
    let (_dir, store) = store();
    let error = store
        .pull(&format!("{host}/a/b:1"), &Credentials::anonymous())
        .await
        .unwrap_err();
    assert!(matches!(error, PullError::Registry { .. }), "{error}");
    assert!(store.get(&format!("{host}/a/b:1")).unwrap().is_none());
}

#[tokio::test]
async fn a_locked_registry_opens_to_who_has_logged_in() {
    let (_origin_dir, origin) = store();
    let registry = Arc::new(Registry {
        locked: true,
        ..Registry::default()
    });
    let original = origin.add("a/b:1", &image(Arch::default(), "secret")).unwrap();
    registry.publish(&origin, &original.digest, "1");
    let host = registry.start().await;
    let (_dir, store) = store();
    let name = format!("{host}/a/b:1");

    let error = store.pull(&name, &Credentials::anonymous()).await.unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { .. }), "{error}");

    let config = json!({ "auths": { host: { "auth": "bWU6c2VjcmV0" } } }).to_string();
    let credentials = Credentials::of_docker_config(config.as_bytes());
    assert_eq!(
        store.pull(&name, &credentials).await.unwrap().digest,
        original.digest
    );
}

/// Variable that marks the child process of [`a_credential_helper_is_asked`]. The test needs a
/// child, because PATH, where helpers are found, applies to a whole process.
const HELPED: &str = "IMAGE_PULL_TEST_HELPED";

#[tokio::test]
async fn a_credential_helper_is_asked() {
    if std::env::var_os(HELPED).is_some() {
        return pull_with_helper().await;
    }
    let programs = tempfile::tempdir().unwrap();
    let helper = programs.path().join("docker-credential-test");
    std::fs::write(
        &helper,
        "#!/bin/sh\nread -r _\necho '{\"Username\": \"me\", \"Secret\": \"secret\"}'\n",
    )
    .unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        programs.path().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_credential_helper_is_asked", "--nocapture"])
        .env("PATH", path)
        .env(HELPED, "1")
        .output()
        .await
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn pull_with_helper() {
    let (_origin_dir, origin) = store();
    let registry = Arc::new(Registry {
        locked: true,
        ..Registry::default()
    });
    let original = origin.add("a/b:1", &image(Arch::default(), "secret")).unwrap();
    registry.publish(&origin, &original.digest, "1");
    let host = registry.start().await;
    let (_dir, store) = store();
    let config = json!({ "credHelpers": { &host: "test" } }).to_string();
    let credentials = Credentials::of_docker_config(config.as_bytes());
    let pulled = store.pull(&format!("{host}/a/b:1"), &credentials).await.unwrap();
    assert_eq!(pulled.digest, original.digest);
}

#[tokio::test]
async fn no_network_is_known_within_seconds() {
    let (_dir, store) = store();
    // A port without a listener, an unknown host, and an address that never answers (TEST-NET-1).
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for host in [
        closed.to_string(),
        "registry.invalid".to_owned(),
        "192.0.2.1:5000".to_owned(),
    ] {
        let start = Instant::now();
        let error = store
            .pull(&format!("{host}/a/b:1"), &Credentials::anonymous())
            .await
            .unwrap_err();
        let took = start.elapsed();
        assert!(matches!(error, PullError::NoNetwork { .. }), "{host}: {error:?}");
        assert!(error.to_string().contains(&host), "{error}");
        println!("{host}: {took:?}");
        assert!(took.as_secs() < 5, "{host} took {took:?}");
    }
}
