//! The node on real containers: each trial is a pod's story, told by the API. All share one cluster.
//!
//! A test binary of its own (`harness = false`), since a cluster is made of copies of the executable that starts
//! it. The image is made from this machine's own shell and tools.

mod containers;
mod endings;
#[path = "../host_image/mod.rs"]
mod host_image;
mod support;

use std::process::ExitCode;
use std::sync::OnceLock;

use embedded_cluster::supervisor::{EmbeddedCluster, Options, reexec};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    reexec();
    // The workspace's dependencies bring two providers, and the client must be told which one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let arguments = Arguments::from_args();
    let dir = tempfile::tempdir().expect("a temporary directory");
    if !arguments.list {
        host_image::add(dir.path()).expect("an image from this machine's tools");
    }
    let runtime: &'static Runtime = Box::leak(Box::new(Runtime::new().expect("a runtime")));
    static CLUSTER: OnceLock<EmbeddedCluster> = OnceLock::new();
    let images = dir.path().to_owned();
    let client = move || {
        let cluster = CLUSTER.get_or_init(|| {
            runtime
                .block_on(EmbeddedCluster::start(Options::new("node-tests", &images)))
                .expect("the cluster starts")
        });
        cluster.client()
    };
    let mut trials = Vec::new();
    macro_rules! trials {
        ($($file:ident::$name:ident),* $(,)?) => {$({
            let client = client.clone();
            trials.push(Trial::test(stringify!($name), move || {
                let client = client();
                runtime.block_on($file::$name(client))
            }));
        })*};
    }
    trials![
        containers::a_pod_goes_through_the_kubelets_states_and_events,
        containers::the_container_is_who_the_spec_says,
        containers::logs_can_be_followed_to_their_end,
        containers::commands_run_inside_the_container,
        containers::a_port_of_the_pods_loopback_is_forwarded,
        endings::a_crashing_container_restarts_at_once_and_then_backs_off,
        endings::a_probe_that_cannot_run_counts_for_nothing,
        endings::startup_comes_before_readiness,
        endings::a_failed_liveness_probe_restarts_the_container,
        containers::init_containers_and_sidecars_keep_their_order,
        containers::a_missing_secret_is_waited_for_and_a_mounted_one_follows,
        endings::an_image_that_is_not_there_is_said_so,
        endings::deletion_asks_before_it_kills,
        endings::a_job_like_pod_ends,
        endings::what_is_not_supported_is_refused,
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    let code = conclusion.exit_code();
    drop(dir);
    // The cluster is a child of this process, tied to its life.
    if let Some(cluster) = CLUSTER.get()
        && conclusion.num_failed > 0
    {
        eprintln!("{}", cluster.log());
    }
    code
}
