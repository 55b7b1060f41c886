//! Unpacks a manifest's layers in order into an empty folder.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use oci_spec::image::{Descriptor, ImageManifest, MediaType};

use super::blobs::Blobs;
use super::error::{ImageError, IoContext as _};
use super::layer::Layer;
use crate::confined::Confined;

/// Docker's media types of an uncompressed and of a gzipped layer.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Size of the read buffer: large, because a layer is read once, from start to end.
const READ_BUFFER: usize = 256 * 1024;

/// The compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
}

/// Unpacks an image into `to`, which must not exist yet. Each blob is verified before any of its
/// content is written.
pub(super) fn unpack(blobs: &Blobs, manifest: &ImageManifest, to: &Path) -> Result<(), ImageError> {
    fs::create_dir(to).doing("create", to)?;
    let root = Confined::open(to).doing("open", to)?;
    let keep_owners = nix::unistd::geteuid().is_root();
    for layer in manifest.layers() {
        let digest = layer.digest().to_string();
        let compression = compression(layer)?;
        let path = blobs.verify(layer.digest())?;
        let file = BufReader::with_capacity(READ_BUFFER, File::open(&path).doing("open", &path)?);
        let content: Box<dyn Read> = match compression {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
        };
        Layer::new(&digest, &root, keep_owners).apply(content)?;
    }
    Ok(())
}

fn compression(layer: &Descriptor) -> Result<Compression, ImageError> {
    match layer.media_type() {
        MediaType::ImageLayer => Ok(Compression::None),
        MediaType::ImageLayerGzip => Ok(Compression::Gzip),
        MediaType::Other(name) if name == DOCKER_LAYER => Ok(Compression::None),
        MediaType::Other(name) if name == DOCKER_LAYER_GZIP => Ok(Compression::Gzip),
        other => Err(ImageError::LayerMediaType {
            layer: layer.digest().to_string(),
            media_type: other.to_string(),
        }),
    }
}
