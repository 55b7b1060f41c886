//! A single Valkey in a container with the stand-in image: connection failures, one node's view,
//! the ledger and the load. Ignored, with the reason, without a container engine.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use embedded_cluster::images::ImageStore;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use harness::images::stand_in;
use harness::secret::Password;
use harness::valkey::ledger::{Ledger, LedgerServers, LedgerSpec, Mix, VerifyOptions, WriteOptions};
use harness::valkey::load::report::LoadBudget;
use harness::valkey::load::{Load, LoadOptions};
use harness::valkey::slots::SLOT_COUNT;
use harness::valkey::{BoxedStream, ConnectError, Dialer, connect, dial_and_connect, observe_node};
use jiff::Timestamp;
use needs::needs;
use testcontainers::bollard::body_full;
use testcontainers::bollard::errors::Error as DockerError;
use testcontainers::bollard::query_parameters::{ImportImageOptions, RemoveImageOptionsBuilder};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::net::TcpStream;

const PASSWORD: &str = "container-secret";

/// The name of the only server.
const POD: &str = "valkey-0";

fn password() -> Password {
    Password::new(PASSWORD)
}

/// The test's own image in the engine, removed on drop, even if the test fails.
struct Image(String);

impl Image {
    /// Builds the stand-in and gives it to the engine, as `docker load` does.
    async fn load() -> Self {
        let binaries = harness::images::host_binaries().expect("this test needs Valkey's programs");
        let image = stand_in::build("perconalab/valkey:1", &binaries).expect("the stand-in can be built");
        let name = format!("valkey-e2e-test/{}:rpm", uuid::Uuid::new_v4());
        let folder = tempfile::tempdir().expect("a temporary directory");
        let store = ImageStore::open(folder.path().join("store")).expect("a store in an empty folder");
        store.add(&name, &image).expect("the store takes it");
        let archive = folder.path().join("image.tar");
        store
            .export_archive(&[&name], &archive)
            .expect("the store has it");
        let archive = std::fs::read(archive).expect("it was just written");
        // Created before the load, so that the image is removed whatever happens.
        let image = Self(name);
        let docker = docker_client_instance()
            .await
            .expect("the engine answered before");
        let mut loading = docker.import_image(ImportImageOptions::default(), body_full(archive.into()), None);
        while let Some(step) = loading.next().await {
            step.expect("the engine takes the archive");
        }
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let name = self.0.clone();
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let docker = docker_client_instance().await.map_err(io::Error::other)?;
                let options = RemoveImageOptionsBuilder::new().force(true).build();
                docker
                    .remove_image(&name, Some(options), None)
                    .await
                    .map_err(io::Error::other)
            })
        });
        let removed = removed.join().expect("removing does not panic");
        if let Err(error) = removed {
            eprintln!("image {} could not be removed: {error}", self.0);
        }
    }
}

/// A running server. Fields drop in order: the container before its image.
struct Server {
    container: ContainerAsync<GenericImage>,
    image: Image,
}

impl Server {
    /// Starts a server the way the chart does. It has the chart's configuration, the password in
    /// its environment, and a user without privileges.
    async fn start() -> Self {
        let image = Image::load().await;
        let (name, tag) = image.0.rsplit_once(':').expect("the test's own name has a tag");
        let container = GenericImage::new(name, tag)
            .with_exposed_port(6379.tcp())
            .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
            .with_cmd(["/etc/valkey/valkey.conf"])
            .with_env_var("VALKEY_PASSWORD", PASSWORD)
            .with_user("999:999")
            .with_cap_drop("ALL")
            .with_readonly_rootfs(true)
            .with_mount(testcontainers::core::Mount::tmpfs_mount("/data").with_mode(0o1777))
            .start();
        let container = container.await.expect("a server starts");
        Self { container, image }
    }

    async fn dialer(&self) -> Published {
        let host = self.container.get_host().await.expect("the engine is somewhere");
        let port = self.container.get_host_port_ipv4(6379.tcp()).await;
        Published(host.to_string(), port.expect("the port is published"))
    }

    async fn target(&self) -> LedgerServers {
        LedgerServers::new(
            Arc::new(self.dialer().await),
            Some(password()),
            vec![POD.to_owned()],
        )
    }
}

/// Dials the port that the engine has published on this machine.
#[derive(Clone)]
struct Published(String, u16);

impl Dialer for Published {
    fn dial<'a>(&'a self, _pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect((self.0.as_str(), self.1)).await?;
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

#[needs(docker, valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_needs_the_password_and_shows_the_nodes_view() {
    let server = Server::start().await;
    let dialer = server.dialer().await;
    let none = dial_and_connect(&dialer, POD, None).await;
    assert!(matches!(none, Err(ConnectError::NoAuth)), "{:?}", none.err());
    let wrong = Password::new("another");
    let wrong = dial_and_connect(&dialer, POD, Some(&wrong)).await;
    assert!(matches!(wrong, Err(ConnectError::WrongPass)), "{:?}", wrong.err());

