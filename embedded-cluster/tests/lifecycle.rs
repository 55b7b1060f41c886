//! Tests that a cluster starts, serves, ends, and leaves nothing behind after any kind of end.
//!
//! This is a separate test binary (`harness = false`). A cluster is made of copies of the
//! executable that starts it. That executable must first call [`reexec`] to find its role.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use embedded_cluster::supervisor::{EmbeddedCluster, LastingCluster, LastingError, Options, reexec};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use libtest_mimic::{Arguments, Trial};

/// Argument with which this binary starts a cluster, prints its process ID, and waits to be killed.
const HOLD: &str = "__hold-a-cluster";
/// The deadline for noticing a death. It usually takes milliseconds, and longer on a busy machine.
const NOTICED: Duration = Duration::from_secs(5);
/// The deadline for the kernel to remove a killed cluster's processes.
const REMOVAL: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    reexec();
    if std::env::args().nth(1).as_deref() == Some(HOLD) {
        hold();
    }
    let trials = vec![
        trial("starts_serves_and_stops", starts_serves_and_stops),
        trial("two_at_once_do_not_meet", two_at_once_do_not_meet),
        trial(
            "a_request_without_the_token_is_unauthorized",
            a_request_without_the_token_is_unauthorized,
        ),
        trial(
            "sigkill_of_the_host_program_leaves_nothing",
            sigkill_of_the_host_program_leaves_nothing,
        ),
        trial(
            "a_lasting_cluster_goes_up_and_down",
            a_lasting_cluster_goes_up_and_down,
        ),
        trial(
            "a_killed_lasting_cluster_is_noticed",
            a_killed_lasting_cluster_is_noticed,
        ),
        trial(
            "whatever_part_is_killed_the_death_is_noticed_at_once",
            whatever_part_is_killed_the_death_is_noticed_at_once,
        ),
        trial(
            "a_node_without_descriptors_blames_the_node",
            a_node_without_descriptors_blames_the_node,
        ),
        trial(
            "the_limit_of_open_files_is_raised_or_named",
            the_limit_of_open_files_is_raised_or_named,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &'static str, body: fn(&Path)) -> Trial {
    Trial::test(name, move || {
        let images = tempfile::tempdir().map_err(|e| e.to_string())?;
        let before = interfaces();
        body(images.path());
        assert_eq!(interfaces(), before, "network interfaces of the host changed");
        Ok(())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

async fn start(name: &str, images: &Path) -> EmbeddedCluster {
    EmbeddedCluster::start(Options::new(name, images))
        .await
        .expect("the cluster starts")
}

fn starts_serves_and_stops(images: &Path) {
    runtime().block_on(async {
        let cluster = start("one", images).await;
        let pid = cluster.pid();
        let namespaces = Api::<Namespace>::all(cluster.client());
        assert_eq!(
            namespaces
                .get("default")
                .await
                .expect("the default namespace")
                .metadata
                .name
                .as_deref(),
            Some("default")
        );
        assert!(!descendants(pid).is_empty());
        let died = cluster.died();
        cluster.stop().await;
        assert_eq!(descendants(pid), Vec::<u32>::new());
        // A requested end is not a death.
        assert!(tokio::time::timeout(NOTICED / 10, died).await.is_err());
    });
}

fn two_at_once_do_not_meet(images: &Path) {
    runtime().block_on(async {
        let (one, two) = tokio::join!(start("one", images), start("two", images));
        let mark: Namespace =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "mark"}})).expect("plain");
        Api::<Namespace>::all(one.client())
            .create(&Default::default(), &mark)
            .await
            .expect("created");
        let seen = Api::<Namespace>::all(two.client())
            .get_opt("mark")
            .await
            .expect("asked");
        assert!(seen.is_none(), "the second cluster sees the first one's objects");
        tokio::join!(one.stop(), two.stop());
    });
}

fn a_request_without_the_token_is_unauthorized(images: &Path) {
    runtime().block_on(async {
        let cluster = start("one", images).await;
        let mut kubeconfig = cluster.access().kubeconfig();
        kubeconfig.auth_infos[0].auth_info = Some(Default::default());
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .expect("a config");
        let stranger = kube::Client::try_from(config).expect("a client");
        let refused = Api::<Namespace>::all(stranger).list(&Default::default()).await;
        let Err(kube::Error::Api(status)) = refused else {
            panic!("expected a Status, got {refused:?}")
        };
        assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));
        cluster.stop().await;
    });
}

fn sigkill_of_the_host_program_leaves_nothing(images: &Path) {
    let own = std::env::current_exe().expect("this binary");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mut holder = Command::new(own)
        .arg(HOLD)
        .arg(images)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawned");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let supervisor: u32 = line
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("expected a process ID, got {line:?}"));
    let before = descendants(supervisor);
    assert!(!before.is_empty(), "the supervisor has no PID 1");

    holder.kill().expect("killed");
    holder.wait().expect("reaped");
    let deadline = Instant::now() + REMOVAL;
    while before.iter().chain([&supervisor]).any(|pid| alive(*pid)) {
        assert!(
            Instant::now() < deadline,
            "still running: {:?}",
            descendants(supervisor)
        );
        std::thread::yield_now();
    }
    assert_eq!(
        std::fs::read_to_string("/proc/self/mounts").expect("mounts"),
        mounts
    );
}

