//! Content-addressed files: `blobs/sha256/<hex>`, as in the OCI image layout. A file gets its name
//! only when it is complete. Every read verifies the content.
//!
//! Blobs are not synced to disk. A power loss may leave an empty blob, which verification detects.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{Digest, DigestAlgorithm, Sha256Digest};
use sha2::{Digest as _, Sha256};

use super::error::{ImageError, IoContext as _};
use super::scratch::Scratch;

/// The blobs of one store.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    dir: PathBuf,
}

/// A file with a known digest that is not yet in the store.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Blobs {
    /// Opens the blob directory of the store at `store`, and creates it if it is missing.
    pub(super) fn open(store: &Path) -> Result<Self, ImageError> {
        let dir = store.join("blobs").join("sha256");
        fs::create_dir_all(&dir).doing("create", &dir)?;
        Ok(Self { dir })
    }

    /// Returns the path of the blob, if the store has it.
    pub(super) fn path(&self, digest: &Digest) -> Result<PathBuf, ImageError> {
        let path = self.location(digest)?;
        if path.is_file() {
            Ok(path)
        } else {
            Err(ImageError::MissingBlob {
                digest: digest.to_string(),
            })
        }
    }

    /// Reads a small blob (a manifest, a configuration) and verifies it.
    pub(super) fn read(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.path(digest)?;
        let bytes = fs::read(&path).doing("read", &path)?;
        self.require(digest, &sha256(&bytes))?;
        Ok(bytes)
    }

    /// Verifies a blob without loading it into memory, and returns its path.
    pub(super) fn verify(&self, digest: &Digest) -> Result<PathBuf, ImageError> {
        let path = self.path(digest)?;
        let mut file = File::open(&path).doing("open", &path)?;
        let mut sink = HashingWriter::new(io::sink());
        io::copy(&mut file, &mut sink).doing("read", &path)?;
        self.require(digest, &sink.finish().0)?;
        Ok(path)
    }

    /// Stores bytes under their digest.
    pub(super) fn add(&self, scratch: &Scratch, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        let path = scratch.fresh();
        fs::write(&path, bytes).doing("write", &path)?;
        self.adopt(&Staged {
            path,
            digest: digest.clone(),
            size: bytes.len() as u64,
        })
    }

    /// Moves a staged file to its final name. Replaces an existing blob, which has the same bytes
    /// or is damaged.
    pub(super) fn adopt(&self, staged: &Staged) -> Result<(), ImageError> {
        let to = self.location(&staged.digest)?;
        fs::rename(&staged.path, &to).doing("move into place", to)
    }

    /// Lists the digests of all blobs, in hexadecimal.
    pub(super) fn list(&self) -> Result<Vec<String>, ImageError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).doing("list", &self.dir)? {
            names.push(
                entry
                    .doing("list", &self.dir)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        Ok(names)
    }

    /// Removes the blob with this hexadecimal digest.
    pub(super) fn remove(&self, hex: &str) -> Result<(), ImageError> {
        let path = self.dir.join(hex);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).doing("remove", path),
            _ => Ok(()),
        }
    }

    fn location(&self, digest: &Digest) -> Result<PathBuf, ImageError> {
        // The digest becomes a file name, so only sha256 is accepted.
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            return Err(ImageError::malformed(
                digest.to_string(),
                "only sha256 digests are supported",
            ));
        }
        Ok(self.dir.join(digest.digest()))
    }

    fn require(&self, expected: &Digest, found: &Digest) -> Result<(), ImageError> {
        if expected == found {
            return Ok(());
        }
        self.remove(expected.digest())?;
        Err(ImageError::CorruptBlob {
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }
}

/// Writes a stream to a file of `scratch` and computes its digest.
pub(super) fn stage(scratch: &Scratch, mut content: impl Read) -> Result<Staged, ImageError> {
    let path = scratch.fresh();
    let file = File::create(&path).doing("create", &path)?;
    let mut writer = HashingWriter::new(file);
    let size = io::copy(&mut content, &mut writer).doing("write", &path)?;
    Ok(Staged {
        digest: writer.finish().0,
        path,
        size,
    })
}

/// Computes the digest of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    to_digest(Sha256::digest(bytes).as_slice())
}

fn to_digest(hash: &[u8]) -> Digest {
    use std::fmt::Write as _;
    let hex = hash.iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    });
    hex.parse::<Sha256Digest>()
        .expect("32 bytes in hexadecimal are a sha256 digest")
        .into()
}

/// A writer that forwards bytes and computes their digest.
#[derive(Debug)]
pub(super) struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> HashingWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
        }
    }

    pub(super) fn finish(self) -> (Digest, W) {
        (to_digest(self.hasher.finalize().as_slice()), self.inner)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs, Scratch) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let scratch = Scratch::create(dir.path()).unwrap();
        (dir, blobs, scratch)
    }

    #[test]
    fn a_blob_is_named_by_its_content() {
        let (_dir, blobs, scratch) = blobs();
        let digest = sha256(b"abc");
        blobs.add(&scratch, &digest, b"abc").unwrap();
        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(blobs.read(&digest).unwrap(), b"abc");
    }

    #[test]
    fn a_corrupt_blob_is_named_and_removed() {
        let (_dir, blobs, scratch) = blobs();
        let digest = sha256(b"abc");
        blobs.add(&scratch, &digest, b"abc").unwrap();
        fs::write(blobs.path(&digest).unwrap(), b"abd").unwrap();

        let error = blobs.verify(&digest).unwrap_err();

        assert!(error.is_damage(), "{error}");
        assert!(error.to_string().contains(digest.digest()), "{error}");
        assert!(matches!(blobs.path(&digest), Err(ImageError::MissingBlob { .. })));
        blobs.add(&scratch, &digest, b"abc").unwrap();
        assert_eq!(blobs.read(&digest).unwrap(), b"abc", "the blob can be put back");
    }

    #[test]
    fn only_sha256_becomes_a_file_name() {
        let (_dir, blobs, _scratch) = blobs();
        let digest = Digest::try_from(format!("sha512:{}", "0".repeat(128))).unwrap();
        assert!(matches!(blobs.path(&digest), Err(ImageError::Malformed { .. })));
        assert!(Digest::try_from("sha256:../../etc/passwd").is_err());
    }
}
