//! Fields of the rendered objects, for the four combinations and for single parameters.

use std::collections::BTreeSet;

use manifests::values::PARAMETERS;
use manifests::{
    Hook, HookEvent, Manifests, Mode, Password, Release, RenderError, Values, ValuesInput, Variant, render,
};
use rstest::rstest;
use serde_json::{Value, json};

fn release() -> Release {
    Release::install("my-valkey", "prod").with_password(Password::parse("sixteen-letters1").expect("valid"))
}

fn rendered(set: &str) -> Manifests {
    render(
        &release(),
        &ValuesInput::new().set(set).resolve().expect("valid values"),
    )
    .expect("renders")
}

fn stateful_set(manifests: &Manifests) -> Value {
    manifests.objects().pop().expect("the StatefulSet is last")
}

fn names(variables: &Value) -> Vec<&str> {
    variables
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["name"].as_str().expect("a name"))
        .collect()
}

#[rstest]
#[case(Mode::Standalone, Variant::Rpm)]
#[case(Mode::Standalone, Variant::Hardened)]
#[case(Mode::Cluster, Variant::Rpm)]
#[case(Mode::Cluster, Variant::Hardened)]
fn every_object_is_named_labelled_and_in_the_namespace(#[case] mode: Mode, #[case] variant: Variant) {
    let manifests = render(&release(), &Values::combination(mode, variant)).expect("renders");
    let hooks: Vec<Value> = manifests.hooks.iter().map(Hook::to_value).collect();
    for object in manifests.objects().iter().chain(&hooks) {
        let metadata = &object["metadata"];
        assert_eq!(metadata["namespace"], "prod", "{object}");
        assert_eq!(
            metadata["labels"]["app.kubernetes.io/instance"], "my-valkey",
            "{object}"
        );
        assert_eq!(
            metadata["labels"]["helm.sh/chart"], "percona-valkey-0.1.0",
            "{object}"
        );
    }
}

#[test]
fn kinds_come_in_helms_install_order() {
    let kinds = |set| -> Vec<String> {
        rendered(set)
            .objects()
            .iter()
            .map(|object| object["kind"].as_str().expect("a kind").to_owned())
            .collect()
    };
    let always = [
        "ServiceAccount",
        "Secret",
        "ConfigMap",
        "Service",
        "Service",
        "StatefulSet",
    ];
    assert_eq!(kinds("mode=standalone"), always);
    assert_eq!(
        kinds("mode=cluster"),
        [&["PodDisruptionBudget"], &always[..]].concat()
    );
    assert_eq!(
        kinds("auth.enabled=false,serviceAccount.create=false"),
        always[2..]
    );
    assert_eq!(
        kinds("mode=cluster,pdb.enabled=false,auth.existingSecret=mine")[0],
        "ServiceAccount"
    );
}

#[test]
fn the_hooks_of_a_cluster_follow_the_life_of_a_release() {
    let manifests = rendered("mode=cluster");
    let at = |event| -> Vec<String> {
        manifests
            .hooks_for(event)
            .iter()
            .map(|hook| hook.name().to_owned())
            .collect()
    };
    assert_eq!(
        at(HookEvent::PostInstall),
        ["my-valkey-percona-valkey-cluster-init"]
    );
    assert_eq!(
        at(HookEvent::PreUpgrade),
        ["my-valkey-percona-valkey-cluster-drain"]
    );
    assert_eq!(
        at(HookEvent::PostUpgrade),
        ["my-valkey-percona-valkey-cluster-scale"]
    );
    assert_eq!(at(HookEvent::Test), ["my-valkey-percona-valkey-test-connection"]);
    let init = manifests.hooks_for(HookEvent::PostInstall)[0].to_value();
    assert_eq!(
        init["metadata"]["annotations"],
        json!({"helm.sh/hook": "post-install", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
               "helm.sh/hook-weight": "5"})
    );
    assert_eq!(init["spec"]["backoffLimit"], 6);
    assert_eq!(rendered("mode=standalone").hooks.len(), 1);
    let without = rendered("mode=cluster,cluster.drainBeforeScaleDown=false");
    assert!(without.hooks_for(HookEvent::PreUpgrade).is_empty());
}

