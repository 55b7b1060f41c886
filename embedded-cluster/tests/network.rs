//! Tests of the network on real interfaces. Each trial runs in a separate network namespace, so
//! that it does not affect the host.
//!
//! Needs root or user namespaces. These are not unit tests: the assertions check the kernel's
//! behaviour.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use embedded_cluster::api::{ApiConfig, ApiServer};
use embedded_cluster::network::{Network, NetworkConfig, NetworkError, PodAddress};
use embedded_cluster::runtime::PodKey;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// The deadline of every wait. It only bounds failing tests: a connection on one bridge takes
/// microseconds.
const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // A process can enter a user namespace only while it has a single thread, so this comes before
    // all trials.
    if !nix::unistd::geteuid().is_root()
        && let Err(error) = enter_user_namespace()
    {
        eprintln!("network tests need root or user namespaces: {error}");
        return ExitCode::from(3);
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
        Trial::test("dns_and_cluster_ips_follow_the_endpoints", || {
            isolated(dns_and_proxies)
        }),
        Trial::test("an_unused_cluster_ip_refuses_at_once", || {
            isolated(unused_cluster_ip_refuses)
        }),
        Trial::test("a_pod_has_no_neighbour_but_its_gateway", || {
            isolated(gateway_is_the_only_neighbour)
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
    // The host must reach the pod too: port-forwards and the Services' proxies dial from the host.
    expect_reply(&server, || Ok(TcpStream::connect((first.address.ip, 6379))?))?;
    let gateway = TcpListener::bind((first.address.gateway, 7000))?;
    expect_reply(&gateway, || {
        second.connect(SocketAddr::from((first.address.gateway, 7000)))
    })?;
    let loopback = first.inside(|| TcpListener::bind("127.0.0.1:7001"))?;
    expect_reply(&loopback, || first.connect(loopback.local_addr()?))
}

/// The kernel's neighbour table is one for all pods of all trials, and small.
async fn gateway_is_the_only_neighbour() -> Result<(), Failed> {
    let network = Network::setup(NetworkConfig::default()).await?;
    let (first, second) = (
        Pod::attach(&network, "a").await?,
        Pod::attach(&network, "b").await?,
    );
    let server = first.listen(6379)?;
    expect_reply(&server, || {
        second.connect(SocketAddr::from((first.address.ip, 6379)))
    })?;
    let table = second.inside(|| std::fs::read_to_string("/proc/thread-self/net/arp"))?;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    let gateway = first.address.gateway.to_string();
    check(
        rows.len() == 1 && rows[0].starts_with(&gateway),
        format!("pod b has these neighbours:\n{table}"),
    )?;
    network.release(&first.key).await?;
    let table = std::fs::read_to_string("/proc/thread-self/net/arp")?;
    let of_first = format!("{} ", first.address.ip);
    check(
        !table.contains(&of_first),
        format!("a released pod stays a neighbour:\n{table}"),
    )
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
        interfaces.matches("veth0").count() == 1,
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
        interfaces.matches("veth0").count() == 1,
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
    expect_reply(&server, || Ok(TcpStream::connect_timeout(&address, DEADLINE)?))
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

async fn dns_and_proxies() -> Result<(), Failed> {
    let network = std::sync::Arc::new(Network::setup(NetworkConfig::default()).await?);
    let pod = Pod::attach(&network, "valkey-0").await?;
    let client = ApiServer::new(ApiConfig::default()).client();
    let (serving, stop) = (network.clone(), CancellationToken::new());
    let running = tokio::spawn({
        let (client, stop) = (client.clone(), stop.clone());
        async move { serving.run(client, Duration::ZERO, stop).await }
    });
    let created = |service: Value| create::<Service>(&client, service);
    created(json!({"metadata": {"name": "valkey"}, "spec": {"clusterIP": "10.96.9.9", "ports": [{"name": "v", "port": 80}]}})).await?;
    created(json!({"metadata": {"name": "peers"}, "spec": {"clusterIP": "None", "ports": [{"name": "v", "port": 6379}]}})).await?;
    for service in ["valkey", "peers"] {
        create::<EndpointSlice>(&client, slice(service, pod.address.ip)).await?;
    }
    let headless = "valkey-0.peers.default.svc.cluster.local.";
    let begun = Instant::now();
    let found = eventually(|| async {
        ask(&pod, headless, RecordType::A, false)
            .await
            .ok()
            .filter(|a| !a.answers.is_empty())
    });
    let found = found.await?;
    println!(
        "the pod's name resolved {:?} after its slice was written",
        begun.elapsed()
    );
    check(
        found.answers[0].data == RData::A(A(pod.address.ip)) && found.answers[0].ttl == 5,
        format!("got {found:?}"),
    )?;
    let over_tcp = ask(&pod, headless, RecordType::A, true).await?;
    check(
        over_tcp.answers == found.answers,
        format!("TCP says {over_tcp:?}"),
    )?;
    let expected = [
        (headless, RecordType::AAAA, ResponseCode::NoError),
        (
            "VALKEY.default.svc.cluster.local.",
            RecordType::A,
            ResponseCode::NoError,
        ),
        (
            "nobody.default.svc.cluster.local.",
            RecordType::A,
            ResponseCode::NXDomain,
        ),
        ("example.com.", RecordType::A, ResponseCode::NXDomain),
    ];
    for (name, kind, code) in expected {
        let answer = ask(&pod, name, kind, false).await?;
        check(
            answer.metadata.response_code == code,
            format!("{name} {kind}: {answer:?}"),
        )?;
    }
    let nodata = ask(&pod, headless, RecordType::AAAA, false).await?;
    check(
        nodata.answers.is_empty() && nodata.authorities.len() == 1,
        format!("got {nodata:?}"),
    )?;

    let server = pod.listen(6379)?;
    let other = Pod::attach(&network, "client").await?;
    let address: SocketAddr = "10.96.9.9:80".parse()?;
    let connected = eventually(|| async { other.connect(address).ok() }).await?;
    // The proxy runs on this thread's runtime, so another thread must serve both ends of the
    // connection.
    tokio::task::spawn_blocking(move || expect_reply(&server, || Ok(connected))).await??;
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
    slices.delete("valkey", &DeleteParams::default()).await?;
    eventually(|| async { other.connect(address).is_err().then_some(()) }).await?;
    stop.cancel();
    running.await??;
    Ok(())
}

async fn create<K>(client: &Client, object: Value) -> Result<(), Failed>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object)?;
    Api::<K>::namespaced(client.clone(), "default")
        .create(&PostParams::default(), &object)
        .await?;
    Ok(())
}

fn slice(service: &str, ip: std::net::Ipv4Addr) -> Value {
    json!({"metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "ports": [{"name": "v", "port": 6379}],
        "endpoints": [{"addresses": [ip.to_string()], "hostname": "valkey-0", "conditions": {"ready": true}}]})
}

/// Retries until the attempt returns a value, at most until the deadline. Polling is necessary: the
/// kernel and the server do not announce names and listeners.
async fn eventually<T, F: Future<Output = Option<T>>>(attempt: impl Fn() -> F) -> Result<T, Failed> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Some(found) = attempt().await {
            return Ok(found);
        }
        tokio::task::yield_now().await;
    }
    Err("nothing came in time".into())
}

