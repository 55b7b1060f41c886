//! Tests of the store: names, damage, concurrent processes, import and export of archives.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use embedded_cluster::images::{Image, ImageStore, LayerBuilder, NewImage, Pins};
use oci_spec::image::{Config, ImageConfiguration};

fn image(content: &str) -> NewImage {
    let mut layer = LayerBuilder::new();
    layer.file("/file", 0o644, content);
    let mut config = Config::default();
    config.set_entrypoint(Some(vec!["/file".to_owned()]));
    let mut configuration = ImageConfiguration::default();
    configuration.set_config(Some(config));
    NewImage::new(configuration, vec![layer.to_tar().unwrap()])
}

fn content(image: &Image) -> String {
    fs::read_to_string(image.rootfs.join("file")).unwrap()
}

fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    (dir, store)
}

#[test]
fn an_image_is_found_by_every_form_of_its_name() {
    let (_dir, store) = store();
    let added = store.add("a/b:1", &image("one")).unwrap();
    let by_digest = format!("a/b@{}", added.digest);
    for name in ["a/b:1", "docker.io/a/b:1", &by_digest] {
        let found = store
            .get(name)
            .unwrap()
            .unwrap_or_else(|| panic!("{name} is not found"));
        assert_eq!(
            (found.digest.as_str(), content(&found).as_str()),
            (added.digest.as_str(), "one")
        );
        assert_eq!(
            found
                .config
                .config()
                .as_ref()
                .unwrap()
                .entrypoint()
                .as_ref()
                .unwrap(),
            &["/file"]
        );
    }
    for other in [
        "a/b:2",
        "a/b",
        "quay.io/a/b:1",
        &format!("a/b@sha256:{}", "0".repeat(64)),
    ] {
        assert!(store.get(other).unwrap().is_none(), "{other}");
    }
    assert!(store.get("Not A Name").is_err());
}

#[test]
fn a_pin_holds_although_the_name_moves() {
    let (_dir, store) = store();
    let one = store.add("a/b:1", &image("one")).unwrap();
    let pinned = store
        .clone()
        .pinned(Pins::from([("a/b:1".to_owned(), one.digest.clone())]));
    store.add("a/b:1", &image("two")).unwrap();
    assert_eq!(content(&store.get("a/b:1").unwrap().unwrap()), "two");
    assert_eq!(content(&pinned.get("a/b:1").unwrap().unwrap()), "one");
    assert_eq!(content(&pinned.get("docker.io/a/b:1").unwrap().unwrap()), "one");
}

