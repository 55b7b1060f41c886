//! A manifest's layers, applied in order to an empty folder.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use oci_spec::image::{Descriptor, ImageManifest, MediaType};

use super::blobs::Blobs;
use super::confined::Confined;
use super::error::{ImageError, IoContext as _};
use super::layer::Layer;

/// What Docker calls an uncompressed and a gzipped layer.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Large reads: a layer is read once, from start to end.
const READ_BUFFER: usize = 256 * 1024;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
}

/// Unpacks an image into `to`, which must not exist yet. Blobs are verified before anything of them is written.
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