/// Sends one DNS question from inside a pod and returns the answer.
async fn ask(pod: &Pod, name: &str, kind: RecordType, over_tcp: bool) -> Result<Message, Failed> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name)?, kind));
    let question = message.to_vec()?;
    let mut reply = vec![0; 4096];
    if over_tcp {
        let stream = pod.connect(SocketAddr::from((pod.address.dns, 53)))?;
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::TcpStream::from_std(stream)?;
        stream.write_u16(u16::try_from(question.len())?).await?;
        stream.write_all(&question).await?;
        let length = usize::from(stream.read_u16().await?);
        reply.truncate(length);
        stream.read_exact(&mut reply).await?;
    } else {
        let socket = pod.inside(|| UdpSocket::bind((pod.address.ip, 0)))?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        socket.send_to(&question, (pod.address.dns, 53)).await?;
        let length = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut reply)).await??;
        reply.truncate(length);
    }
    Ok(Message::from_vec(&reply)?)
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

    /// Runs `body` on a thread inside the pod. Sockets created there stay in the pod's namespace.
    fn inside<T, E>(&self, body: impl FnOnce() -> Result<T, E> + Send) -> Result<T, Failed>
    where
        T: Send,
        E: std::fmt::Display + Send,
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
        self.inside(|| TcpStream::connect_timeout(&to, DEADLINE))
    }
}

fn key(name: &str) -> PodKey {
    PodKey {
        namespace: "default".into(),
        name: name.into(),
        uid: format!("{name}-{:?}", Instant::now()),
    }
}

/// Creates a network namespace that lives as long as its descriptor.
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
    client.set_read_timeout(Some(DEADLINE))?;
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
