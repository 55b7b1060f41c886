//! Tests of unpacking layers into root file systems: results of valid layers, and confinement of
//! malicious ones.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use embedded_cluster::images::{Image, ImageError, ImageStore, LayerBuilder, NewImage};
use oci_spec::image::ImageConfiguration;
use tar::{EntryType, Header};

/// Builds a tar archive from `(type, path, content or link target)`, with paths exactly as given,
/// even invalid ones.
fn layer(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(999);
        header.set_gid(998);
        header.set_mtime(1_000_000);
        let is_file = kind.is_file();
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if !is_file {
            header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, if is_file { content.as_bytes() } else { b"" })
            .unwrap();
    }
    tar.into_inner().unwrap()
}

fn unpack(store: &Path, layers: Vec<Vec<u8>>) -> Result<Image, ImageError> {
    ImageStore::open(store)?.add("test:1", &NewImage::new(ImageConfiguration::default(), layers))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Entries as (type, path, content or link target).
type Entries<'a> = Vec<(EntryType, &'a str, &'a str)>;

const FILE: EntryType = EntryType::Regular;
const FOLDER: EntryType = EntryType::Directory;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

#[test]
fn entries_keep_their_kind_owner_mode_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let image = unpack(
        dir.path(),
        vec![layer(&[
            (FOLDER, "data/", ""),
            (FILE, "./data/file", "content"),
            (LINK, "data/hard", "data/file"),
            (SYMLINK, "data/soft", "/data/file"),
            (EntryType::Fifo, "data/pipe", ""),
        ])],
    )
    .unwrap();
    let data = image.rootfs.join("data");
    let file = fs::metadata(data.join("file")).unwrap();
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "content");
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o755, 1_000_000));
    assert_eq!(fs::metadata(data.join("hard")).unwrap().ino(), file.ino());
    assert_eq!(fs::read_link(data.join("soft")).unwrap(), Path::new("/data/file"));
    assert!(fs::metadata(data.join("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(
        fs::metadata(&data).unwrap().mtime(),
        1_000_000,
        "although written into afterwards"
    );
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        assert_eq!((file.uid(), file.gid()), (999, 998));
        let soft = fs::symlink_metadata(data.join("soft")).unwrap();
        assert_eq!((soft.uid(), soft.gid()), (999, 998));
    }
}

#[test]
fn whiteouts_remove_what_lower_layers_have_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let image = unpack(
        dir.path(),
        vec![
            layer(&[
                (FILE, "kept", "1"),
                (FILE, "gone", "1"),
                (FILE, "folder/gone", "1"),
                (FILE, "opaque/lower", "1"),
                (FILE, "opaque/sub/lower", "1"),
                (FILE, "becomes-a-file/x", "1"),
                (FILE, "becomes-a-folder", "1"),
            ]),
            layer(&[
                (FILE, ".wh.gone", ""),
                (FILE, "folder/.wh.gone", ""),
                // The layer has one entry before its opaque marker and one after. Both stay.
                (FILE, "opaque/sub/upper", "2"),
                (FILE, "opaque/.wh..wh..opq", ""),
                (FILE, "opaque/upper", "2"),
                (FILE, "becomes-a-file", "2"),
                (FOLDER, "becomes-a-folder", ""),
                (FILE, ".wh..wh.plnk", ""),
            ]),
        ],
    )
    .unwrap();
    let root = &image.rootfs;
    assert_eq!(
        names(root),
        ["becomes-a-file", "becomes-a-folder", "folder", "kept", "opaque"]
    );
    assert!(names(&root.join("folder")).is_empty());
    assert_eq!(names(&root.join("opaque")), ["sub", "upper"]);
    assert_eq!(names(&root.join("opaque/sub")), ["upper"]);
    assert_eq!(fs::read_to_string(root.join("becomes-a-file")).unwrap(), "2");
    assert!(root.join("becomes-a-folder").is_dir());
}