    let stream = dialer.dial(POD).await.expect("it listens");
    let mut connection = connect(stream, Some(&password()))
        .await
        .expect("the password is right");
    let view = observe_node(POD, &mut connection)
        .await
        .expect("a server answers all questions");
    assert!(
        view.cluster_info.is_none(),
        "a standalone server has no cluster: {view:?}"
    );

    // A paused server is silent; a stopped one refuses connections.
    server.container.pause().await.expect("the engine pauses it");
    let short = Duration::from_millis(500);
    let stream = dialer.dial(POD).await.expect("the kernel still accepts");
    let silent = harness::valkey::connection::connect_within(stream, Some(&password()), short).await;
    assert!(
        matches!(silent, Err(ConnectError::Timeout(_))),
        "{:?}",
        silent.err()
    );
    server.container.unpause().await.expect("the engine continues it");
    server
        .container
        .stop_with_timeout(Some(1))
        .await
        .expect("the engine stops it");
    let gone = dial_and_connect(&dialer, POD, Some(&password())).await;
    assert!(matches!(gone, Err(ConnectError::Refused(_))), "{:?}", gone.err());
}

#[needs(docker, valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_accounts_for_every_key_and_names_a_deleted_one() {
    let server = Server::start().await;
    let target = server.target().await;
    let folder = tempfile::tempdir().expect("a temporary directory");
    let keys = u64::from(SLOT_COUNT);
    let spec = LedgerSpec {
        label: "led".to_owned(),
        seed: 42,
        keys,
        mix: Mix::Varied,
        base_ms: Timestamp::now().as_millisecond(),
    };
    let ledger = Ledger::create(folder.path(), spec).expect("an empty folder");
    let written = ledger
        .write(&target, &WriteOptions::default())
        .await
        .expect("the folder is ours");
    assert_eq!(written.acknowledged, keys, "{written:?}");
    let verified = ledger.verify(&target, &VerifyOptions::default()).await;
    assert_eq!(verified.violations(0), []);
    assert_eq!(verified.counts.values().sum::<u64>(), keys);

    let index = (0..keys).find(|&index| ledger.spec().shape(index).expires_ms.is_none());
    let taken = ledger.spec().key(index.expect("most keys do not expire"));
    let dialer = server.dialer().await;
    let mut connection = dial_and_connect(&dialer, POD, Some(&password()))
        .await
        .expect("it serves");
    let deleted: i64 = redis::cmd("DEL")
        .arg(&taken)
        .query_async(&mut connection)
        .await
        .expect("it serves");
    assert_eq!(deleted, 1);
    let violations = ledger
        .verify(&target, &VerifyOptions::default())
        .await
        .violations(0);
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert!(violations[0].to_string().contains(&taken), "{}", violations[0]);
}

#[needs(docker, valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_sees_how_long_the_server_was_silent_and_loses_nothing() {
    let server = Server::start().await;
    let dialer = Arc::new(server.dialer().await);
    let options = LoadOptions {
        // No replica could confirm writes.
        confirming_per_shard: 0,
        ..LoadOptions::default()
    };
    let load = Load::start(dialer, Some(password()), vec![POD.to_owned()], options)
        .await
        .expect("it serves");
    // The load measures time itself.
    let silence = Duration::from_millis(800);
    let pass = |time: Duration| tokio::time::sleep_until(tokio::time::Instant::now() + time);
    pass(Duration::from_millis(700)).await;
    server.container.pause().await.expect("the engine pauses it");
    pass(silence).await;
    server.container.unpause().await.expect("the engine continues it");
    pass(Duration::from_millis(700)).await;
    let report = load.stop().await;
    assert!(report.acknowledged() > 100, "{report:#?}");
    let (_, gap) = report.worst_gap().expect("one shard");
    assert!(gap >= silence, "{gap:?}");
    let lenient = LoadBudget {
        unconfirmed_losses: 0,
        longest_gap: Duration::from_secs(30),
    };
    assert_eq!(report.violations(&lenient), []);
}

#[needs(docker, valkey)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_test_that_fails() {
    let made = std::sync::Mutex::new(None);
    let failing = async {
        let server = Server::start().await;
        *made.lock().expect("nobody panics while holding it") =
            Some((server.container.id().to_owned(), server.image.0.clone()));
        panic!("as a test does that fails");
    };
    let ended = AssertUnwindSafe(failing).catch_unwind().await;
    assert!(ended.is_err());
    let (container, image) = made
        .into_inner()
        .expect("nobody panics while holding it")
        .expect("it had started");
    let docker = docker_client_instance()
        .await
        .expect("the engine answered before");
    let is_gone = |found: Option<DockerError>| {
        matches!(
            found,
            Some(DockerError::DockerResponseServerError { status_code: 404, .. })
        )
    };
    assert!(
        is_gone(docker.inspect_container(&container, None).await.err()),
        "{container} is left"
    );
    assert!(
        is_gone(docker.inspect_image(&image).await.err()),
        "{image} is left"
    );
}
