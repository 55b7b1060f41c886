//! The registry of broken deployments: one row for each defect. A row has every way to produce the
//! defect, and the finding that must name it.
//!
//! Our own manifests get a defect by a change of the rendered objects, or by an operation that goes
//! wrong. The example chart gets it by a patch. Each way is a test. A row with a rule also yields
//! the recorded evidence of that rule.

use ::manifests::Mode::{Cluster, Standalone};
use ::manifests::Variant::{Hardened, Rpm};

use super::breakage::{Act, Breakage};
use super::finding::Finding;
use super::{manifests as changes, operations};

/// The scenario that looks for passwords.
const PASSWORD: &str = "security::password_is_nowhere_else";

/// Defects of our own manifests, some of them also as patches.
pub(super) const OF_MANIFESTS: &[Breakage] = &[
    Breakage::new(
        "password_changed_behind",
        Standalone,
        Rpm,
        Finding::Checks(
            &["reachability"],
            "a server has refused the release's password for 10 s",
        ),
    )
    .operation(|context| Box::pin(operations::password_changed_behind(context)))
    .never_healthy(),
    Breakage::new(
        "key_deleted",
        Standalone,
        Rpm,
        Finding::Checks(&["data"], "slots 5 (1): expected every acknowledged key"),
    )
    .operation(|context| Box::pin(operations::key_deleted(context))),
    Breakage::new(
        "lifetime_removed",
        Standalone,
        Rpm,
        Finding::Checks(&["data"], "1 keys immortal"),
    )
    .operation(|context| Box::pin(operations::lifetime_removed(context))),
    Breakage::new(
        "rebalance_skipped",
        Cluster,
        Rpm,
        Finding::Checks(
            &["cluster_state", "topology", "balance"],
            "primaries with slots: expected 4, saw 3",
        ),
    )
    .operation(|context| Box::pin(operations::rebalance_skipped(context)))
    .rule("primary_has_no_slots")
    .never_healthy(),
    Breakage::new(
        "slot_emptied",
        Cluster,
        Rpm,
        Finding::Because {
            checks: &["data"],
            says: &[
                "slots 5 (1): expected every acknowledged key",
                "vk-percona-valkey-0 had 5",
            ],
            cause: &["the keys of slots 5 were deleted on vk-percona-valkey-0"],
        },
    )
    .operation(|context| Box::pin(operations::slot_emptied(context)))
    .rule("keys_are_gone"),
    Breakage::new(
        "forget_skipped",
        Cluster,
        Rpm,
        Finding::Because {
            checks: &["cluster_state", "slot_coverage", "forgotten"],
            says: &["to be forgotten everywhere"],
            cause: &[
                "were not forgotten (CLUSTER FORGET)",
                "vk-percona-valkey-6",
                "vk-percona-valkey-7",
            ],
        },
    )
    .operation(|context| Box::pin(operations::forget_skipped(context)))
    .rule("removed_nodes_are_not_forgotten")
    .never_healthy(),
    Breakage::new(
        "fix_too_early",
        Cluster,
        Rpm,
        Finding::Because {
            checks: &["data"],
            // A slot is not reported as lost if all of its keys have expired by then.
            says: &["slots 8192-", "-12287 (40", "vk-percona-valkey-6 had 8192-"],
            cause: &[
                "slots 8192-",
                "-12287 were lost",
                "vk-percona-valkey-6",
                "is gone",
                "without the keys",
            ],
        },
    )
    .operation(|context| Box::pin(operations::fix_too_early(context))),
    Breakage::new(
        "replica_on_departing_pod",
        Cluster,
        Rpm,
        Finding::Checks(
            &["step_back"],
            "all are on pods that would leave with it: vk-percona-valkey-7",
        ),
    )
    .operation(|context| Box::pin(operations::replica_on_departing_pod(context))),
    Breakage::new(
        "masterauth_not_rotated",
        Cluster,
        Rpm,
        Finding::Because {
            checks: &["replication", "readiness"],
            says: &["it is another one"],
            cause: &[
                "replica vk-percona-valkey-",
                "masterauth was not rotated",
                "WRONGPASS",
            ],
        },
    )
    .operation(|context| Box::pin(operations::masterauth_not_rotated(context)))
    .rule("replica_has_a_stale_password")
    .never_healthy(),
    Breakage::new(
        "scale_job_hides_its_failure",
        Cluster,
        Rpm,
        Finding::Because {
            checks: &["cluster_state", "topology", "balance"],
            says: &["primaries with slots: expected 4, saw 3", "vk-percona-valkey-6"],
            cause: &[
                "the hook vk-percona-valkey-cluster-scale reported success",
                "the slots could not be moved",
            ],
        },
    )
    .operation(|context| Box::pin(operations::scale_job_hides_its_failure(context)))
    .rule("hook_hides_its_failure")
    .never_healthy(),
    Breakage::new(
        "drain_job_hides_its_failure",
        Cluster,
        Rpm,
        Finding::Because {
            checks: &["drain"],
            says: &["vk-percona-valkey-6", "it owns slots 8192-12287 (4096)"],
            cause: &[
                "the hook vk-percona-valkey-cluster-drain reported success",
                "the slots could not be moved",
            ],
        },
    )
    .operation(|context| Box::pin(operations::drain_job_hides_its_failure(context))),
    Breakage::new(
        "without_masterauth",
        Cluster,
        Rpm,
        Finding::Cause(&["replica", "masterauth missing"]),
    )
    .manifests(changes::without_masterauth)
    .patch("no-masterauth")
    .rule("replicas_cannot_authenticate")
    .never_healthy(),
    Breakage::new(
        "wrong_announce_address",
        Cluster,
        Rpm,
        Finding::Cause(&["announces the address 192.0.2.1", "but the pod has 10."]),
    )
    .manifests(changes::wrong_announce_address)
    .rule("announces_wrong_address")
    .never_healthy(),
    Breakage::new(
        "hidden_until_ready",
        Cluster,
        Rpm,
        Finding::Cause(&["vk-percona-valkey-headless", "publishNotReadyAddresses"]),
    )
    .manifests(changes::hidden_until_ready)
    .patch("hidden-until-ready")
    .rule("names_are_not_published")
    .never_healthy(),
    Breakage::new(
        "init_job_waits_for_a_pod_too_many",
        Cluster,
        Rpm,
        Finding::Cause(&["waits for pod vk-percona-valkey-6", "absent"]),
    )
    .manifests(changes::init_job_waits_for_a_pod_too_many)
    .rule("hook_waits")
    .never_healthy(),
    Breakage::new(
        "server_with_unknown_directive",
        Standalone,
        Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-0 crashes at start with exit code 1",
            "no-such-directive",
        ]),
    )
    .manifests(changes::server_with_unknown_directive)
    .patch("unknown-directive")
    .rule("server_crashes")
    .never_healthy(),
    Breakage::new(
        "image_that_does_not_exist",
        Standalone,
        Rpm,
        Finding::Cause(&["vk-percona-valkey-0", "perconalab/valkey:0.0.0-none"]),
    )
    .manifests(changes::image_that_does_not_exist)
    .rule("image_cannot_be_had")
    .never_healthy(),
    Breakage::new(
        "probe_through_a_shell",
        Standalone,
        Hardened,
        Finding::Cause(&[
            "readiness probe of pod vk-percona-valkey-0 cannot run \"sh\"",
            "no shell",
        ]),
    )
    .manifests(changes::probe_through_a_shell)
    .patch("probe-through-a-shell")
    .rule("probe_needs_what_the_image_lacks")
    .never_healthy(),
    Breakage::new(
        "service_with_unknown_port_name",
        Standalone,
        Rpm,
        Finding::Cause(&["Service vk-percona-valkey sends clients to the port \"redis\""]),
    )
    .manifests(changes::service_with_unknown_port_name)
    .patch("unknown-port-name")
    .rule("service_port_does_not_exist"),
    Breakage::new(
        "job_pods_in_service",
        Cluster,
        Rpm,
        Finding::Checks(
            &["services", "disruption_budget"],
            "it also selects the pod of Job",
        ),
    )
    .manifests(changes::job_pods_in_service)
    .patch("job-pods-in-service")
    .rule("job_pods_in_service"),
    Breakage::new(
        "budget_for_job_pods",
        Cluster,
        Rpm,
        Finding::Checks(&["disruption_budget"], "cluster-init"),
    )
    .manifests(changes::budget_for_job_pods)
    .patch("budget-for-job-pods"),
    Breakage::new(
        "primaries_only",
        Cluster,
        Rpm,
        Finding::Checks(
            &["cluster_state", "topology", "balance"],
            "primaries with slots: expected 3, saw 6",
        ),
    )
    .manifests(changes::primaries_only),
    Breakage::new(
        "without_tmpfs",
        Standalone,
        Hardened,
        Finding::Checks(&["security"], "/tmp"),
    )
    .manifests(changes::without_tmpfs)
    .patch("no-tmpfs"),
    Breakage::new(
        "writable_root",
        Standalone,
        Hardened,
        Finding::Checks(&["security"], "read-only"),
    )
    .manifests(changes::writable_root),
    Breakage::new(
        "runs_as_another_user",
        Standalone,
        Rpm,
        Finding::Checks(&["security"], "1234"),
    )
    .manifests(changes::runs_as_another_user),
    Breakage::new(
        "data_without_claim",
        Standalone,
        Rpm,
        Finding::Checks(&["persistence"], "EmptyDir"),
    )
    .manifests(changes::data_without_claim),
    Breakage::new(
        "server_without_password",
        Standalone,
        Rpm,
        Finding::Cause(&[
            "does not have the release's password",
            "the server has none configured",
        ]),
    )
    .manifests(changes::server_without_password)
    .patch("no-requirepass")
    .rule("password_is_refused")
    .never_healthy(),
    Breakage::new(
        "may_gain_privileges",
        Standalone,
        Rpm,
        Finding::Cause(&["the API server refuses a pod", "allowPrivilegeEscalation"]),
    )
    .manifests(changes::may_gain_privileges)
    .rule("admission_refuses")
    .never_healthy()
    .under_pod_security(),
    Breakage::new(
        "configuration_that_nobody_makes",
        Standalone,
        Rpm,
        Finding::Cause(&[
            "Pod vk-percona-valkey-0 needs the ConfigMap vk-percona-valkey-config, which does not exist",
        ]),
    )
    .manifests(changes::configuration_that_nobody_makes)
    .patch("missing-config-map")
    .rule("something_is_missing")
    .never_healthy(),
    Breakage::new(
        "password_under_another_key",
        Standalone,
        Rpm,
        Finding::Cause(&[
            "the container valkey of pod vk-percona-valkey-0 cannot be created",
            "couldn't find key password",
        ]),
    )
    .manifests(changes::password_under_another_key)
    .patch("wrong-secret-key")
    .rule("container_cannot_be_made")
    .never_healthy(),
    Breakage::new(
        "wants_another_node",
        Standalone,
        Rpm,
        Finding::Cause(&["FailedScheduling: 0/1 nodes are available"]),
    )
    .manifests(changes::wants_another_node)
    .rule("pod_fits_nowhere")
    .never_healthy(),
    Breakage::new(
        "one_claim_of_no_class",
        Cluster,
        Rpm,
        Finding::Cause(&["waits for pod 3: its volume claim is unbound"]),
    )
    .operation(|context| Box::pin(operations::one_claim_of_no_class(context)))
    .rule("volume_claim_is_unbound")
    .never_healthy(),
    Breakage::new(
        "listens_elsewhere",
        Standalone,
        Rpm,
        Finding::Cause(&[
            "the startup probe of pod vk-percona-valkey-0 has never succeeded",
            "Connection refused",
        ]),
    )
    .manifests(changes::listens_elsewhere)
    .patch("listens-elsewhere")
    .rule("server_never_starts"),
    Breakage::new(
        "named_by_another_service",
        Cluster,
        Rpm,
        Finding::Cause(&[
            "serviceName \"vk-percona-valkey-nodes\"",
            "there is vk-percona-valkey-headless",
        ]),
    )
    .manifests(changes::named_by_another_service)
    .patch("wrong-service-name")
    .rule("cluster_cannot_be_formed")
    .never_healthy(),
    Breakage::new(
        "service_selects_nothing",
        Standalone,
        Rpm,
        Finding::Cause(&["Service vk-percona-valkey selects pods with app.kubernetes.io/role=primary"]),
    )
    .manifests(changes::service_selects_nothing)
    .patch("service-selects-nothing")
    .rule("service_selects_no_server")
    .never_healthy(),
    Breakage::new(
        "snapshot_in_the_way",
        Standalone,
        Rpm,
        Finding::Cause(&["cannot write a snapshot", "MISCONF"]),
    )
    .operation(|context| Box::pin(operations::snapshot_in_the_way(context)))
    .rule("server_cannot_write"),
    Breakage::new(
        "shard_deleted",
        Cluster,
        Rpm,
        Finding::Cause(&["uncovered: owner vk-percona-valkey-4 was deleted with its only replica"]),
    )
    .operation(|context| Box::pin(operations::shard_deleted(context)))
    .rule("slots_are_uncovered")
    .never_healthy(),
    Breakage::new(
        "slot_dropped",
        Cluster,
        Rpm,
        Finding::Cause(&["slots 5 are unassigned"]),
    )
    .operation(|context| Box::pin(operations::slot_dropped(context)))
    .rule("slots_are_unassigned")
    .never_healthy(),
    Breakage::new(
        "forms_at_upgrade",
        Cluster,
        Rpm,
        Finding::Cause(&[
            "vk-percona-valkey-cluster-init",
            "runs at post-upgrade and not at post-install",
        ]),
    )
    .manifests(changes::forms_at_upgrade)
    .patch("init-at-upgrade")
    .rule("never_formed")
    .never_healthy(),
    Breakage::new(
        "readiness_asks_another_port",
        Standalone,
        Rpm,
        Finding::Cause(&[
            "the readiness probe of pod vk-percona-valkey-0 fails although its server serves",
            "6380",
        ]),
    )
    .manifests(changes::readiness_asks_another_port)
    .patch("readiness-asks-another-port")
    .rule("readiness_probe_fails"),
    Breakage::new(
        "test_asks_nobody",
        Standalone,
        Rpm,
        Finding::Cause(&["vk-percona-valkey-test-connection failed", "nobody:6379"]),
    )
    .operation(|context| Box::pin(operations::test_asks_nobody(context)))
    .rule("hook_fails"),
];

