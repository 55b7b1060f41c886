//! One real failure for each rule of the triage: a deployment that is made to fail, the evidence that its trial keeps, and the
//! sentence that is read of it. With `UPDATE_EVIDENCE=1`, what the triage read is put into `harness/testdata/evidence`, where the
//! triage's own test finds it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::diagnostics::{self, Evidence, GIST_FILE};
use harness::report::Outcome;
use harness::trial::TrialId;
use harness::trial::placement::PodSecurity;
use harness::trial::run::Body;
use libtest_mimic::{Arguments, Failed};
use manifests::{Mode, Variant};
use scenarios::registry::Trial;
use scenarios::scenario::{Scenario, Start, everywhere, nothing};
use scenarios::shared::{SharedSession, THREADS};

#[expect(dead_code, reason = "the mutations' own test uses the others")]
#[path = "mutations/broken.rs"]
mod broken;
#[path = "evidence/failures.rs"]
mod failures;
#[expect(dead_code, reason = "the mutations' own test uses the others")]
#[path = "mutations/operations.rs"]
mod operations;
#[path = "mutations/parts.rs"]
mod parts;

/// How long the acts of a deployment that cannot succeed are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The rules whose failures the harness recognises by itself, by watching for a while: it is given its own deadlines.
const WATCHED: [&str; 2] = ["server_never_starts", "readiness_probe_fails"];

/// A failure that one rule of the triage knows.
#[derive(Clone, Copy)]
struct Failure {
    /// The rule's name.
    rule: &'static str,
    mode: Mode,
    variant: Variant,
    body: Body,
}

/// A [`Failure`] of what is rendered, broken by a function, or of a story of its own.
macro_rules! failure {
    ($rule:literal, $mode:ident, $variant:ident, breaks $breakage:path) => {
        failure!($rule, $mode, $variant, |context| Box::pin(failures::deploy(
            context, $breakage
        )))
    };
    ($rule:literal, $mode:ident, $variant:ident, plays $story:path) => {
        failure!($rule, $mode, $variant, |context| Box::pin($story(context)))
    };
    ($rule:literal, $mode:ident, $variant:ident, $body:expr) => {
        Failure {
            rule: $rule,
            mode: Mode::$mode,
            variant: Variant::$variant,
            body: $body,
        }
    };
}

const FAILURES: [Failure; 29] = [
    failure!("admission_refuses", Standalone, Rpm, breaks failures::may_gain_privileges),
    failure!("something_is_missing", Standalone, Rpm, breaks failures::configuration_that_nobody_makes),
    failure!("image_cannot_be_had", Standalone, Rpm, breaks broken::image_that_does_not_exist),
    failure!("container_cannot_be_made", Standalone, Rpm, breaks failures::password_under_another_key),
    failure!("server_crashes", Standalone, Rpm, breaks broken::server_with_unknown_directive),
    failure!("pod_fits_nowhere", Standalone, Rpm, breaks failures::wants_another_node),
    failure!("volume_claim_is_unbound", Cluster, Rpm, plays failures::one_claim_of_no_class),
    failure!("probe_needs_what_the_image_lacks", Standalone, Hardened, breaks broken::probe_through_a_shell),
    failure!("server_never_starts", Standalone, Rpm, breaks failures::listens_elsewhere),
    failure!("names_are_not_published", Cluster, Rpm, breaks broken::hidden_until_ready),
    failure!("cluster_cannot_be_formed", Cluster, Rpm, breaks failures::named_by_another_service),
    failure!("service_port_does_not_exist", Standalone, Rpm, breaks broken::service_with_unknown_port_name),
    failure!("service_selects_no_server", Standalone, Rpm, breaks failures::service_selects_nothing),
    failure!("job_pods_in_service", Cluster, Rpm, breaks broken::job_pods_in_service),
    failure!("replicas_cannot_authenticate", Cluster, Rpm, breaks broken::without_masterauth),
    failure!("password_is_refused", Standalone, Rpm, breaks broken::server_without_password),
    failure!("announces_wrong_address", Cluster, Rpm, breaks broken::wrong_announce_address),
    failure!("server_cannot_write", Standalone, Rpm, plays failures::snapshot_in_the_way),
    failure!("replica_has_a_stale_password", Cluster, Rpm, plays operations::masterauth_not_rotated),
    failure!("slots_are_uncovered", Cluster, Rpm, plays failures::shard_deleted),
    failure!("slots_are_unassigned", Cluster, Rpm, plays failures::slot_dropped),
    failure!("hook_waits", Cluster, Rpm, breaks broken::init_job_waits_for_a_pod_too_many),
    failure!("never_formed", Cluster, Rpm, breaks failures::forms_at_upgrade),
    failure!("readiness_probe_fails", Standalone, Rpm, breaks failures::readiness_asks_another_port),
    failure!("hook_fails", Standalone, Rpm, plays failures::test_asks_nobody),
    failure!("hook_hides_its_failure", Cluster, Rpm, plays operations::scale_job_hides_its_failure),
    failure!("removed_nodes_are_not_forgotten", Cluster, Rpm, plays operations::forget_skipped),
    failure!("primary_has_no_slots", Cluster, Rpm, plays operations::rebalance_skipped),
    failure!("keys_are_gone", Cluster, Rpm, plays operations::slot_emptied),
];

