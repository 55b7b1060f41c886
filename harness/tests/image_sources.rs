//! `--image-source`: the image that a run gets, and its report about it.

use embedded_cluster::images::ImageStore;
use harness::images::{ImageSource, Origin, PrepareError, pins, prepare};
use needs::needs;

/// A repository with stand-ins. Without a network, Docker Hub and an unreachable registry look
/// alike. The tests therefore ask Docker Hub only where its answer does not matter.
const RPM: &str = "perconalab/valkey:9.0.3";
const HARDENED: &str = "perconalab/valkey:9.0.3-hardened";

fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    (dir, store)
}

#[needs(valkey)]
#[tokio::test]
async fn a_stand_in_says_what_it_is() {
    let (_dir, store) = store();
    let images = prepare(&store, &ImageSource::StandIn, &[RPM, HARDENED])
        .await
        .unwrap();
    for (image, reference) in images.iter().zip([RPM, HARDENED]) {
        assert_eq!(
            (image.reference.as_str(), image.source, image.stand_in),
            (reference, Origin::StandIn, true)
        );
        assert!(image.server_version.as_ref().unwrap().contains('.'), "{image:?}");
        assert!(image.built_from.is_some() && image.reason.is_none(), "{image:?}");
        assert_eq!(store.get(reference).unwrap().unwrap().digest, image.digest);
    }
    let json = serde_json::to_value(&images[0]).unwrap();
    assert_eq!(
        (&json["source"], &json["stand_in"]),
        (&"stand-in".into(), &true.into())
    );
    assert_eq!(
        serde_json::from_value::<harness::images::Provenance>(json).unwrap(),
        images[0]
    );
}

#[needs(valkey)]
#[tokio::test]
async fn an_archive_is_used_and_a_stand_in_never_takes_its_name() {
    let (dir, origin) = store();
    let real = origin.add(RPM, &real_image()).unwrap();
    let archive = dir.path().join("real.tar");
    origin.export_archive(&[RPM], &archive).unwrap();

    let (_dir, store) = store();
    let source = ImageSource::Archive(archive.clone());
    let images = prepare(&store, &source, &[RPM]).await.unwrap();
    assert_eq!((images[0].source, images[0].stand_in), (Origin::Archive, false));
    assert_eq!(images[0].digest, real.digest);

    // A run on a stand-in keeps the name on the real image, and is pinned to the stand-in's digest.
    let stand_in = prepare(&store, &ImageSource::StandIn, &[RPM]).await.unwrap();
    assert_eq!(store.get(RPM).unwrap().unwrap().digest, real.digest);
    let pinned = store.clone().pinned(pins(&stand_in));
    assert_eq!(pinned.get(RPM).unwrap().unwrap().digest, stand_in[0].digest);

    // An image in the store is used without asking a registry.
    let images = prepare(&store, &ImageSource::Auto, &[RPM]).await.unwrap();
    assert_eq!(
        (images[0].source, &images[0].digest),
        (Origin::Store, &real.digest)
    );

    let error = prepare(&store, &source, &[RPM, HARDENED]).await.unwrap_err();
    assert!(
        matches!(&error, PrepareError::NotInArchive { reference, .. } if reference == HARDENED),
        "{error}"
    );
    assert!(error.to_string().contains("perconalab/valkey:9.0.3"), "{error}");
}

#[tokio::test]
async fn what_has_no_stand_in_is_said() {
    let (_dir, store) = store();
    let error = prepare(&store, &ImageSource::StandIn, &["redis:7"])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("redis:7"), "{error}");
}

#[tokio::test]
async fn without_a_registry_auto_falls_back_and_pull_fails() {
    // Nobody listens there, and it is no repository with a stand-in: the fallback is tried, and
    // says so.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let reference = format!("{closed}/perconalab/valkey:1");
    let (_dir, store) = store();
    let error = prepare(&store, &ImageSource::Pull, &[&reference])
        .await
        .unwrap_err();
    assert!(matches!(error, PrepareError::Pull { .. }), "{error}");
    let error = prepare(&store, &ImageSource::Auto, &[&reference])
        .await
        .unwrap_err();
    let PrepareError::StandIn { after, .. } = &error else {
        panic!("{error}")
    };
    assert!(after.contains("no network"), "{after}");
}

#[needs(valkey)]
#[tokio::test]
async fn the_charts_own_image_is_had_one_way_or_the_other() {
    let (_dir, store) = store();
    let start = std::time::Instant::now();
    match prepare(&store, &ImageSource::Auto, &[RPM, HARDENED]).await {
        Ok(images) => {
            println!("{images:#?} in {:?}", start.elapsed());
            for image in images.iter().filter(|image| image.source == Origin::StandIn) {
                assert!(image.reason.as_ref().unwrap().contains("docker.io"), "{image:?}");
            }
        }
        // Another answer of the registry is no reason for a stand-in.
        Err(error) => assert!(matches!(error, PrepareError::Pull { .. }), "{error:?}"),
    }
}

fn real_image() -> embedded_cluster::images::NewImage {
    let mut layer = embedded_cluster::images::LayerBuilder::new();
    layer.file("/valkey-server", 0o755, "the real one");
    embedded_cluster::images::NewImage::new(
        oci_spec::image::ImageConfiguration::default(),
        vec![layer.to_tar().unwrap()],
    )
}
