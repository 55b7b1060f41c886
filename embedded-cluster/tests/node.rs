//! scratch
fn main() {
    if std::env::args().nth(1).as_deref() == Some(embedded_cluster::node::HELPER_ARGUMENT) {
        embedded_cluster::node::helper_main()
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .unwrap();
    nix::mount::mount(
        Some("tmpfs"),
        "/tmp/node/state",
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(embedded_cluster::node::scratch::run(
            std::path::Path::new("/tmp/node/rootfs"),
            std::path::Path::new("/tmp/node/state"),
        ));
}