fn a_lasting_cluster_goes_up_and_down(images: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = LastingCluster::named("kept", directory.path());
    let options = Options::new("kept", images);
    cluster.up(&options).expect("up");
    let pid = cluster.pid().expect("it runs");
    assert!(matches!(cluster.up(&options), Err(LastingError::Running { .. })));
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(cluster.kubeconfig()).expect("a kubeconfig"));
    assert_eq!(mode & 0o777, 0o600);
    let pid = u32::try_from(pid).expect("positive");
    let inside = descendants(pid);
    cluster.down().expect("down");
    assert!(!inside.iter().any(|pid| alive(*pid)), "processes are left");
    assert!(!directory.path().join("kept").exists(), "files are left");
    assert!(matches!(cluster.down(), Err(LastingError::NotRunning(_))));
}

fn a_killed_lasting_cluster_is_noticed(images: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = LastingCluster::named("kept", directory.path());
    let options = Options::new("kept", images);
    let vital = cluster.up(&options).expect("up");
    kill(u32::try_from(cluster.pid().expect("it runs")).expect("positive"));
    let death = runtime().block_on(async { tokio::time::timeout(NOTICED, vital.died()).await });
    assert_eq!(death.expect("noticed").cause, "was killed by SIGKILL");
    assert_eq!(cluster.pid(), None);
    cluster
        .up(&options)
        .expect("up again over what the dead one left");
    cluster.down().expect("down");
}

/// Kills the supervisor, its first process, and the process that starts containers, one at a time.
fn whatever_part_is_killed_the_death_is_noticed_at_once(images: &Path) {
    let first = |supervisor: u32| descendants(supervisor)[0];
    let helper = |supervisor: u32| {
        let is_helper = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains("__embedded-cluster-container"))
        };
        descendants(supervisor)
            .into_iter()
            .find(is_helper)
            .expect("a helper")
    };
    let parts: [(&str, &dyn Fn(u32) -> u32); 3] = [
        ("supervisor", &|supervisor| supervisor),
        ("first process", &first),
        ("container helper", &helper),
    ];
    for (part, victim) in parts {
        runtime().block_on(async {
            let cluster = start("mortal", images).await;
            let all = descendants(cluster.pid());
            kill(victim(cluster.pid()));
            let death = tokio::time::timeout(NOTICED, cluster.died()).await;
            let death = death.unwrap_or_else(|_| panic!("the death of the {part} was not noticed"));
            assert_eq!(
                (death.part.as_str(), death.cause.as_str()),
                (part, "was killed by SIGKILL")
            );
            assert!(
                !all.into_iter().any(alive),
                "something lives on without the {part}"
            );
        });
    }
}

/// Checks that a lack of descriptors is reported as a fault of the node, not of the pod or chart.
fn a_node_without_descriptors_blames_the_node(images: &Path) {
    runtime().block_on(async {
        let cluster = start("exhausted", images).await;
        let first = descendants(cluster.pid())[0];
        let pods = Api::<k8s_openapi::api::core::v1::Pod>::default_namespaced(cluster.client());
        // Opens the connection now: later, the API has no descriptor left to accept one.
        pods.list(&Default::default()).await.expect("listed");
        let status = Command::new("prlimit")
            .args([&format!("--pid={first}"), "--nofile=8:8"])
            .status();
        assert!(status.expect("prlimit is part of util-linux").success());
        let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {"nodeName": "embedded-node",
            "containers": [{"name": "c", "image": "example.com/none:1"}]}});
        let pod = serde_json::from_value(pod).expect("plain");
        pods.create(&Default::default(), &pod).await.expect("created");
        let death = tokio::time::timeout(NOTICED, cluster.died())
            .await
            .expect("noticed");
        assert_eq!(death.part, "node", "{death}");
        assert!(death.cause.contains("ran out of file descriptors"), "{death}");
    });
}

fn the_limit_of_open_files_is_raised_or_named(images: &Path) {
    let own = std::env::current_exe().expect("this binary");
    let holder = |limit: &str| {
        let mut holder = Command::new("sh");
        holder.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"]);
        holder.arg(&own).arg(HOLD).arg(images);
        holder.stdout(Stdio::piped()).stderr(Stdio::piped());
        holder.spawn().expect("spawned")
    };
    let mut few = holder("-S -n 64");
    let mut line = String::new();
    BufReader::new(few.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let supervisor: u32 = line.trim().parse().expect("its process ID");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", descendants(supervisor)[0]));
    let limits = limits.expect("it runs");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("listed");
    let numbers: Vec<&str> = files
        .split_whitespace()
        .filter(|word| word.parse::<u64>().is_ok())
        .collect();
    assert_eq!(numbers[0], numbers[1], "{files}");
    few.kill().expect("killed");
    few.wait().expect("reaped");

    let output = holder("-n 20").wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Files { allowed: 20, needed: 256 }"), "{said}");
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process ID fits a pid_t"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
}

/// Starts a cluster, prints its supervisor's process ID, and waits for the end.
fn hold() -> ! {
    let images = PathBuf::from(std::env::args_os().nth(2).expect("an image store"));
    runtime().block_on(async {
        let cluster = start("held", &images).await;
        println!("{}", cluster.pid());
        std::future::pending::<()>().await;
    });
    unreachable!("pending never ends")
}

/// Returns all processes below `pid`, by the kernel's list of children.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        let mut children = String::new();
        if let Ok(mut file) = std::fs::File::open(format!("/proc/{parent}/task/{parent}/children")) {
            file.read_to_string(&mut children).expect("readable");
        }
        open.extend(
            children
                .split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
        if parent != pid {
            found.push(parent);
        }
    }
    found
}

/// Returns true if the process exists and is not a zombie.
fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}

/// Returns the names of the host's network interfaces.
fn interfaces() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/dev").expect("readable");
    text.lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}
