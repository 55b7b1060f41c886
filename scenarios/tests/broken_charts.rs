//! Copies of the example chart that are broken on purpose, each by a patch in `testdata/broken`, deployed through `helm`.
//! Each must fail, with the finding that names what the patch has broken, and none may wait for what cannot come.
//!
//! Skipped, with the reason, where `helm` is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::release::chart::{Chart, Helm};
use harness::report::Outcome;
use harness::trial::run::Body;
use harness::trial::{Context, TrialId};
use kube::ResourceExt;
use libtest_mimic::{Arguments, Completion, Failed};
use manifests::values::Overrides;
use manifests::{Mode, Variant};
use scenarios::conformance;
use scenarios::registry::Trial;
use scenarios::scenario::{Scenario, Start, everywhere, nothing};
use scenarios::shared::SharedSession;

#[path = "mutations/finding.rs"]
mod finding;

use finding::Finding;

/// How many run at a time.
const THREADS: usize = 4;

/// How long all acts of a trial may take: what cannot heal is recognised, not waited for until a deadline, which is two
/// minutes for a hook and one for becoming healthy.
const RECOGNISED: Duration = Duration::from_secs(50);

/// A broken copy.
#[derive(Clone, Copy)]
struct Broken {
    /// The patch's name.
    patch: &'static str,
    mode: Mode,
    variant: Variant,
    act: Act,
    finding: Finding,
}

/// What is done with it.
#[derive(Clone, Copy)]
enum Act {
    /// It is installed, and everything is looked at.
    Deploy,
    /// It is upgraded without a password.
    Upgrade,
    /// The cases of a parameter are rendered.
    Parameter(&'static str),
}

const fn deploy(patch: &'static str, mode: Mode, variant: Variant, finding: Finding) -> Broken {
    let act = Act::Deploy;
    Broken {
        patch,
        mode,
        variant,
        act,
        finding,
    }
}

const fn parameter(patch: &'static str, name: &'static str, says: &'static [&'static str]) -> Broken {
    let (mode, variant) = (Mode::Standalone, Variant::Rpm);
    Broken {
        patch,
        mode,
        variant,
        act: Act::Parameter(name),
        finding: Finding::Says(says),
    }
}

