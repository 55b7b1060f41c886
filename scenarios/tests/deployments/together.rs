//! Several independent defects in one chart: one run names each of them once, and nothing else.

use std::sync::Arc;

use harness::release::chart::{Chart, Helm, UserValues};
use harness::report::{TrialReport, finding};
use libtest_mimic::Failed;
use scenarios::registry;
use scenarios::test_session::SharedSession;

use super::{Tests, patched_chart};

/// Defects of one chart.
#[derive(Clone, Copy)]
struct Together {
    /// The test's name, and the suite of its trials.
    name: &'static str,
    /// The patches, each with the beginning of the identifier of its finding.
    defects: &'static [(&'static str, &'static str)],
    /// The trials of the run.
    trials: &'static [&'static str],
}

/// Scenarios of a Valkey cluster without persistence, rotation or upgrades.
const CLUSTER: &[&str] = &["formation::forms::cluster-rpm"];

const TOGETHER: [Together; 19] = [
    // What `helm test` says of a closed port is a symptom.
    Together {
        name: "client-port-in-three-suites",
        defects: &[("service-port-leads-nowhere", "service_port_is_closed")],
        trials: &[
            "formation::forms::standalone-rpm",
            "connection::helm_test_pod_passes::cluster-rpm",
            "persistence::data_survives_pod_deletion::standalone-rpm",
        ],
    },
    // Missing keys and lost writes of every trial are one defect.
    Together {
        name: "no-append-only-file-in-four-suites",
        defects: &[("no-append-only-file", "persistence_is_off")],
        trials: &[
            "formation::forms::cluster-rpm",
            "persistence::data_survives_pod_deletion::standalone-rpm",
            "faults::a_lost_shard_returns_with_its_data::cluster-rpm",
            "rotation::by_restart::cluster-hardened",
        ],
    },
    // The Job's failure is a symptom, and no second finding.
    Together {
        name: "links-that-a-job-waits-for",
        defects: &[("no-masterauth-noticed-late", "replicas_cannot_authenticate")],
        trials: &["scaling::two_shards_at_once::cluster-rpm"],
    },
    Together {
        name: "links-and-job-pods",
        defects: &[NO_MASTERAUTH, JOB_PODS],
        trials: CLUSTER,
    },
    Together {
        name: "links-and-client-port",
        defects: &[NO_MASTERAUTH, CLIENT_PORT],
        trials: CLUSTER,
    },
    Together {
        name: "links-and-probe-password",
        defects: &[NO_MASTERAUTH, PROBE_PASSWORD],
        trials: &[
            "formation::forms::cluster-rpm",
            "security::password_is_nowhere_else::cluster-rpm",
        ],
    },
    Together {
        name: "client-port-and-forgetting",
        defects: &[CLIENT_PORT, FORGETTING],
        trials: &["scaling::two_shards_at_once::cluster-rpm"],
    },
    Together {
        name: "job-pods-and-forgetting",
        defects: &[JOB_PODS, FORGETTING],
        trials: &[
            "formation::forms::cluster-rpm",
            "scaling::two_shards_at_once::cluster-rpm",
        ],
    },
    Together {
        name: "job-pods-and-client-port",
        defects: &[JOB_PODS, CLIENT_PORT],
        trials: CLUSTER,
    },
    Together {
        name: "client-port-and-budget",
        defects: &[CLIENT_PORT, BUDGET],
        trials: CLUSTER,
    },
    Together {
        name: "tmpfs-and-client-port",
        defects: &[NO_TMPFS, CLIENT_PORT],
        trials: &[
            "formation::forms::standalone-hardened",
            "security::container_runs_as_declared::standalone-hardened",
        ],
    },
    Together {
        name: "secret-and-test",
        defects: &[SECRET, TEST],
        trials: &[
            "rotation::generated_password_survives_an_upgrade::standalone-rpm",
            "connection::helm_test_pod_passes::standalone-rpm",
        ],
    },
    Together {
        name: "secret-and-client-port",
        defects: &[SECRET, CLIENT_PORT],
        trials: &["rotation::generated_password_survives_an_upgrade::standalone-rpm"],
    },
    Together {
        name: "probe-password-and-secret",
        defects: &[PROBE_PASSWORD, SECRET],
        trials: &[
            "security::password_is_nowhere_else::standalone-rpm",
            "rotation::generated_password_survives_an_upgrade::standalone-rpm",
        ],
    },
    Together {
        name: "client-port-and-rebalance",
        defects: &[CLIENT_PORT, REBALANCE],
        trials: &["scaling::two_shards_at_once::cluster-rpm"],
    },
    Together {
        name: "five-of-a-published-chart",
        defects: &[NO_MASTERAUTH, JOB_PODS, SECRET, REBALANCE, FORGETTING],
        trials: &[
            "formation::forms::cluster-rpm",
            "rotation::generated_password_survives_an_upgrade::cluster-rpm",
            "scaling::two_shards_at_once::cluster-rpm",
        ],
    },
    Together {
        name: "five-without-a-step",
        defects: &[NO_MASTERAUTH, BUDGET, SECRET, CLIENT_PORT, PROBE_PASSWORD],
        trials: &[
            "formation::forms::cluster-rpm",
            "rotation::generated_password_survives_an_upgrade::cluster-rpm",
            "security::password_is_nowhere_else::cluster-rpm",
        ],
    },
    Together {
        name: "five-of-one-server",
        defects: &[CLIENT_PORT, SECRET, TEST, PROBE_PASSWORD, NO_TMPFS],
        trials: &[
            "formation::forms::standalone-hardened",
            "security::container_runs_as_declared::standalone-hardened",
            "security::password_is_nowhere_else::standalone-rpm",
            "connection::helm_test_pod_passes::standalone-rpm",
            "rotation::generated_password_survives_an_upgrade::standalone-rpm",
        ],
    },
    Together {
        name: "five-of-a-cluster",
        defects: &[CLIENT_PORT, BUDGET, FORGETTING, PROBE_PASSWORD, TEST],
        trials: &[
            "formation::forms::cluster-rpm",
            "connection::helm_test_pod_passes::cluster-rpm",
            "security::password_is_nowhere_else::cluster-rpm",
            "scaling::two_shards_at_once::cluster-rpm",
        ],
    },
];

