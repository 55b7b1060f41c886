//! The network on real interfaces, each trial in a network namespace of its own, so that the host sees nothing.
//!
//! Needs root or user namespaces. Not a unit test: what is asserted is what the kernel then does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use embedded_cluster::network::{Network, NetworkConfig, NetworkError, PodAddress};
use embedded_cluster::runtime::PodKey;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, setns, unshare};

/// A connection on one bridge takes microseconds; this only bounds a failing test.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // A user namespace must be entered while there is a single thread, so before any trial starts one.
    if !nix::unistd::geteuid().is_root() {
        if let Err(error) = enter_user_namespace() {
            eprintln!("network tests need root or user namespaces: {error}");
            return ExitCode::from(3);
        }
    }
    let trials = vec![
        Trial::test("pods_reach_each_other_and_their_gateway", || {
            isolated(pods_reach_each_other)
        }),
        Trial::test("ten_pods_attach_at_once", || isolated(ten_pods_attach_at_once)),
        Trial::test("a_new_pod_never_gets_the_address_just_released", || {
            isolated(addresses_go_round)
        }),
        Trial::test("a_failed_attach_leaves_nothing", || {
            isolated(failed_attach_leaves_nothing)
        }),
        Trial::test("a_disconnected_pod_is_silent_until_reconnected", || {
            isolated(disconnected_pod_is_silent)
        }),
        Trial::test("an_unused_cluster_ip_refuses_at_once", || {
            isolated(unused_cluster_ip_refuses)
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn enter_user_namespace() -> std::io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Runs a trial on this thread, in a fresh network namespace, with a runtime that never leaves it.
fn isolated<F>(trial: fn() -> F) -> Result<(), Failed>
where
    F: Future<Output = Result<(), Failed>>,
{
    unshare(CloneFlags::CLONE_NEWNET)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(trial())
}

async fn pods_reach_each_other() -> Result<(), Failed> {
    let begun = Instant::now();
    let network = Network::setup(NetworkConfig::default()).await?;
    println!("setup took {:?}", begun.elapsed());
    let (first, second) = (
        Pod::attach(&network, "a").await?,
        Pod::attach(&network, "b").await?,
    );
    let server = first.listen(6379)?;
    expect_reply(&server, || {
        second.connect(SocketAddr::from((first.address.ip, 6379)))
    })?;
    // The host end answers too: port-forwards and the Services' proxies dial pods from there.
    expect_reply(&server, || Ok(TcpStream::connect((first.address.ip, 6379))?))?;
    let gateway = TcpListener::bind((first.address.gateway, 7000))?;
    expect_reply(&gateway, || {
        second.connect(SocketAddr::from((first.address.gateway, 7000)))
    })?;
    let loopback = first.inside(|| TcpListener::bind("127.0.0.1:7001"))?;
    expect_reply(&loopback, || first.connect(loopback.local_addr()?))
}

async fn ten_pods_attach_at_once() -> Result<(), Failed> {
    let network = Network::setup(NetworkConfig::default()).await?;
    let namespaces: Vec<_> = (0..10).map(|_| new_namespace()).collect::<Result<_, _>>()?;
    let keys: Vec<_> = (0..10).map(|n| key(&format!("valkey-{n}"))).collect();
    let begun = Instant::now();
    let attached = futures::future::try_join_all(
        keys.iter()
            .zip(&namespaces)
            .map(|(key, netns)| network.attach(key, netns.as_fd())),
    )
    .await?;
    println!("ten concurrent attachments took {:?}", begun.elapsed());
    let distinct: std::collections::BTreeSet<_> = attached.iter().map(|address| address.ip).collect();
    check(distinct.len() == 10, format!("addresses repeat: {attached:?}"))
}

async fn addresses_go_round() -> Result<(), Failed> {
    let network = Network::setup(NetworkConfig::default()).await?;
    let before = Pod::attach(&network, "valkey-0").await?;
    network.release(&before.key).await?;
    network.release(&before.key).await?;
    let after = Pod::attach(&network, "valkey-0").await?;
    check(
        before.address.ip != after.address.ip,
        format!("{} was given twice", before.address.ip),
    )?;
    let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    check(
        interfaces.matches("veth").count() == 1,
        format!("released veth still there:\n{interfaces}"),
    )
}

async fn failed_attach_leaves_nothing() -> Result<(), Failed> {
    let network = Network::setup(NetworkConfig::default()).await?;
    let pod = Pod::attach(&network, "a").await?;
    let again = network.attach(&pod.key, pod.netns.as_fd()).await;
    check(
        matches!(again, Err(NetworkError::AlreadyAttached { .. })),
        format!("got {again:?}"),
    )?;
    let taken = network.attach(&key("b"), pod.netns.as_fd()).await;
    check(
        matches!(taken, Err(NetworkError::Netlink { .. })),
        format!("eth0 exists, yet got {taken:?}"),
    )?;
    let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    check(
        interfaces.matches("veth").count() == 1,
        format!("an interface stays behind:\n{interfaces}"),
    )
}

async fn disconnected_pod_is_silent() -> Result<(), Failed> {
    let network = Network::setup(NetworkConfig::default()).await?;
    let pod = Pod::attach(&network, "a").await?;
    let server = pod.listen(6379)?;
    let address = server.local_addr()?;
    network.set_connected(&pod.key, false).await?;
    let cut = TcpStream::connect_timeout(&address, Duration::from_millis(100));
    check(cut.is_err(), "a disconnected pod still answers")?;
    network.set_connected(&pod.key, true).await?;
    expect_reply(&server, || Ok(TcpStream::connect_timeout(&address, PATIENCE)?))
}

async fn unused_cluster_ip_refuses() -> Result<(), Failed> {
    let network = Network::setup(NetworkConfig::default()).await?;
    let pod = Pod::attach(&network, "a").await?;
    let begun = Instant::now();
    let refused = pod.connect("10.96.77.77:6379".parse()?);
    check(
        refused.is_err() && begun.elapsed() < Duration::from_millis(500),
        format!("got {refused:?}"),
    )
}

/// A pod without a container: a network namespace on the bridge.
struct Pod {
    key: PodKey,
    netns: OwnedFd,
    address: PodAddress,
}

impl Pod {
    async fn attach(network: &Network, name: &str) -> Result<Self, Failed> {
        let (key, netns) = (key(name), new_namespace()?);
        let begun = Instant::now();
        let address = network
            .attach(&key, netns.as_fd())
            .await
            .map_err(|error| format!("{error:?}"))?;
        println!("attaching {name} took {:?}", begun.elapsed());
        Ok(Self { key, netns, address })
    }

    /// Runs something on a thread inside the pod. Sockets made there stay there.
    fn inside<T: Send, E: Send>(&self, body: impl FnOnce() -> Result<T, E> + Send) -> Result<T, Failed>
    where
        E: std::fmt::Display,
    {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.netns, CloneFlags::CLONE_NEWNET).expect("the test made this namespace");
                body()
            });
            inside
                .join()
                .expect("no panic inside the pod")
                .map_err(Failed::from)
        })
    }

    fn listen(&self, port: u16) -> Result<TcpListener, Failed> {
        self.inside(|| TcpListener::bind((self.address.ip, port)))
    }

    fn connect(&self, to: SocketAddr) -> Result<TcpStream, Failed> {
        self.inside(|| TcpStream::connect_timeout(&to, PATIENCE))
    }
}

fn key(name: &str) -> PodKey {
    PodKey {
        namespace: "default".into(),
        name: name.into(),
        uid: format!("{name}-{:?}", Instant::now()),
    }
}

/// A fresh network namespace, held by its descriptor only.
fn new_namespace() -> Result<OwnedFd, Failed> {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok::<_, std::io::Error>(OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net")?))
    });
    Ok(made.join().expect("no panic while unsharing")?)
}

fn expect_reply(
    server: &TcpListener,
    connect: impl FnOnce() -> Result<TcpStream, Failed>,
) -> Result<(), Failed> {
    let mut client = connect()?;
    let (mut accepted, _) = server.accept()?;
    accepted.write_all(b"PONG")?;
    let mut reply = [0; 4];
    client.set_read_timeout(Some(PATIENCE))?;
    client.read_exact(&mut reply)?;
    check(&reply == b"PONG", format!("got {reply:?}"))
}

fn check(holds: bool, otherwise: impl Into<String>) -> Result<(), Failed> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.into().into())
    }
}