#[test]
fn selectors_find_the_servers_and_no_tool() {
    let manifests = rendered("mode=cluster");
    let set = stateful_set(&manifests);
    let servers = &set["spec"]["template"]["metadata"]["labels"];
    let matches = |selector: &Value, labels: &Value| {
        selector
            .as_object()
            .expect("a selector")
            .iter()
            .all(|(key, value)| labels[key] == *value)
    };
    let objects = manifests.objects();
    let selectors: Vec<&Value> = objects
        .iter()
        .filter_map(|object| match object["kind"].as_str()? {
            "Service" => Some(&object["spec"]["selector"]),
            "PodDisruptionBudget" | "StatefulSet" => Some(&object["spec"]["selector"]["matchLabels"]),
            _ => None,
        })
        .collect();
    assert_eq!(selectors.len(), 4);
    for hook in &manifests.hooks {
        let hook = hook.to_value();
        let labels = match hook["kind"].as_str() {
            Some("Job") => &hook["spec"]["template"]["metadata"]["labels"],
            _ => &hook["metadata"]["labels"],
        };
        for selector in &selectors {
            assert!(matches(selector, servers), "{selector} does not find the servers");
            assert!(!matches(selector, labels), "{selector} finds {labels}");
        }
        assert_eq!(labels["app.kubernetes.io/instance"], "my-valkey", "{labels}");
    }
}

#[test]
fn the_server_of_a_cluster_gets_its_environment_in_order() {
    let set = stateful_set(&rendered(
        "mode=cluster,config.maxmemory=256mb,config.extraFlags=--io-threads 2",
    ));
    let env = &set["spec"]["template"]["spec"]["containers"][0]["env"];
    let expected = [
        "VALKEY_PASSWORD",
        "REDISCLI_AUTH",
        "VALKEY_MAXMEMORY",
        "VALKEY_BIND",
        "POD_IP",
        "VALKEY_EXTRA_FLAGS",
    ];
    assert_eq!(names(env), expected);
    assert_eq!(
        env[5]["value"],
        "--io-threads 2 --masterauth $(VALKEY_PASSWORD) --cluster-announce-ip $(POD_IP)"
    );
    let set = stateful_set(&rendered("mode=cluster,auth.enabled=false"));
    assert_eq!(
        set["spec"]["template"]["spec"]["containers"][0]["env"][2]["value"],
        " --cluster-announce-ip $(POD_IP)"
    );
    let set = stateful_set(&rendered("config.bind="));
    assert_eq!(
        names(&set["spec"]["template"]["spec"]["containers"][0]["env"]),
        ["VALKEY_PASSWORD", "REDISCLI_AUTH"]
    );
}

#[test]
fn scaling_changes_no_pod_of_the_stateful_set() {
    let template = |set| stateful_set(&rendered(set))["spec"]["template"].clone();
    assert_eq!(
        template("mode=cluster,cluster.replicas=6"),
        template("mode=cluster,cluster.replicas=8")
    );
    assert_eq!(
        template("mode=cluster,cluster.replicas=9"),
        template("mode=cluster,cluster.replicas=9,cluster.replicasPerPrimary=2")
    );
    assert_ne!(
        template("mode=cluster"),
        template("mode=cluster,cluster.nodeTimeout=5000")
    );
}