#[test]
fn what_nothing_names_goes_with_the_last_name() {
    let (dir, store) = store();
    let one = store.add("a/b:1", &image("one")).unwrap();
    let kept = store.add("a/b:2", &image("two")).unwrap();
    store.alias(&one, "a/b:also-1").unwrap();
    assert!(store.remove("a/b:1").unwrap());
    assert!(one.rootfs.is_dir(), "another name still needs it");
    assert!(store.remove("a/b:also-1").unwrap());
    assert!(!store.remove("a/b:also-1").unwrap(), "it is gone already");
    assert!(!one.rootfs.exists() && kept.rootfs.is_dir());
    assert_eq!(
        fs::read_dir(dir.path().join("images/blobs/sha256"))
            .unwrap()
            .count(),
        3
    );
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn damage_is_told_and_mended_by_adding_the_image_again() {
    let (_dir, store) = store();
    let added = store.add("a/b:1", &image("one")).unwrap();
    let manifest = store
        .dir()
        .join("blobs/sha256")
        .join(&added.digest["sha256:".len()..]);
    fs::write(&manifest, "{}").unwrap();
    let error = store.get("a/b:1").unwrap_err();
    assert!(
        error.is_damage() && error.to_string().contains(&added.digest),
        "{error}"
    );
    assert!(store.get("a/b:1").unwrap_err().is_damage(), "and it stays told");
    store.add("a/b:1", &image("one")).unwrap();
    assert_eq!(content(&store.get("a/b:1").unwrap().unwrap()), "one");
}

#[test]
fn two_processes_at_once_lose_nothing() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let dir = store.dir();
            scope.spawn(move || {
                for round in 0..5 {
                    // Each thread opens the store itself, as another process would.
                    let store = ImageStore::open(dir).unwrap();
                    let name = format!("a/b:{worker}-{round}");
                    assert_eq!(content(&store.add(&name, &image(&name)).unwrap()), name);
                    store
                        .add("a/b:shared", &image(&format!("shared {round}")))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(store.list().unwrap().len(), 21);
    assert!(content(&store.get("a/b:shared").unwrap().unwrap()).starts_with("shared "));
}

#[test]
fn opening_removes_what_a_killed_process_left() {
    let (_dir, store) = store();
    let left = store.dir().join("tmp/0123");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("half"), "x").unwrap();
    ImageStore::open(store.dir()).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_store_that_cannot_be_written_names_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = ImageStore::open(file.join("images")).unwrap_err();
    assert!(error.to_string().contains("a-file/images"), "{error}");
}

#[test]
fn an_archive_brings_the_same_image_to_another_store() {
    let (dir, here) = store();
    let added = here.add("a/b:1", &image("one")).unwrap();
    let other = here.add("a/b:2", &image("two")).unwrap();
    let archive = dir.path().join("images.tar");
    here.export_archive(&["a/b:1", "a/b:2"], &archive).unwrap();

    for archive in [archive.clone(), gzipped(&archive)] {
        let (_dir, there) = store();
        let images = there.add_archive(&archive).unwrap();
        let names: Vec<_> = images.iter().map(|image| image.reference.as_str()).collect();
        assert_eq!(names, ["docker.io/a/b:1", "docker.io/a/b:2"]);
        assert_eq!(there.get("a/b:1").unwrap().unwrap().digest, added.digest);
        assert_eq!(content(&there.get("a/b:2").unwrap().unwrap()), "two");
        assert_eq!(there.get("a/b:2").unwrap().unwrap().digest, other.digest);
    }
    let error = here.export_archive(&["a/b:3"], &archive).unwrap_err();
    assert!(error.to_string().contains("`a/b:3`"), "{error}");
}

#[test]
fn an_archive_of_an_old_docker_is_understood() {
    let mut layer = LayerBuilder::new();
    layer.file("/file", 0o644, "old");
    let archive = tar_of(&[
        ("manifest.json", br#"[{"Config":"c.json","RepoTags":["a/b:1","a/b:same"],"Layers":["1/layer.tar"]},
            {"Config":"c.json","RepoTags":["a/c:1"],"Layers":["1/layer.tar"]},
            {"Config":"c.json","RepoTags":null,"Layers":["1/layer.tar"]}]"#),
        ("c.json", br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":[]}}"#),
        ("1/layer.tar", &layer.to_tar().unwrap()),
    ]);
    let (dir, store) = store();
    let path = dir.path().join("old.tar");
    fs::write(&path, archive).unwrap();
    let images = store.add_archive(&path).unwrap();
    assert_eq!(images.len(), 3);
    for name in ["a/b:1", "a/b:same", "a/c:1"] {
        assert_eq!(content(&store.get(name).unwrap().unwrap()), "old", "{name}");
    }
}

#[test]
fn what_is_no_image_archive_is_told_apart() {
    let (dir, store) = store();
    let path = dir.path().join("x.tar");
    for (bytes, problem) in [
        (b"not a tar archive, and long enough to be one, or not".repeat(20), "it is not a tar archive"),
        (tar_of(&[("readme", b"hello")]), "has no image name"),
        (tar_of(&[("manifest.json", b"{")]), "parse manifest.json"),
        (
            tar_of(&[("manifest.json", br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":[]}]"#)]),
            "`c.json`",
        ),
        (tar_of(&[("index.json", br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","annotations":{"org.opencontainers.image.ref.name":"a/b:1"}}]}"#)]), "blobs/sha256/e3b0"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = store.add_archive(&path).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("x.tar"), "{error}");
    }
    let error = store
        .add_archive(dir.path().join("missing.tar"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("missing.tar"), "{error}");
    assert!(store.list().unwrap().is_empty());
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzipped(path: &Path) -> std::path::PathBuf {
    let to = path.with_extension("tar.gz");
    let mut encoder = flate2::write::GzEncoder::new(File::create(&to).unwrap(), flate2::Compression::fast());
    encoder.write_all(&fs::read(path).unwrap()).unwrap();
    encoder.finish().unwrap();
    to
}
