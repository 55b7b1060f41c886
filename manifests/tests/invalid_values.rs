//! Each wrong value of each parameter is refused. The message has the parameter, the given value
//! and the allowed values.

use std::collections::BTreeSet;

use manifests::values::{PARAMETERS, ValueError, ValueKind};
use manifests::{ValuesError, ValuesInput};

/// A parameter, wrong values as YAML, and a text that the message must contain.
type Row = (&'static str, &'static [&'static str], &'static str);

const WHOLE: &[&str] = &["-1", "ten", "1.5", "true", "\"5\"", "[]", "99999999999", "null"];
const FLAG: &[&str] = &["\"true\"", "1", "enabled", "[]", "{}"];
const LABELS: &[&str] = &[
    "text",
    "[a]",
    "{a b: c}",
    "{a: 1}",
    "{a: true}",
    "{a: 'x y'}",
    "{-a: b}",
    "{a: -b}",
];
const ANNOTATIONS: &[&str] = &["text", "[a]", "{a b: c}", "{a: 1}", "{a: [b]}", "{x/y/z: b}"];
const OBJECT_NAME: &[&str] = &[
    "Upper",
    "under_score",
    "-dash",
    "dot.",
    "a..b",
    "1",
    "[]",
    "'a b'",
];
const QUANTITIES: &[&str] = &[
    "text",
    "[1]",
    "{cpu: 1 core}",
    "{memory: 8GB}",
    "{cpu: -1}",
    "{memory: true}",
    "{a b: 1}",
];

/// Every parameter of the README, and ours.
const ROWS: &[Row] = &[
    (
        "nameOverride",
        &[
            "Upper",
            "1digit",
            "-dash",
            "dash-",
            "under_score",
            "a.b",
            "7",
            "[]",
        ],
        "lower-case",
    ),
    (
        "fullnameOverride",
        &["Upper", "1digit", "-dash", "dash-", "under_score", "a.b", "7"],
        "lower-case",
    ),
    (
        "mode",
        &[
            "clustr",
            "Cluster",
            "\"\"",
            "null",
            "replication",
            "1",
            "[cluster]",
        ],
        "standalone, cluster",
    ),
    (
        "image.repository",
        &[
            "\"\"",
            "PerconaLab/valkey",
            "valkey:9.0",
            "a//b",
            "'a b'",
            "null",
            "5",
        ],
        "without a tag",
    ),
    (
        "image.variant",
        &["hardend", "RPM", "\"\"", "null", "debian"],
        "rpm, hardened",
    ),
    (
        "image.tag",
        &["'a b'", "':9'", "-9", "a/b", "[]", "true", "9.0"],
        "tag",
    ),
    (
        "image.pullPolicy",
        &["Allways", "always", "\"\"", "null"],
        "Always, IfNotPresent, Never",
    ),
    (
        "image.pullSecrets",
        &[
            "regcred",
            "[regcred]",
            "[{nam: x}]",
            "[{}]",
            "[{name: 'a b'}]",
            "{name: x}",
        ],
        "name",
    ),
    ("auth.enabled", FLAG, "true or false"),
    (
        "auth.password",
        &["12345", "true", "'a b'", "'a*b'", "'--x'", "[]"],
        "text",
    ),
    ("auth.existingSecret", OBJECT_NAME, "object name"),
    (
        "config.maxmemory",
        &[
            "256MiB",
            "lots",
            "-1",
            "1.5gb",
            "true",
            "'1 gb'",
            "'9999999999999999gb'",
        ],
        "256mb",
    ),
    (
        "config.maxmemoryPolicy",
        &["allkeys-lr", "lru", "1", "true"],
        "noeviction",
    ),
    (
        "config.bind",
        &[
            "localhost",
            "0.0.0",
            "'*'",
            "'0.0.0.0,::'",
            "'0.0.0.0  ::'",
            "1",
            "[0.0.0.0]",
        ],
        "IP addresses",
    ),
    (
        "config.extraFlags",
        &[
            "'--a \"b\"'",
            "\"--a 'b'\"",
            "'a\\b'",
            "'--a *'",
            "\"--a\\n--b\"",
            "[--a]",
            "1",
        ],
        "quotes",
    ),
    (
        "config.customConfig",
        &[
            "1",
            "[hz 10]",
            "{hz: 10}",
            "true",
            "port 7000",
            "'cluster-enabled no'",
        ],
        "",
    ),
    ("cluster.replicas", WHOLE, "1 to 1000"),
    ("cluster.replicas", &["0", "1001"], "1 to 1000"),
    ("cluster.replicasPerPrimary", WHOLE, "0 to 999"),
    ("cluster.nodeTimeout", WHOLE, "100 to 86400000"),
    ("cluster.nodeTimeout", &["0", "99", "15s"], "100 to 86400000"),
    ("cluster.busPort", WHOLE, "1 to 65535"),
    ("cluster.busPort", &["0", "65536"], "1 to 65535"),
    ("cluster.drainBeforeScaleDown", FLAG, "true or false"),
    ("standalone.replicas", WHOLE, "1 to 1000"),
    (
        "statefulset.updateStrategy.type",
        &["Recreate", "rollingUpdate", "\"\"", "1"],
        "RollingUpdate, OnDelete",
    ),
    (
        "statefulset.podManagementPolicy",
        &["parallel", "Ordered", "1"],
        "OrderedReady, Parallel",
    ),
    ("statefulset.annotations", ANNOTATIONS, "annotation keys"),
    ("statefulset.labels", LABELS, "label keys"),
    ("podAnnotations", ANNOTATIONS, "annotation keys"),
    ("podLabels", LABELS, "label keys"),
    ("securityContext.runAsUser", WHOLE, "0 to 4294967294"),
    ("securityContext.runAsGroup", WHOLE, "0 to 4294967294"),
    ("securityContext.fsGroup", WHOLE, "0 to 4294967294"),
    ("securityContext.runAsNonRoot", FLAG, "true or false"),
    (
        "containerSecurityContext.readOnlyRootFilesystem",
        FLAG,
        "true or false",
    ),
    (
        "containerSecurityContext.allowPrivilegeEscalation",
        FLAG,
        "true or false",
    ),
    (
        "containerSecurityContext.capabilities.drop",
        &["ALL", "[all]", "[CAP_NET_RAW]", "[1]", "{ALL: true}"],
        "capabilities",
    ),
    (
        "service.type",
        &["NodeProt", "clusterip", "ExternalName", "\"\"", "null"],
        "ClusterIP, NodePort, LoadBalancer",
    ),
    ("service.port", WHOLE, "1 to 65535"),
    ("service.port", &["0", "65536"], "1 to 65535"),
    ("service.annotations", ANNOTATIONS, "annotation keys"),
    ("persistence.enabled", FLAG, "true or false"),
    ("persistence.storageClass", OBJECT_NAME, "object name"),
    (
        "persistence.accessModes",
        &[
            "ReadWriteOnce",
            "[]",
            "[RWO]",
            "[readWriteOnce]",
            "[1]",
            "[ReadWriteOncePod, ReadWriteOnce]",
            "null",
        ],
        "ReadWriteOnce",
    ),
    (
        "persistence.size",
        &["8GB", "0", "-1Gi", "\"\"", "big", "true", "[8Gi]", "null"],
        "8Gi",
    ),
    ("persistence.annotations", ANNOTATIONS, "annotation keys"),
    ("livenessProbe.enabled", FLAG, "true or false"),
    ("livenessProbe.initialDelaySeconds", WHOLE, "0 to 86400"),
    ("livenessProbe.periodSeconds", WHOLE, "1 to 86400"),
    ("livenessProbe.timeoutSeconds", WHOLE, "1 to 86400"),
    ("livenessProbe.failureThreshold", WHOLE, "1 to 100000"),
    ("readinessProbe.enabled", FLAG, "true or false"),
    ("readinessProbe.initialDelaySeconds", WHOLE, "0 to 86400"),
    ("readinessProbe.periodSeconds", WHOLE, "1 to 86400"),
    ("readinessProbe.timeoutSeconds", WHOLE, "1 to 86400"),
    ("readinessProbe.failureThreshold", WHOLE, "1 to 100000"),
    ("startupProbe.enabled", FLAG, "true or false"),
    ("startupProbe.initialDelaySeconds", WHOLE, "0 to 86400"),
    ("startupProbe.periodSeconds", WHOLE, "1 to 86400"),
    ("startupProbe.timeoutSeconds", WHOLE, "1 to 86400"),
    ("startupProbe.failureThreshold", WHOLE, "1 to 100000"),
    ("startupProbe.failureThreshold", &["0"], "1 to 100000"),
    ("resources.limits", QUANTITIES, "quantities"),
    ("resources.requests", QUANTITIES, "quantities"),
    ("serviceAccount.create", FLAG, "true or false"),
    ("serviceAccount.name", OBJECT_NAME, "object name"),
    ("serviceAccount.annotations", ANNOTATIONS, "annotation keys"),
    ("rbac.create", FLAG, "true or false"),
    ("pdb.enabled", FLAG, "true or false"),
    (
        "pdb.minAvailable",
        &["-1", "1001", "101%", "half", "1.5", "true", "[]"],
        "percentage",
    ),
    (
        "pdb.maxUnavailable",
        &["-1", "1001", "101%", "half", "1.5", "true", "[]"],
        "percentage",
    ),
    ("nodeSelector", LABELS, "label keys"),
    (
        "tolerations",
        &[
            "dedicated",
            "{key: a}",
            "[{ky: a}]",
            "[{key: a, operator: Is}]",
            "[{key: a, effect: noschedule}]",
            "[{key: a, operator: Exists, value: b}]",
            "[{operator: Equal, value: b}]",
            "[{key: a, tolerationSeconds: 5, effect: NoSchedule}]",
            "[{key: 1}]",
        ],
        "tolerations",
    ),
    (
        "affinity",
        &[
            "none",
            "[]",
            "{podAntiAfinity: {}}",
            "{nodeAffinity: []}",
            "{podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{weight: 1}]}}",
        ],
        "affinity",
    ),
];

fn problems(parameter: &str, value: &str) -> Vec<ValueError> {
    let yaml = parameter
        .rsplit('.')
        .fold(value.to_owned(), |inner, key| format!("{{{key}: {inner}}}"));
    match ValuesInput::new().file("wrong.yaml", &yaml).resolve() {
        Ok(_) => Vec::new(),
        Err(ValuesError::Invalid(problems)) => problems,
        Err(other) => panic!("{yaml}: {other}"),
    }
}

#[test]
fn each_wrong_value_is_refused_with_what_is_allowed() {
    let mut wrong = Vec::new();
    for (parameter, values, allowed) in ROWS {
        for value in *values {
            match problems(parameter, value).as_slice() {
                [one] if one.path().starts_with(parameter) && told_well(one, allowed) => {}
                others => wrong.push(format!("{parameter}: {value}: {others:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn told_well(problem: &ValueError, allowed: &str) -> bool {
    let told = problem.to_string();
    told.contains("given, allowed: ") && told.contains(allowed)
}

#[test]
fn every_parameter_has_wrong_values() {
    let covered: BTreeSet<&str> = ROWS.iter().map(|(parameter, ..)| *parameter).collect();
    let documented = PARAMETERS
        .iter()
        .filter(|parameter| parameter.in_readme)
        .map(|parameter| parameter.path);
    let without: Vec<&str> = documented.filter(|path| !covered.contains(path)).collect();
    assert!(without.is_empty(), "{without:?}");
    assert!(covered.contains("cluster.drainBeforeScaleDown"));
}

#[test]
fn near_misses_get_a_hint() {
    for (parameter, value, hint) in [
        ("mode", "clustr", "did you mean cluster?"),
        ("image.variant", "hardend", "did you mean hardened?"),
        ("service.type", "NodeProt", "did you mean NodePort?"),
        (
            "config.maxmemoryPolicy",
            "allkeys-lr",
            "did you mean allkeys-lru?",
        ),
        (
            "containerSecurityContext.capabilities.drop",
            "[all]",
            "did you mean ALL?",
        ),
        (
            "containerSecurityContext.capabilities.drop",
            "[CAP_NET_RAW]",
            "did you mean NET_RAW?",
        ),
        (
            "persistence.accessModes",
            "[readWriteOnce]",
            "did you mean ReadWriteOnce?",
        ),
        ("auth.enabled", "\"true\"", "leave the quotes out"),
        ("cluster.replicas", "\"8\"", "leave the quotes out"),
        ("auth.password", "12345", "put it in quotes"),
        ("podLabels", "{version: 9}", "put it in quotes"),
        ("tolerations", "[{ky: a}]", "tolerations[0].ky"),
    ] {
        let told = problems(parameter, value)[0].to_string();
        assert!(told.contains(hint), "{parameter}: {value}: {told}");
    }
}

/// A word with a typo gets a hint at the intended word, for every parameter with a list of words.
#[test]
fn every_word_with_a_slip_gets_a_hint() {
    let mut words = 0;
    for parameter in PARAMETERS {
        let (ValueKind::Word(allowed) | ValueKind::OptionalWord(allowed)) = parameter.kind else {
            continue;
        };
        for word in allowed {
            let (front, back) = word.split_at(word.len() - 2);
            let swapped: String = back.chars().rev().collect();
            for slip in [
                format!("{front}{swapped}"),
                word[..word.len() - 1].to_owned(),
                word.to_uppercase(),
            ] {
                if allowed.contains(&slip.as_str()) {
                    continue;
                }
                let told = problems(parameter.path, &slip)[0].to_string();
                assert!(
                    told.contains("did you mean "),
                    "{}: {slip}: {told}",
                    parameter.path
                );
                words += 1;
            }
        }
    }
    assert!(words > 40, "{words}");
}

#[test]
fn all_that_is_wrong_in_a_file_is_told_at_once() {
    let file = "mode: clustr\ncluster: {replicas: ten, nodeTimout: 1}\nservice: {type: NodeProt, port: 99999}\npodLabels: {a: 1}\n";
    let Err(ValuesError::Invalid(problems)) = ValuesInput::new().file("wrong.yaml", file).resolve() else {
        panic!("nothing of it is right");
    };
    let paths: Vec<&str> = problems.iter().map(ValueError::path).collect();
    for path in [
        "mode",
        "cluster.replicas",
        "cluster.nodeTimout",
        "service.type",
        "service.port",
        "podLabels.a",
    ] {
        assert!(paths.contains(&path), "{path} is not in {paths:?}");
    }
    assert_eq!(paths.len(), 6);
}

/// A misspelt key is reported with the nearest key, at every level and for every parameter.
#[test]
fn a_misspelt_parameter_is_told_with_the_one_that_was_meant() {
    for parameter in PARAMETERS
        .iter()
        .filter(|parameter| parameter.in_readme && parameter.path != "mode")
    {
        // Free tables and the API's own types have no such keys.
        let misspelt = format!("{}x", parameter.path);
        let told = problems(&misspelt, "1")
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        let named = told.contains(parameter.path) || told.contains("no such field");
        assert!(named, "{misspelt}: {told}");
    }
}