#[test]
fn the_hardened_server_needs_no_shell_and_writes_nowhere_else() {
    for mode in Mode::ALL {
        let set = stateful_set(&rendered(&format!(
            "mode={mode},image.variant=hardened,containerSecurityContext.allowPrivilegeEscalation=true"
        )));
        let pod = &set["spec"]["template"]["spec"];
        let server = &pod["containers"][0];
        assert_eq!(server["image"], "perconalab/valkey:9.0.3-hardened");
        assert_eq!(
            server["securityContext"],
            json!({"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
        );
        let paths: Vec<_> = server["volumeMounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .map(|m| &m["mountPath"])
            .collect();
        assert_eq!(paths, ["/data", "/etc/valkey", "/tmp", "/run/valkey"]);
        assert_eq!(
            pod["volumes"][1],
            json!({"name": "tmp", "emptyDir": {"medium": "Memory"}})
        );
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            assert_eq!(server[probe]["exec"]["command"][0], "valkey-cli", "{probe}");
        }
        assert!(server.get("command").is_none());
    }
}

#[test]
fn tools_run_the_rpm_image_whatever_the_server_runs() {
    let manifests = rendered("mode=cluster,image.variant=hardened,image.tag=1.2.3");
    for hook in &manifests.hooks {
        let hook = hook.to_value();
        let spec = if hook["kind"] == "Job" {
            &hook["spec"]["template"]["spec"]
        } else {
            &hook["spec"]
        };
        assert_eq!(
            spec["containers"][0]["image"], "perconalab/valkey:9.0.3",
            "{}",
            hook["metadata"]["name"]
        );
    }
    let set = stateful_set(&manifests);
    assert_eq!(
        set["spec"]["template"]["spec"]["containers"][0]["image"],
        "perconalab/valkey:1.2.3"
    );
}

#[test]
fn no_password_is_rendered_outside_the_secret() {
    let manifests = rendered("mode=cluster,auth.password=find-me-nowhere");
    let yaml = manifests.to_yaml();
    assert!(!yaml.contains("find-me-nowhere"), "base64 in the Secret only");
    let secret = manifests.secret.expect("rendered").data.expect("data");
    assert_eq!(secret["valkey-password"].0, b"find-me-nowhere");
}

#[test]
fn a_password_comes_from_the_values_or_else_from_the_release() {
    let values = Values::default();
    assert!(values.needs_password());
    let error = render(&Release::install("r", "d"), &values).expect_err("no password");
    assert!(matches!(error, RenderError::PasswordMissing { .. }), "{error}");
    let secret = rendered("").secret.expect("rendered").data.expect("data");
    assert_eq!(secret["valkey-password"].0, b"sixteen-letters1");
}

#[rstest]
#[case("", json!({"maxUnavailable": 1}))]
#[case("pdb.maxUnavailable=0", json!({"maxUnavailable": 0}))]
#[case("pdb.minAvailable=0", json!({"maxUnavailable": 1}))]
#[case("pdb.minAvailable=50%", json!({"minAvailable": "50%"}))]
#[case("pdb.minAvailable=4,pdb.maxUnavailable=2", json!({"minAvailable": 4}))]
fn the_disruption_budget_follows_helms_truthiness(#[case] set: &str, #[case] expected: Value) {
    let objects = rendered(format!("mode=cluster,{set}").trim_end_matches(',')).objects();
    let mut spec = objects[0]["spec"].clone();
    spec.as_object_mut().expect("a spec").remove("selector");
    assert_eq!(spec, expected);
}

#[test]
fn valkey_conf_has_the_charts_lines_in_order() {
    let manifests = rendered("mode=cluster,config.maxmemory=1gb,config.customConfig=hz 10\nloglevel notice");
    let conf = &manifests.config_map.data.expect("data")["valkey.conf"];
    let lines: Vec<_> = conf
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert_eq!(
        lines,
        [
            "protected-mode no",
            "port 6379",
            "dir /data",
            "bind 0.0.0.0",
            "maxmemory 1gb",
            "save 3600 1 300 100 60 10000",
            "dbfilename dump.rdb",
            "appendonly yes",
            "appendfilename \"appendonly.aof\"",
            "cluster-enabled yes",
            "cluster-config-file /data/nodes.conf",
            "cluster-node-timeout 15000",
            "hz 10",
            "loglevel notice",
        ]
    );
}

#[test]
fn names_that_kubernetes_would_refuse_are_refused() {
    let long = Release {
        name: "a".repeat(53),
        ..release()
    };
    let error = render(&long, &Values::default()).expect_err("too long");
    assert!(error.to_string().contains("fullnameOverride"), "{error}");
    let values = Values {
        fullname_override: "short".into(),
        ..Values::default()
    };
    render(&long, &values).expect("the release name itself fits");
    for name in ["", "Upper", "-dash", "under_score"] {
        assert!(
            render(
                &Release {
                    name: name.into(),
                    ..release()
                },
                &Values::default()
            )
            .is_err(),
            "{name:?}"
        );
    }
}

#[test]
fn the_table_the_types_and_the_readme_agree() {
    let tree = serde_json::to_value(Values::default()).expect("plain JSON");
    let documented: BTreeSet<_> = PARAMETERS
        .iter()
        .filter(|parameter| parameter.in_readme)
        .map(|p| p.path)
        .collect();
    assert_eq!(documented.len(), 69);
    for path in documented {
        let pointer = format!("/{}", path.replace('.', "/"));
        assert!(tree.pointer(&pointer).is_some(), "{path} has no default");
    }
    assert_eq!(Values::default().problems(), []);
}

#[test]
fn values_survive_being_written_and_read() {
    let values = ValuesInput::new()
        .set("mode=cluster,podLabels.team=cache,resources.limits.cpu=2")
        .resolve()
        .expect("valid");
    let yaml = serde_yaml::to_string(&values).expect("plain YAML");
    assert_eq!(
        ValuesInput::new()
            .file("written", &yaml)
            .resolve()
            .expect("valid"),
        values
    );
    assert_eq!(
        serde_yaml::from_str::<Values>(&yaml).expect("plain serde reads it too"),
        values
    );
}

#[test]
fn all_problems_are_reported_together() {
    let yaml = "mode: clustr\ncluster:\n  replcas: 8\n  nodeTimeout: 5\nauth:\n  pasword: x\nservice: 5\npersistence:\n  size: 8GB\n";
    let error = ValuesInput::new()
        .file("bad.yaml", yaml)
        .resolve()
        .expect_err("six problems")
        .to_string();
    for expected in [
        "6 problems in values:",
        "mode: \"clustr\" given, allowed: standalone, cluster (did you mean cluster?)",
        "cluster.replcas: unknown key \"replcas\", did you mean cluster.replicas?",
        "cluster.nodeTimeout: 5 given, allowed: a whole number from 100 to 86400000",
        "auth.pasword: unknown key \"pasword\", did you mean auth.password?",
        "service: 5 given, allowed: a table with type, port, annotations",
        "persistence.size: \"8GB\" given, allowed: a quantity above zero, such as 8Gi",
    ] {
        assert!(error.contains(expected), "{expected:?} is missing from\n{error}");
    }
}

#[test]
fn files_and_sets_win_in_helms_order() {
    let values = ValuesInput::new()
        .file("one", "cluster: {replicas: 8}\npodLabels: {a: x, b: y}\n")
        .file("two", "podLabels: {a: null}\nconfig: {bind: null}\n")
        .set("cluster.replicas=10")
        .set(r"nodeSelector.kubernetes\.io/os=linux,tolerations[0].key=dedicated")
        .resolve()
        .expect("valid");
    assert_eq!(values.cluster.replicas, 10);
    assert_eq!(
        values.pod_labels.into_iter().collect::<Vec<_>>(),
        [("b".to_owned(), "y".to_owned())]
    );
    assert_eq!(values.config.bind, "");
    assert_eq!(values.node_selector["kubernetes.io/os"], "linux");
    assert_eq!(values.tolerations[0].key.as_deref(), Some("dedicated"));
}

/// A script is built from several files, so a second definition of a function would silently win.
#[test]
fn no_script_defines_a_function_twice() {
    fn scripts(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) if text.contains("set -u\n") => found.push(text.clone()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| scripts(item, found)),
            serde_json::Value::Object(fields) => fields.values().for_each(|field| scripts(field, found)),
            _ => {}
        }
    }
    let rendered = rendered("mode=cluster");
    let mut found = Vec::new();
    let hooks = rendered.hooks.iter().map(manifests::Hook::to_value);
    rendered
        .objects()
        .into_iter()
        .chain(hooks)
        .for_each(|object| scripts(&object, &mut found));
    assert_eq!(found.len(), 4, "the peers' container and three Jobs");
    for script in found {
        let mut names: Vec<&str> = script
            .lines()
            .filter_map(|line| line.split_once("() {"))
            .map(|(name, _)| name)
            .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .collect();
        assert!(names.len() > 10, "too few functions: {names:?}");
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "defined twice: {twice:?}");
    }
}
