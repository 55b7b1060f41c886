//! The table of charts that keep every promise in their own way.

/// A chart, values for the chart, and the expected outcomes.
#[derive(Clone, Copy)]
pub(super) struct Correct {
    /// The test's name.
    pub(super) name: &'static str,
    /// The patch's name, if a patch changes the example chart.
    pub(super) patch: Option<&'static str>,
    /// The values file of the user, if there is one.
    pub(super) file: &'static str,
    /// The settings of the user.
    pub(super) set: &'static [&'static str],
    /// True if every parameter is checked against the table.
    pub(super) parameters: bool,
    /// Trials that must pass.
    pub(super) passes: &'static [&'static str],
    /// Trials that must be skipped, with a part of the reason.
    pub(super) skips: &'static [(&'static str, &'static str)],
    /// Trials that must fail, with a part of the message.
    pub(super) finds: &'static [(&'static str, &'static str)],
}

const EXAMPLE: Correct = Correct {
    name: "",
    patch: None,
    file: "",
    set: &[],
    parameters: false,
    passes: &[],
    skips: &[],
    finds: &[],
};

const fn patched(patch: &'static str, passes: &'static [&'static str]) -> Correct {
    Correct {
        name: patch,
        patch: Some(patch),
        parameters: true,
        passes,
        ..EXAMPLE
    }
}

/// All charts.
pub(super) const CORRECT: [Correct; 28] = [
    patched(
        "own-names",
        &[
            "formation::forms::cluster-hardened",
            "formation::a_lost_shard_kills_no_healthy_server::cluster-rpm",
            "security::container_runs_as_declared::standalone-hardened",
        ],
    ),
    patched(
        "more-than-needed",
        &[
            "formation::forms::cluster-rpm",
            "security::container_runs_as_declared::standalone-rpm",
            "connection::password_is_required::standalone-rpm",
        ],
    ),
    Correct {
        parameters: false,
        ..patched(
            "always-drains",
            &["scaling::without_draining_an_unsafe_plan_loses_what_was_predicted::cluster-rpm"],
        )
    },
    patched(
        "other-ways",
        &["upgrades::rollback_restores_the_configuration::standalone-rpm"],
    ),
    Correct {
        name: "cluster-without-replicas",
        set: &["cluster.replicas=3", "cluster.replicasPerPrimary=0"],
        passes: &["faults::a_lost_majority_returns_with_its_data::cluster-rpm"],
        skips: &[(
            "faults::a_primary_that_stays_away_is_replaced::cluster-rpm",
            "cluster.replicasPerPrimary is 0",
        )],
        ..EXAMPLE
    },
    Correct {
        name: "no-full-coverage",
        set: &["config.customConfig=cluster-require-full-coverage no"],
        passes: &["faults::a_lost_majority_returns_with_its_data::cluster-rpm"],
        skips: &[
            (
                "faults::a_lost_shard_returns_with_its_data::cluster-rpm",
                "cluster-require-full-coverage is no",
            ),
            (
                "formation::a_lost_shard_kills_no_healthy_server::cluster-rpm",
                "cluster-require-full-coverage is no",
            ),
        ],
        ..EXAMPLE
    },
    Correct {
        name: "cluster-without-volumes",
        set: &["persistence.enabled=false"],
        passes: &["formation::forms::cluster-rpm"],
        skips: &[(
            "faults::a_lost_shard_returns_with_its_data::cluster-rpm",
            "persistence.enabled is false",
        )],
        ..EXAMPLE
    },
    patched("defaults-left-out", &["formation::forms::standalone-rpm"]),
    patched("defaults-spelled-out", &["formation::forms::cluster-rpm"]),
    patched("masterauth-as-argument", &["formation::forms::cluster-hardened"]),
    patched(
        "secret-as-string-data",
        &["rotation::generated_password_survives_an_upgrade::standalone-rpm"],
    ),
    patched(
        "silent-tools",
        &[
            "connection::helm_test_pod_passes::standalone-rpm",
            "scaling::a_step_that_is_not_a_multiple::cluster-rpm",
        ],
    ),
    Correct {
        parameters: false,
        ..patched("heartbeat-writer", &["persistence::full_restart::cluster-rpm"])
    },
    patched("labels-on-claims", &["formation::forms::standalone-rpm"]),
    patched("own-volume-names", &["formation::forms::standalone-hardened"]),
    patched(
        "restarts-on-new-password",
        &["rotation::by_restart::standalone-rpm"],
    ),
    patched("no-rbac", &["upgrades::from_another_version::standalone-rpm"]),
    patched(
        "strict-schema",
        &[
            "formation::forms::cluster-rpm",
            "rotation::existing_secret::standalone-rpm",
        ],
    ),
    Correct {
        parameters: false,
        ..patched(
            "no-draining",
            &["scaling::there_and_back_again::cluster-hardened"],
        )
    },
    patched(
        "other-defaults",
        &[
            "formation::forms::standalone-rpm",
            "formation::forms::cluster-rpm",
        ],
    ),
    Correct {
        parameters: false,
        finds: &[(
            "rotation::by_restart::standalone-rpm",
            "gone at once, without a grace period",
        )],
        ..patched("no-grace-period", &["formation::forms::standalone-rpm"])
    },
    Correct {
        parameters: false,
        finds: &[(
            "upgrades::from_another_version::standalone-rpm",
            "spec.volumeClaimTemplates[0].metadata.labels.helm.sh/chart",
        )],
        ..patched("version-on-claims", &["formation::forms::standalone-rpm"])
    },
    Correct {
        parameters: false,
        skips: &[(
            "rotation::generated_password_survives_an_upgrade::standalone-rpm",
            "the chart does not accept podAnnotations",
        )],
        finds: &[(
            "conformance::parameter::podAnnotations::standalone-rpm",
            "the chart does not accept it",
        )],
        ..patched("parameters-dropped", &["formation::forms::standalone-rpm"])
    },
    Correct {
        name: "without-authentication",
        set: &["auth.enabled=false"],
        passes: &[
            "connection::password_is_required::standalone-rpm",
            "connection::set_and_get_every_slot::cluster-rpm",
            "security::container_runs_as_declared::standalone-hardened",
        ],
        skips: &[("rotation::by_restart::standalone-rpm", "auth.enabled is false")],
        ..EXAMPLE
    },
    Correct {
        name: "without-volumes",
        set: &["persistence.enabled=false"],
        passes: &["formation::forms::standalone-rpm"],
        skips: &[(
            "persistence::full_restart::standalone-rpm",
            "persistence.enabled is false",
        )],
        ..EXAMPLE
    },
    Correct {
        name: "own-directives-and-secret",
        set: &[
            "config.customConfig=masterauth something",
            "auth.existingSecret=of-the-user",
            "mode=standalone",
        ],
        passes: &["connection::set_and_get_every_slot::standalone-rpm"],
        skips: &[("formation::forms::cluster-rpm", "set mode to standalone")],
        ..EXAMPLE
    },
    Correct {
        name: "number-in-a-values-file",
        file: "config: {maxmemory: 268435456}",
        passes: &["formation::forms::standalone-rpm"],
        ..EXAMPLE
    },
    Correct {
        name: "group-of-the-image",
        set: &["securityContext.runAsGroup=null"],
        passes: &["security::container_runs_as_declared::standalone-rpm"],
        ..EXAMPLE
    },
];