fn main() -> ExitCode {
    embedded_cluster::supervisor::reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let shared = Arc::new(SharedSession::new(env!("CARGO_TARGET_TMPDIR")));
    let mut tests: Vec<libtest_mimic::Trial> = FAILURES
        .into_iter()
        .map(|failure| {
            let shared = shared.clone();
            let test = move || fails(&shared, failure).map_err(|error| Failed::from(format!("{error:#}")));
            libtest_mimic::Trial::test(failure.rule, test)
        })
        .collect();
    tests.push(libtest_mimic::Trial::test("every_rule_has_a_failure", every_rule));
    let conclusion = libtest_mimic::run(&arguments, tests);
    if let Some(shared) = Arc::into_inner(shared) {
        shared.finish();
    }
    conclusion.exit_code()
}

fn every_rule() -> Result<(), Failed> {
    let made: Vec<&str> = FAILURES.iter().map(|failure| failure.rule).collect();
    match diagnostics::rules().find(|rule| !made.contains(rule)) {
        Some(rule) => Err(format!("no failure is made for the rule {rule}").into()),
        None => Ok(()),
    }
}

/// Makes the failure, and reads its evidence as a person would who was sent it.
fn fails(shared: &SharedSession, failure: Failure) -> Result<()> {
    let scenario = Scenario {
        name: failure.rule,
        fits: everywhere,
        lacks: nothing,
        start: Start::Whenever,
        body: failure.body,
    };
    let id = TrialId {
        suite: "evidence",
        scenario: failure.rule,
        mode: failure.mode,
        variant: failure.variant,
    };
    let mut folder = PathBuf::new();
    let report = shared
        .run(&Trial { id, scenario }, |environment| {
            if failure.rule != "admission_refuses" {
                environment.placement.pod_security = PodSecurity::Privileged;
            }
            if !WATCHED.contains(&failure.rule) {
                environment.deadlines.hook = PATIENCE;
                environment.deadlines.healthy = PATIENCE;
            }
            folder.clone_from(&environment.evidence);
        })
        .map_err(anyhow::Error::msg)?;
    let Outcome::Failed { cause, message } = report.outcome else {
        anyhow::bail!("must fail, and did not: {:?}", report.outcome);
    };
    let kept = report.evidence.context("no evidence was kept")?;
    let file = folder
        .join(kept.file_name().context("a folder has a name")?)
        .join(GIST_FILE);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let evidence: Evidence = serde_json::from_str(&text)?;
    let (rule, said) = diagnostics::recognised(&evidence).with_context(|| {
        format!(
            "no rule knows what {} holds; the error: {message}",
            file.display()
        )
    })?;
    ensure!(
        rule == failure.rule,
        "{rule} takes it for its own: {said}\nthe error: {message}"
    );
    ensure!(
        cause.as_deref() == Some(&said),
        "the report says {cause:?}, and the file that was kept {said:?}"
    );
    if std::env::var_os("UPDATE_EVIDENCE").is_some() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../harness/testdata/evidence");
        std::fs::write(testdata.join(format!("{rule}.json")), text + "\n")?;
    }
    Ok(())
}