const BROKEN: [Broken; 30] = [
    deploy(
        "no-masterauth",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&["replica", "masterauth missing"]),
    ),
    deploy(
        "probe-through-a-shell",
        Mode::Standalone,
        Variant::Hardened,
        Finding::Cause(&[
            "readiness probe of pod vk-percona-valkey-0 cannot run \"sh\"",
            "no shell",
        ]),
    ),
    Broken {
        patch: "secret-regenerated",
        mode: Mode::Standalone,
        variant: Variant::Rpm,
        act: Act::Upgrade,
        finding: Finding::Checks(&["password"], "to keep its generated password over an upgrade"),
    },
    deploy(
        "hidden-until-ready",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&["vk-percona-valkey-headless", "publishNotReadyAddresses"]),
    ),
    deploy(
        "init-at-upgrade",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-cluster-init",
            "runs at post-upgrade and not at post-install",
        ]),
    ),
    deploy(
        "init-swallows-failure",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-cluster-init has succeeded",
            "hides its failure",
        ]),
    ),
    deploy(
        "unknown-port-name",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&["Service vk-percona-valkey sends clients to the port \"redis\""]),
    ),
    deploy(
        "no-tmpfs",
        Mode::Standalone,
        Variant::Hardened,
        Finding::Checks(&["security"], "/tmp"),
    ),
    deploy(
        "job-pods-in-service",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Checks(
            &["services", "disruption_budget"],
            "it also selects the pod of Job",
        ),
    ),
    deploy(
        "budget-for-job-pods",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Checks(&["disruption_budget"], "cluster-init"),
    ),
    deploy(
        "unknown-directive",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-0 crashes at start with exit code 1",
            "no-such-directive",
        ]),
    ),
    deploy(
        "tool-image-without-tag",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&["cannot have its image perconalab/valkey:9.0.3-tools"]),
    ),
    deploy(
        "wrong-secret-key",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&[
            "the container valkey of pod vk-percona-valkey-0 cannot be made",
            "couldn't find key password",
        ]),
    ),
    deploy(
        "does-not-render",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Says(&[
            "helm template failed",
            "statefulset.yaml",
            "nil pointer evaluating",
        ]),
    ),
    deploy(
        "refused-by-the-api",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Says(&[
            "StatefulSet",
            "vk-percona-valkey",
            "containers[0].ports[0].containerPort",
            "637900",
        ]),
    ),
    deploy(
        "missing-service-account",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&["ServiceAccount vk-percona-valkey-server, which does not exist"]),
    ),
    deploy(
        "missing-config-map",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&[
            "Pod vk-percona-valkey-0 needs the ConfigMap vk-percona-valkey-config, which does not exist",
        ]),
    ),
    deploy(
        "unknown-storage-class",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&[
            "PersistentVolumeClaim data-vk-",
            "needs the StorageClass gold, which does not exist",
        ]),
    ),
    deploy(
        "listens-elsewhere",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&[
            "the startup probe of pod vk-percona-valkey-0 has never succeeded",
            "Connection refused",
        ]),
    ),
    deploy(
        "no-requirepass",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&[
            "does not have the release's password",
            "the server has none configured",
        ]),
    ),
    deploy(
        "readiness-asks-another-port",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&[
            "the readiness probe of pod vk-percona-valkey-0 fails although its server serves",
            "6380",
        ]),
    ),
    deploy(
        "service-selects-nothing",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Cause(&["Service vk-percona-valkey selects pods with app.kubernetes.io/role=primary"]),
    ),
    deploy(
        "wrong-service-name",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&[
            "serviceName \"vk-percona-valkey-nodes\"",
            "there is vk-percona-valkey-headless",
        ]),
    ),
    deploy(
        "init-before-install",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-cluster-init runs at pre-install",
            "before there is any server",
        ]),
    ),
    deploy(
        "init-never-ends",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-cluster-init",
            "has not ended",
            "waiting for a sign",
        ]),
    ),
    deploy(
        "init-crashes",
        Mode::Cluster,
        Variant::Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-cluster-init",
            "crashes again and again",
            "--clster",
        ]),
    ),
    deploy(
        "no-servers",
        Mode::Standalone,
        Variant::Rpm,
        Finding::Says(&["the chart renders no StatefulSet"]),
    ),
    parameter(
        "ignored-parameter",
        "image.pullPolicy",
        &[
            "image.pullPolicy: StatefulSet",
            "containers[valkey].imagePullPolicy: expected \"Always\", found no change",
        ],
    ),
    parameter(
        "no-checksum",
        "config.maxmemory",
        &["annotations[checksum/config]: expected another value than before, found no change"],
    ),
    parameter(
        "scaling-restarts",
        "cluster.replicas",
        &[
            "cluster.replicas: StatefulSet spec.template.metadata.annotations.replicas: expected no change, found \"8\" where it was \"6\"",
        ],
    ),
];

fn main() -> ExitCode {
    embedded_cluster::supervisor::reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let shared = Arc::new(SharedSession::new(env!("CARGO_TARGET_TMPDIR")));
    let helm = shared
        .runtime()
        .block_on(Helm::find())
        .map_err(|error| error.to_string());
    let mut tests = vec![
        libtest_mimic::Trial::test("every_patch_has_a_finding", every_patch_has_a_finding),
        libtest_mimic::Trial::test(WITHOUT_HELM, without_helm_each_is_listed_as_ignored),
    ];
    // nextest believes the list: what only turns out to be ignored when it is run has passed for it.
    let listed_as_ignored = arguments.list && helm.is_err();
    tests.extend(BROKEN.into_iter().map(|broken| {
        let (shared, helm) = (shared.clone(), helm.clone());
        libtest_mimic::Trial::ignorable_test(broken.patch, move || match &helm {
            Ok(helm) => run(&shared, helm, broken).map(|()| Completion::Completed),
            Err(reason) => Ok(Completion::ignored_with(reason.clone())),
        })
        .with_ignored_flag(listed_as_ignored)
    }));
    let conclusion = libtest_mimic::run(&arguments, tests);
    if let Some(shared) = Arc::into_inner(shared) {
        shared.finish();
    }
    conclusion.exit_code()
}