/// Defects that only a chart can have.
pub(super) const OF_CHARTS: &[Breakage] = &[
    Breakage::new(
        "maxmemory_as_float",
        Standalone,
        Rpm,
        Finding::Cause(&["crashes at start with exit code 1", "2.68435456e+08"]),
    )
    .patch_for(
        "maxmemory-as-float",
        Act::DeployWith("config: {maxmemory: 268435456}"),
    ),
    Breakage::new("init_swallows_failure", Cluster, Rpm, Finding::Cause(&[
            "vk-percona-valkey-cluster-init has succeeded",
            "hides its failure",
        ]))
    .patch("init-swallows-failure"),
    Breakage::new("tool_image_without_tag", Cluster, Rpm, Finding::Cause(&["cannot pull its image perconalab/valkey:9.0.3-tools"]))
    .patch("tool-image-without-tag"),
    Breakage::new("does_not_render", Cluster, Rpm, Finding::Says(&[
            "helm template failed",
            "statefulset.yaml",
            "nil pointer evaluating",
        ]))
    .patch("does-not-render"),
    Breakage::new("refused_by_the_api", Standalone, Rpm, Finding::Says(&[
            "StatefulSet",
            "vk-percona-valkey",
            "containers[0].ports[0].containerPort",
            "637900",
        ]))
    .patch("refused-by-the-api"),
    Breakage::new("missing_service_account", Standalone, Rpm, Finding::Cause(&["ServiceAccount vk-percona-valkey-server, which does not exist"]))
    .patch("missing-service-account"),
    Breakage::new("unknown_storage_class", Cluster, Rpm, Finding::Cause(&[
            "PersistentVolumeClaim data-vk-",
            "needs the StorageClass gold, which does not exist",
        ]))
    .patch("unknown-storage-class"),
    Breakage::new("init_before_install", Cluster, Rpm, Finding::Cause(&[
            "vk-percona-valkey-cluster-init runs at pre-install",
            "before there is any server",
        ]))
    .patch("init-before-install"),
    Breakage::new("init_never_ends", Cluster, Rpm, Finding::Cause(&[
            "vk-percona-valkey-cluster-init",
            "has not ended",
            "waiting for a sign",
        ]))
    .patch("init-never-ends"),
    Breakage::new("init_crashes", Cluster, Rpm, Finding::Cause(&[
            "vk-percona-valkey-cluster-init",
            "keeps crashing",
            "--clster",
        ]))
    .patch("init-crashes"),
    Breakage::new("no_servers", Standalone, Rpm, Finding::Says(&["the chart renders no StatefulSet"]))
    .patch("no-servers"),
    Breakage::new("ignored_parameter", Standalone, Rpm, Finding::Says(&[
            "image.pullPolicy: StatefulSet",
            "containers[valkey].imagePullPolicy: expected \"Always\", found no change",
        ]))
    .patch_for("ignored-parameter", Act::Parameter("image.pullPolicy")),
    Breakage::new("no_checksum", Standalone, Rpm, Finding::Says(&["annotations[checksum/config]: expected another value than before, found no change"]))
    .patch_for("no-checksum", Act::Parameter("config.maxmemoryPolicy")),
    Breakage::new("scaling_restarts", Standalone, Rpm, Finding::Says(&[
            "cluster.replicas: StatefulSet spec.template.metadata.annotations.replicas: expected no change, found \"8\" where it was \"6\"",
        ]))
    .patch_for("scaling-restarts", Act::Parameter("cluster.replicas")),
    Breakage::new("node_list_in_env", Standalone, Rpm, Finding::Says(&[
            "cluster.replicas: StatefulSet spec.template.spec.containers[valkey].env[VALKEY_NODES].value: expected no change",
        ]))
    .patch_for("node-list-in-env", Act::Parameter("cluster.replicas")),
    Breakage::new("no_pull_secrets_for_jobs", Standalone, Rpm, Finding::Says(&[
            "image.pullSecrets: Job cluster-init spec.template.spec.imagePullSecrets: expected [{\"name\":\"registry\"}",
        ]))
    .patch_for("no-pull-secrets-for-jobs", Act::Parameter("image.pullSecrets")),
    Breakage::new("user_without_password", Standalone, Rpm, Finding::Checks(
            &["password"],
            "no user to read keys without a password, saw the user probe does (nopass)",
        ))
    .patch_for("user-without-password", Act::Scenario("connection::password_is_required")),
    Breakage::new("ready_by_ping", Cluster, Rpm, Finding::Checks(
            &["readiness"],
            "expected a Ready pod to serve, saw cluster_state:fail",
        ))
    .patch_for("ready-by-ping", Act::Scenario("faults::a_lost_majority_returns_with_its_data")),
    Breakage::new("secret_regenerated", Standalone, Rpm, Finding::Checks(&["password"], "to keep its generated password across an upgrade"))
    .patch_for("secret-regenerated", Act::Upgrade),
    Breakage::new("service_port_leads_nowhere", Standalone, Rpm, Finding::Checks(
            &["client"],
            "Service vk-percona-valkey: expected clients in another namespace to get PONG",
        ))
    .patch("service-port-leads-nowhere"),
    Breakage::new("announces_unknown_names", Cluster, Rpm, Finding::Checks(
            &["client"],
            "clients are redirected to a name that does not resolve",
        ))
    .patch("announces-unknown-names"),
    Breakage::new("announces_localhost", Cluster, Rpm, Finding::Checks(
            &["client"],
            "at the announced endpoint localhost:6379, saw clients redirected there get no connection",
        ))
    .patch("announces-localhost"),
    Breakage::new("hook_stays", Cluster, Rpm, Finding::Checks(&["hooks"], "Job vk-percona-valkey-cluster-scale already exists"))
    .patch("hook-stays"),
    Breakage::new("test_swallows_failure", Standalone, Rpm, Finding::Checks(&["helm_test"], "helm test cannot fail"))
    .patch_for("test-swallows-failure", Act::Scenario("connection::helm_test_pod_passes")),
    Breakage::new("names_ignore_override", Cluster, Rpm, Finding::Checks(&["names"], "with fullnameOverride"))
    .patch_for("names-ignore-override", Act::Scenario("formation::names_follow_the_release")),
    Breakage::new("names_are_not_cut", Cluster, Rpm, Finding::Checks(&["names"], "for a release whose name has 53 characters"))
    .patch_for("names-are-not-cut", Act::Scenario("formation::names_follow_the_release")),
    Breakage::new("liveness_asks_cluster_state", Cluster, Rpm, Finding::Checks(&["liveness"], "one lost shard restarts all healthy servers"))
    .patch_for("liveness-asks-cluster-state", Act::Scenario("formation::a_lost_shard_kills_no_healthy_server")),
    Breakage::new("password_in_probe", Cluster, Rpm, Finding::Checks(&["secrecy"], "containers[valkey].livenessProbe.exec.command[2]"))
    .patch_for("password-in-probe", Act::Scenario(PASSWORD)),
    Breakage::new("password_in_config_map", Cluster, Rpm, Finding::Checks(&["secrecy"], "it is in data.valkey.conf"))
    .patch_for("password-in-config-map", Act::Scenario(PASSWORD)),
    Breakage::new("password_in_annotation", Cluster, Rpm, Finding::Checks(&["secrecy"], "it is in spec.template.metadata.annotations.example.com/password"))
    .patch_for("password-in-annotation", Act::Scenario(PASSWORD)),
    Breakage::new("password_in_job_script", Cluster, Rpm, Finding::Checks(&["secrecy"], "Job vk-percona-valkey-cluster-init: expected the password in a Secret and nowhere else, saw it is in \
         spec.template.spec.containers[cluster-init].command[2]"))
    .patch_for("password-in-job-script", Act::Scenario(PASSWORD)),
    Breakage::new("password_in_env", Cluster, Rpm, Finding::Checks(&["secrecy"], "containers[valkey].env[VALKEY_PASSWORD].value"))
    .patch_for("password-in-env", Act::Scenario(PASSWORD)),
    Breakage::new("numeric_password", Cluster, Rpm, Finding::Checks(&["secrecy"], "to be text for a password of digits, saw a number"))
    .patch_for("numeric-password", Act::Scenario(PASSWORD)),
];

/// Returns every defect.
pub(super) fn all() -> impl Iterator<Item = Breakage> {
    OF_MANIFESTS.iter().chain(OF_CHARTS).copied()
}