type Defect = (&'static str, &'static str);

const NO_MASTERAUTH: Defect = ("no-masterauth-unnoticed", "replicas_cannot_authenticate");
const JOB_PODS: Defect = ("job-pods-in-service", "job_pods_in_service");
const REBALANCE: Defect = ("rebalance-fails-silently", "primary_has_no_slots");
const FORGETTING: Defect = ("dead-nodes-not-forgotten", "removed_nodes_are_not_forgotten");
const CLIENT_PORT: Defect = ("service-port-leads-nowhere", "service_port_is_closed");
const BUDGET: Defect = ("budget-for-job-pods", "disruption_budget");
const NO_TMPFS: Defect = ("no-tmpfs", "security");
const SECRET: Defect = ("secret-regenerated", "password");
const TEST: Defect = ("test-swallows-failure", "helm_test");
const PROBE_PASSWORD: Defect = ("password-in-probe", "secrecy");

/// Returns the patches of all charts.
pub(super) fn patches() -> impl Iterator<Item = &'static str> {
    TOGETHER
        .iter()
        .flat_map(|together| together.defects)
        .map(|(patch, _)| *patch)
}

/// Adds a test for each chart.
pub(super) fn tests(tests: &mut Tests) {
    for together in TOGETHER {
        tests.with_helm(format!("together::{}", together.name), move |shared, helm| {
            run(shared, helm, together)
        });
    }
}

fn run(shared: &SharedSession, helm: &Helm, together: Together) -> Result<(), Failed> {
    let patches: Vec<&str> = together.defects.iter().map(|(patch, _)| *patch).collect();
    let copy = patched_chart::copy(&["broken"], &patches).map_err(|error| format!("{error:#}"))?;
    let opened = Chart::open(copy.path(), helm.clone(), UserValues::default());
    let chart = shared
        .runtime()
        .block_on(opened)?
        .on_cluster(&shared.kubeconfig()?)?;
    let chart = Arc::new(chart);
    let mut reports: Vec<TrialReport> = Vec::new();
    for name in together.trials {
        let mut trials = registry::trials().into_iter();
        let trial = trials.find(|trial| trial.id.to_string() == *name);
        let mut trial = trial.ok_or_else(|| format!("there is no trial {name}"))?;
        let suite = std::mem::replace(&mut trial.id.suite, together.name);
        // Other tests play the same trial. The namespace takes the suite's name.
        let mut report = shared.run(&trial, |environment| environment.subject = chart.clone())?;
        suite.clone_into(&mut report.suite);
        reports.push(report);
    }
    let findings = finding::fold(&mut reports);
    let named = |id: &str| {
        findings
            .iter()
            .filter(|finding| finding.id.starts_with(id))
            .count()
    };
    let mut problems: Vec<String> = together
        .defects
        .iter()
        .filter(|(_, id)| named(id) != 1)
        .map(|(patch, id)| format!("{patch}: {} findings {id}", named(id)))
        .collect();
    let of_no_defect = |id: &str| !together.defects.iter().any(|(_, known)| id.starts_with(known));
    problems.extend(
        findings
            .iter()
            .filter(|finding| of_no_defect(&finding.id))
            .map(|finding| format!("a finding of no defect: {}: {}", finding.id, finding.text)),
    );
    if problems.is_empty() {
        return Ok(());
    }
    let listed = findings
        .iter()
        .map(|finding| format!("\n  {}: {}", finding.id, finding.text));
    let outcomes = reports
        .iter()
        .map(|report| format!("\n  {}: {:?}", report.name, report.outcome));
    Err(format!(
        "{}\nfindings:{}\ntrials:{}",
        problems.join("; "),
        listed.collect::<String>(),
        outcomes.collect::<String>()
    )
    .into())
}
