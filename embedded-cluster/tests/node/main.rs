//! Tests of the node with real containers. Each trial follows one pod through the API. Most trials
//! share one cluster.
//!
//! This is a separate test binary (`harness = false`). A cluster is made of copies of the
//! executable that starts it. The image consists of this machine's shell and tools.

mod confinement;
mod containers;
mod delays;
mod endings;
#[path = "../host_image/mod.rs"]
mod host_image;
mod pods;
mod volumes;

use std::process::ExitCode;
use std::sync::OnceLock;

use embedded_cluster::delays::Delays;
use embedded_cluster::supervisor::{EmbeddedCluster, Options, reexec};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    reexec();
    // The workspace's dependencies contain two providers, so the client needs an explicit choice.
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
            let mut options = Options::new("node-tests", &images);
            options.delays = Delays::short();
            runtime
                .block_on(EmbeddedCluster::start(options))
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
        volumes::volumes_from_the_api_are_read_only,
        volumes::a_config_volume_cannot_be_turned_against_the_host,
        volumes::a_sub_path_that_leads_out_makes_nothing_on_the_host,
        volumes::a_sub_path_is_writable_where_its_volume_is,
        confinement::devices_can_be_neither_made_nor_opened,
        confinement::capabilities_that_reach_the_host_are_refused,
        confinement::volumes_of_the_image_are_writable,
        delays::post_start_comes_before_running_and_ready,
    ];
    // These tests start separate clusters.
    macro_rules! alone {
        ($($file:ident::$name:ident),* $(,)?) => {$({
            let images = dir.path().to_owned();
            trials.push(Trial::test(stringify!($name), move || {
                runtime.block_on($file::$name(images))
            }));
        })*};
    }
    alone![
        delays::mounted_objects_follow_at_the_next_sync,
        confinement::no_cgroup_outlives_its_cluster,
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    let code = conclusion.exit_code();
    drop(dir);
    // The cluster is a child of this process and ends with it.
    if let Some(cluster) = CLUSTER.get()
        && conclusion.num_failed > 0
    {
        eprintln!("{}", cluster.log());
    }
    code
}