fn every_patch_has_a_finding() -> Result<(), Failed> {
    for entry in std::fs::read_dir(testdata().join("broken"))? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !BROKEN.iter().any(|broken| broken.patch == name) {
            return Err(format!("{} is used by no test", path.display()).into());
        }
    }
    Ok(())
}

const WITHOUT_HELM: &str = "without_helm_each_is_listed_as_ignored";

fn without_helm_each_is_listed_as_ignored() -> Result<(), Failed> {
    let listed = std::process::Command::new(std::env::current_exe()?)
        .args(["--list", "--format", "terse", "--ignored"])
        .env("PATH", "")
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let missing = BROKEN.iter().find(|broken| {
        !listed
            .lines()
            .any(|line| line == format!("{}: test", broken.patch))
    });
    match missing {
        None => Ok(()),
        Some(broken) => Err(format!("{} is not listed as ignored: {listed:?}", broken.patch).into()),
    }
}

fn run(shared: &SharedSession, helm: &Helm, broken: Broken) -> Result<(), Failed> {
    let copy = broken_copy(broken.patch).map_err(|error| format!("{error:#}"))?;
    let chart =
        Chart::open(copy.path(), helm.clone(), Overrides::default())?.on_cluster(&shared.kubeconfig()?)?;
    let report = shared.run(&trial(broken)?, |environment| {
        environment.chart = Some(Arc::new(chart));
    })?;
    let acted = Duration::from_millis(report.steps.iter().map(|step| step.duration_ms).sum());
    if acted > RECOGNISED {
        return Err(format!(
            "recognised only after {} s: {:?}",
            acted.as_secs(),
            report.outcome
        )
        .into());
    }
    match report.outcome {
        Outcome::Failed { cause, message } => broken
            .finding
            .judge(cause.as_deref().unwrap_or_default(), &message),
        other => Err(format!("must fail, and did not: {other:?}").into()),
    }
}

fn trial(broken: Broken) -> Result<Trial, Failed> {
    let body: Body = match broken.act {
        Act::Deploy => |context| Box::pin(look_at_everything(context)),
        Act::Upgrade => |context| Box::pin(upgrade(context)),
        Act::Parameter(name) => {
            let wanted = |trial: &Trial| trial.id.scenario.ends_with(&format!("::{name}"));
            let found = conformance::trials().into_iter().find(wanted);
            return found.ok_or_else(|| format!("{name} has no case").into());
        }
    };
    let (name, mode, variant) = (broken.patch, broken.mode, broken.variant);
    let id = TrialId {
        suite: "broken",
        scenario: name,
        mode,
        variant,
    };
    let scenario = Scenario {
        name,
        fits: everywhere,
        lacks: nothing,
        start: Start::Whenever,
        body,
    };
    Ok(Trial { id, scenario })
}

async fn look_at_everything(context: &mut Context) -> Result<()> {
    context.install(context.values()).await?;
    context.healthy().await?;
    context.verify_objects().await?;
    if let Some(pod) = context.server_pods().await?.first() {
        context.verify_security(&pod.name_any()).await?;
    }
    Ok(())
}

async fn upgrade(context: &mut Context) -> Result<()> {
    context
        .verify_generated_password_is_kept(context.values())
        .await?;
    Ok(())
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// A copy of the example chart, with a patch applied.
fn broken_copy(patch: &str) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir().context("make a folder")?;
    copy_folder(&testdata().join("chart"), copy.path())?;
    let patch = testdata().join("broken").join(format!("{patch}.patch"));
    let applied = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .arg(&patch)
        .current_dir(copy.path())
        .env_remove("GIT_DIR")
        .output()
        .context("run git")?;
    ensure!(
        applied.status.success(),
        "{}: {}",
        patch.display(),
        String::from_utf8_lossy(&applied.stderr)
    );
    Ok(copy)
}

/// Copies what is in a folder, links as what they lead to.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("an entry has a name")?);
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}
