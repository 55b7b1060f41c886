//! Damaged or malicious files from elsewhere: layers of images, and reports. Whatever they contain,
//! reading them returns a result, and writes nothing outside the store.

use std::path::Path;

use embedded_cluster::images::{ImageStore, LayerBuilder, NewImage};
use harness::report::file;
use oci_spec::image::ImageConfiguration;
use proptest::prelude::*;

/// A real run, with trials that failed.
const REPORT: &str = include_str!("report/broken-run.json");

/// Returns a layer with folders, files and links.
fn layer() -> Vec<u8> {
    let mut layer = LayerBuilder::new();
    layer
        .folder("data", 0o755, 999)
        .file("data/file", 0o644, "content")
        .symlink("data/link", "/data/file")
        .file("etc/passwd", 0o600, "root");
    layer.to_tar().expect("memory can be written to")
}

/// Changes some bytes, and cuts off the end.
fn damaged(bytes: &[u8], changes: &[(prop::sample::Index, u8)], end: prop::sample::Index) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (place, value) in changes {
        let place = place.index(bytes.len());
        bytes[place] = *value;
    }
    bytes.truncate(end.index(bytes.len()) + 1);
    bytes
}

/// Lists everything in a folder except the store.
fn outside(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let names = entries.map(|entry| {
        entry
            .expect("readable")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names.filter(|name| name != "store").collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_layer_is_refused_or_stays_in_the_store(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        end in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = ImageStore::open(folder.path().join("store")).expect("a store in an empty folder");
        let image = NewImage::new(ImageConfiguration::default(), vec![damaged(&layer(), &changes, end)]);
        let _ = store.add("test:1", &image);
        prop_assert_eq!(outside(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn a_damaged_report_is_an_error_that_names_the_file(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        end in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("report.json");
        let text = damaged(REPORT.as_bytes(), &changes, end);
        std::fs::write(&path, text).expect("the folder can be written to");
        if let Err(error) = file::read(&path) {
            prop_assert!(error.to_string().contains("report.json"), "{}", error);
        }
    }
}
