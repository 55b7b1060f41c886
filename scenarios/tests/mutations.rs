//! Deployments that are broken on purpose. Each must fail, for the reason that it was broken for: a suite that passes
//! everything proves nothing.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use harness::release::Bundle;
use harness::report::Outcome;
use harness::trial::placement::PodSecurity;
use harness::trial::{Context, TrialId};
use kube::ResourceExt;
use libtest_mimic::{Arguments, Failed};
use manifests::{Mode, Variant};
use scenarios::registry::Trial;
use scenarios::scenario::{Scenario, Start, everywhere, nothing};
use scenarios::shared::{SharedSession, THREADS};

#[path = "mutations/broken.rs"]
mod broken;
#[path = "mutations/finding.rs"]
mod finding;
#[path = "mutations/operations.rs"]
mod operations;
#[path = "mutations/parts.rs"]
mod parts;

use finding::Finding;

/// How long the acts of a deployment that cannot succeed are waited for: long enough for six servers to start on a busy
/// machine and for the hook to say what it waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A deployment that is broken in one way.
#[derive(Clone, Copy)]
struct Mutation {
    scenario: Scenario,
    mode: Mode,
    variant: Variant,
    /// Whether it is known that the deployment never gets anywhere.
    hopeless: bool,
    finding: Finding,
}

/// Makes a [`Mutation`] of a function over the rendered objects, or of an `operation` that goes wrong.
macro_rules! mutation {
    ($function:ident, $mode:ident, $variant:ident, $hopeless:expr, $finding:expr) => {
        mutation!(@ $function, $mode, $variant, $hopeless, $finding, |context| Box::pin(deploy(
            context,
            broken::$function
        )))
    };
    (operation $function:ident, $mode:ident, $variant:ident, $hopeless:expr, $finding:expr) => {
        mutation!(@ $function, $mode, $variant, $hopeless, $finding, |context| Box::pin(
            operations::$function(context)
        ))
    };
    (@ $function:ident, $mode:ident, $variant:ident, $hopeless:expr, $finding:expr, $body:expr) => {
        Mutation {
            scenario: Scenario {
                name: stringify!($function),
                fits: everywhere,
                lacks: nothing,
                start: Start::Whenever,
                body: $body,
            },
            mode: Mode::$mode,
            variant: Variant::$variant,
            hopeless: $hopeless,
            finding: $finding,
        }
    };
}

const HOPELESS: bool = true;
const RUNS: bool = false;