#[test]
fn no_entry_leaves_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let out = outside.path().to_str().unwrap();
    let up = format!("{}{}", "../".repeat(12), &out[1..]);
    let absolute = format!("{out}/written");
    let through = format!("{up}/written");
    let attacks: &[(&str, Entries<'_>)] = &[
        ("an absolute path", vec![(FILE, &absolute, "x")]),
        ("a path that climbs", vec![(FILE, &through, "x")]),
        (
            "an absolute link",
            vec![(SYMLINK, "door", out), (FILE, "door/written", "x")],
        ),
        (
            "a climbing link",
            vec![(SYMLINK, "door", &up), (FILE, "door/written", "x")],
        ),
        (
            "a file over a link",
            vec![(SYMLINK, "door", victim.to_str().unwrap()), (FILE, "door", "x")],
        ),
        (
            "a hard link",
            vec![(LINK, "door", victim.to_str().unwrap()), (FILE, "door", "x")],
        ),
        (
            "a hard link through a link",
            vec![(SYMLINK, "door", out), (LINK, "stolen", "door/victim")],
        ),
        (
            "a whiteout through a link",
            vec![(SYMLINK, "door", out), (FILE, "door/.wh.victim", "")],
        ),
        (
            "an opaque link",
            vec![(SYMLINK, "door", out), (FILE, "door/.wh..wh..opq", "")],
        ),
        (
            "a whiteout of the parent",
            vec![(FOLDER, "a", ""), (FILE, "a/.wh...", "")],
        ),
        (
            "a link to /proc",
            vec![
                (SYMLINK, "door", "/proc/self/root"),
                (FILE, "door/tmp/written", "x"),
            ],
        ),
    ];
    for (name, entries) in attacks {
        let dir = tempfile::tempdir().unwrap();
        // Two outcomes are correct: an error, or a harmless result inside the root.
        let result = unpack(dir.path(), vec![layer(entries)]);
        println!(
            "{name}: {:?}",
            result
                .as_ref()
                .map(|image| names(&image.rootfs))
                .map_err(ToString::to_string)
        );
        assert_eq!(names(outside.path()), ["victim"], "{name}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{name}");
        if let Ok(image) = result {
            assert!(!image.rootfs.join("stolen").exists(), "{name}");
        }
        assert!(!Path::new("/tmp/written").exists(), "{name}");
    }
}

#[test]
fn a_bad_entry_is_named_and_leaves_no_root_behind() {
    let dir = tempfile::tempdir().unwrap();
    let error = unpack(
        dir.path(),
        vec![layer(&[(FILE, "fine", ""), (FILE, "../bad", "")])],
    )
    .unwrap_err();
    assert!(error.to_string().contains("`../bad`"), "{error}");
    assert!(names(&dir.path().join("rootfs")).is_empty());
    assert_eq!(names(&dir.path().join("tmp")), ["lock"]);
}

#[test]
fn a_truncated_layer_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = layer(&[(FILE, "a", &"x".repeat(4000))]);
    whole.truncate(1500);
    assert!(unpack(dir.path(), vec![whole]).is_err());
}

#[test]
fn extended_attributes_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("SCHILY.xattr.user.colour", b"blue".as_slice())])
        .unwrap();
    let mut header = Header::new_ustar();
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", &b""[..]).unwrap();
    tar.get_mut().flush().unwrap();
    match unpack(dir.path(), vec![tar.into_inner().unwrap()]) {
        Ok(image) => {
            let value = xattr::get(image.rootfs.join("file"), "user.colour").unwrap();
            assert_eq!(value.as_deref(), Some(b"blue".as_slice()));
        }
        Err(error) => println!("skipped: this file system has no extended attributes: {error}"),
    }
}

#[test]
fn what_is_built_is_what_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = LayerBuilder::new();
    builder
        .file("/usr/bin/tool", 0o755, "x")
        .symlink("/bin", "usr/bin")
        .folder("/tmp", 0o1777, 0);
    let long = format!("/{}/{}", "d".repeat(120), "f".repeat(120));
    builder.file(&long, 0o600, "long");
    let image = unpack(dir.path(), vec![builder.to_tar().unwrap()]).unwrap();
    assert_eq!(fs::read_to_string(image.rootfs.join("bin/tool")).unwrap(), "x");
    assert_eq!(
        fs::metadata(image.rootfs.join("tmp")).unwrap().mode() & 0o7777,
        0o1777
    );
    assert_eq!(fs::read_to_string(image.rootfs.join(&long[1..])).unwrap(), "long");
}

#[test]
fn folders_that_nobody_may_write_into_are_filled_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut lower = LayerBuilder::new();
    lower
        .folder("/usr", 0o555, 0)
        .file("/usr/tool", 0o555, "1")
        .file("/usr/gone", 0o444, "1");
    let upper = layer(&[(FILE, "usr/tool", "2"), (FILE, "usr/.wh.gone", "")]);
    let image = unpack(dir.path(), vec![lower.to_tar().unwrap(), upper]).unwrap();
    assert_eq!(names(&image.rootfs.join("usr")), ["tool"]);
    assert_eq!(fs::read_to_string(image.rootfs.join("usr/tool")).unwrap(), "2");
}