const MUTATIONS: [Mutation; 27] = [
    mutation!(
        operation password_changed_behind,
        Standalone,
        Rpm,
        HOPELESS,
        Finding::Checks(
            &["reachability"],
            "a server has refused the release's password for 10 s"
        )
    ),
    mutation!(
        operation key_deleted,
        Standalone,
        Rpm,
        RUNS,
        Finding::Checks(&["data"], "slots 5 (1): expected every acknowledged key")
    ),
    mutation!(
        operation lifetime_removed,
        Standalone,
        Rpm,
        RUNS,
        Finding::Checks(&["data"], "1 keys immortal")
    ),
    mutation!(
        operation rebalance_skipped,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Checks(
            &["cluster_state", "topology", "balance"],
            "primaries with slots: expected 4, saw 3"
        )
    ),
    mutation!(
        operation slot_emptied,
        Cluster,
        Rpm,
        RUNS,
        Finding::Because {
            checks: &["data"],
            says: &["slots 5 (1): expected every acknowledged key", "vk-percona-valkey-0 had 5"],
            cause: &["the keys of slots 5 were deleted on vk-percona-valkey-0"],
        }
    ),
    mutation!(
        operation forget_skipped,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Because {
            checks: &["cluster_state", "slot_coverage", "forgotten"],
            says: &["to be forgotten everywhere"],
            cause: &["were not forgotten (CLUSTER FORGET)", "vk-percona-valkey-6", "vk-percona-valkey-7"],
        }
    ),
    mutation!(
        operation fix_too_early,
        Cluster,
        Rpm,
        RUNS,
        Finding::Because {
            checks: &["data"],
            // A slot whose keys have outlived their lifetimes by then has lost nothing.
            says: &["slots 8192-", "-12287 (40", "vk-percona-valkey-6 had 8192-"],
            cause: &["slots 8192-", "-12287 were lost", "vk-percona-valkey-6", "is gone", "without the keys"],
        }
    ),
    mutation!(
        operation replica_on_departing_pod,
        Cluster,
        Rpm,
        RUNS,
        Finding::Checks(
            &["step_back"],
            "all are on pods that would leave with it: vk-percona-valkey-7"
        )
    ),
    mutation!(
        operation masterauth_not_rotated,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Because {
            checks: &["replication", "readiness"],
            says: &["it is another one"],
            cause: &["replica vk-percona-valkey-", "masterauth was not rotated", "WRONGPASS"],
        }
    ),
    mutation!(
        operation scale_job_hides_its_failure,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Because {
            checks: &["cluster_state", "topology", "balance"],
            says: &["primaries with slots: expected 4, saw 3", "vk-percona-valkey-6"],
            cause: &["the hook vk-percona-valkey-cluster-scale ended with success", "the slots could not be moved"],
        }
    ),
    mutation!(
        operation drain_job_hides_its_failure,
        Cluster,
        Rpm,
        RUNS,
        Finding::Because {
            checks: &["drain"],
            says: &["vk-percona-valkey-6", "it owns slots 8192-12287 (4096)"],
            cause: &["the hook vk-percona-valkey-cluster-drain ended with success", "the slots could not be moved"],
        }
    ),
    mutation!(
        without_masterauth,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Cause(&["replica", "masterauth missing"])
    ),
    mutation!(
        wrong_announce_address,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Cause(&["announces the address 192.0.2.1", "but the pod has 10."])
    ),
    mutation!(
        hidden_until_ready,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Cause(&["vk-percona-valkey-headless", "publishNotReadyAddresses"])
    ),
    mutation!(
        init_job_waits_for_a_pod_too_many,
        Cluster,
        Rpm,
        HOPELESS,
        Finding::Cause(&["waits for pod vk-percona-valkey-6", "absent"])
    ),
    mutation!(
        server_with_unknown_directive,
        Standalone,
        Rpm,
        HOPELESS,
        Finding::Cause(&[
            "vk-percona-valkey-0 crashes at start with exit code 1",
            "no-such-directive"
        ])
    ),
    mutation!(
        image_that_does_not_exist,
        Standalone,
        Rpm,
        HOPELESS,
        Finding::Cause(&["vk-percona-valkey-0", "perconalab/valkey:0.0.0-none"])
    ),
    mutation!(
        probe_through_a_shell,
        Standalone,
        Hardened,
        HOPELESS,
        Finding::Cause(&[
            "readiness probe of pod vk-percona-valkey-0 cannot run \"sh\"",
            "no shell"
        ])
    ),
    mutation!(
        service_with_unknown_port_name,
        Standalone,
        Rpm,
        RUNS,
        Finding::Cause(&["Service vk-percona-valkey sends clients to the port \"redis\""])
    ),
    mutation!(
        job_pods_in_service,
        Cluster,
        Rpm,
        RUNS,
        Finding::Checks(
            &["services", "disruption_budget"],
            "it also selects the pod of Job"
        )
    ),
    mutation!(
        budget_for_job_pods,
        Cluster,
        Rpm,
        RUNS,
        Finding::Checks(&["disruption_budget"], "cluster-init")
    ),
    mutation!(
        primaries_only,
        Cluster,
        Rpm,
        RUNS,
        Finding::Checks(
            &["cluster_state", "topology", "balance"],
            "primaries with slots: expected 3, saw 6"
        )
    ),
    mutation!(
        without_tmpfs,
        Standalone,
        Hardened,
        RUNS,
        Finding::Checks(&["security"], "/tmp")
    ),
    mutation!(
        writable_root,
        Standalone,
        Hardened,
        RUNS,
        Finding::Checks(&["security"], "read-only")
    ),
    mutation!(
        runs_as_another_user,
        Standalone,
        Rpm,
        RUNS,
        Finding::Checks(&["security"], "1234")
    ),
    mutation!(
        data_without_claim,
        Standalone,
        Rpm,
        RUNS,
        Finding::Checks(&["persistence"], "EmptyDir")
    ),
    mutation!(
        server_without_password,
        Standalone,
        Rpm,
        HOPELESS,
        Finding::Checks(&["reachability", "readiness"], "the server has none configured")
    ),
];

fn main() -> ExitCode {
    embedded_cluster::supervisor::reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let shared = Arc::new(SharedSession::new(env!("CARGO_TARGET_TMPDIR")));
    let tests = MUTATIONS
        .into_iter()
        .map(|mutation| {
            let shared = shared.clone();
            libtest_mimic::Trial::test(mutation.scenario.name, move || run(&shared, mutation))
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, tests);
    if let Some(shared) = Arc::into_inner(shared) {
        shared.finish();
    }
    conclusion.exit_code()
}

/// Installs what is rendered, broken by `breakage`, and looks at everything that the scenarios look at.
async fn deploy(context: &mut Context, breakage: fn(&mut Bundle)) -> Result<()> {
    let values = context.values();
    let mut bundle = context.render(&values)?;
    breakage(&mut bundle);
    context.install_bundle(values, bundle).await?;
    context.healthy().await?;
    context.verify_objects().await?;
    if let Some(pod) = context.server_pods().await?.first() {
        context.verify_security(&pod.name_any()).await?;
    }
    Ok(())
}

fn run(shared: &SharedSession, mutation: Mutation) -> Result<(), Failed> {
    let Mutation {
        scenario,
        mode,
        variant,
        hopeless,
        finding,
    } = mutation;
    let id = TrialId {
        suite: "mutations",
        scenario: scenario.name,
        mode,
        variant,
    };
    let report = shared.run(&Trial { id, scenario }, |environment| {
        // The checks are to find what is wrong, before admission does.
        environment.placement.pod_security = PodSecurity::Privileged;
        if hopeless {
            environment.deadlines.hook = PATIENCE;
            environment.deadlines.healthy = PATIENCE;
        }
    })?;
    match report.outcome {
        Outcome::Failed { cause, message } => finding.judge(cause.as_deref().unwrap_or_default(), &message),
        other => Err(format!("must fail, and did not: {other:?}").into()),
    }
}
