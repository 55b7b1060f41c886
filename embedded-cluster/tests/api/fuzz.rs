//! Malformed requests sent straight to the router. Every answer must be an object or a Kubernetes
//! `Status`, and nothing may panic. The seed is fixed; `API_FUZZ_REQUESTS` and `API_FUZZ_SEED` set
//! another number of requests or another seed.

use crate::fake_node::FakeNode;
use embedded_cluster::api::{ApiConfig, ApiServer};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

/// Number of requests in the gate, which take a few seconds.
const REQUESTS: u64 = 20_000;

/// Bytes of an answer that are checked.
const LOOKED_AT: usize = 64 * 1024;

/// A linear congruential generator (Knuth's MMIX constants): good enough for choices, and
/// reproducible on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

/// A resource with objects of it that the server accepts.
struct Sample {
    path: &'static str,
    object: Value,
}

fn samples() -> Vec<Sample> {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"restartPolicy": "Always", "containers": [
        {"name": "c", "image": "i:1", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 1}],
         "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
         "volumeMounts": [{"name": "v", "mountPath": "/v"}],
         "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}],
        "volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 5}});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let selector = json!({"matchLabels": {"app": "a"}});
    let named = |path: &'static str, mut object: Value| {
        object["metadata"]["name"] = json!("a");
        Sample { path, object }
    };
    vec![
        named("/api/v1/namespaces/default/pods", template.clone()),
        named(
            "/api/v1/namespaces/default/configmaps",
            json!({"data": {"k": "v"}, "binaryData": {"b": "AA=="}}),
        ),
        named(
            "/api/v1/namespaces/default/secrets",
            json!({"type": "Opaque", "stringData": {"k": "v"}}),
        ),
        named(
            "/api/v1/namespaces/default/services",
            json!({"spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": "http", "name": "x"}]}}),
        ),
        named(
            "/api/v1/namespaces/default/persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        named(
            "/apis/apps/v1/namespaces/default/statefulsets",
            json!({"spec": {"replicas": 2, "serviceName": "a", "selector": selector, "template": template}}),
        ),
        named(
            "/apis/batch/v1/namespaces/default/jobs",
            json!({"spec": {"backoffLimit": 1, "template": once}}),
        ),
        named(
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            json!({"spec": {"minAvailable": "50%", "selector": selector}}),
        ),
        named(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        ),
        named("/api/v1/namespaces", json!({})),
        named(
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"provisioner": "x/y"}),
        ),
        named(
            "/apis/events.k8s.io/v1/namespaces/default/events",
            json!({"note": "n", "regarding": {"kind": "Pod", "name": "a"}, "type": "Normal", "eventTime": null}),
        ),
        named(
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            json!({"spec": {"leaseTransitions": 1}}),
        ),
    ]
}

/// Returns a value that is wrong nearly everywhere.
fn odd_value(dice: &mut Dice) -> Value {
    dice.of(&[
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1_000_000_000_000_i64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(i32::MAX),
        json!(1.5e300),
        json!(""),
        json!("\u{0}\u{ffff}ü%/.."),
        json!("1e999"),
        json!("-1.5"),
        json!("99999999999999999999999999E"),
        json!("x".repeat(300)),
        json!([]),
        json!([null]),
        json!([[1], {"a": 1}]),
        json!({}),
        json!({"": {"$patch": "delete"}}),
        json!({"matchLabels": 1}),
        json!({"name": "a", "$patch": "delete"}),
        json!({"$patch": "what"}),
        json!("2026-01-01T00:00:00Z"),
        json!("-9999-01-01T00:00:00Z"),
    ])
}

const NAMES: [&str; 34] = [
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "uid",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "spec",
    "status",
    "replicas",
    "ordinals",
    "start",
    "selector",
    "template",
    "containers",
    "env",
    "ports",
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "conditions",
    "type",
    "data",
    "limits",
    "volumes",
    "volumeClaimTemplates",
    "tolerations",
    "affinity",
    "minReadySeconds",
    "kind",
];

/// Changes a random part of the value.
fn mutate(dice: &mut Dice, value: &mut Value) {
    match value {
        Value::Object(map) if !map.is_empty() && !dice.one_in(5) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = dice.of(&keys);
            if dice.one_in(12) {
                map.shift_remove(&key);
            } else if let Some(below) = map.get_mut(&key) {
                mutate(dice, below);
            }
        }
        Value::Object(map) => drop(map.insert(dice.of(&NAMES).to_owned(), odd_value(dice))),
        Value::Array(list) if !list.is_empty() && !dice.one_in(4) => {
            let index = dice.below(list.len());
            if dice.one_in(6) {
                let twin = list[index].clone();
                list.push(twin);
            }
            mutate(dice, &mut list[index]);
        }
        other => *other = odd_value(dice),
    }
}

fn pointer(dice: &mut Dice) -> String {
    (0..dice.below(5)).fold(String::new(), |path, _| match dice.below(8) {
        0 => path + "/-",
        1 => path + "/0",
        2 => path + "/~1x",
        3 => path,
        _ => format!("{path}/{}", dice.of(&NAMES)),
    })
}

fn json_patch(dice: &mut Dice) -> Value {
    let operations = (0..=dice.below(4)).map(|_| {
        let op = dice.of(&["add", "remove", "replace", "move", "copy", "test", "what"]);
        json!({"op": op, "path": pointer(dice), "from": pointer(dice), "value": odd_value(dice)})
    });
    Value::Array(operations.collect())
}

fn nested(dice: &mut Dice) -> Vec<u8> {
    let depth = dice.of(&[50, 99, 127, 128, 5000]);
    let (open, close) = dice.of(&[("[", "]"), ("{\"a\":", "}")]);
    format!("{}1{}", open.repeat(depth), close.repeat(depth)).into_bytes()
}

fn query(dice: &mut Dice) -> String {
    let parameters = [
        "watch=1&timeoutSeconds=1",
        "watch=true&timeoutSeconds=99999999999999999999",
        "watch=1&resourceVersion=1",
        "watch=1&resourceVersion=18446744073709551615",
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        "timeoutSeconds=-1",
        "limit=1",
        "limit=-1",
        "limit=18446744073709551616",
        "continue=eyJydiI6MX0",
        "continue=%FF%00",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=5&resourceVersionMatch=Exact",
        "labelSelector=a%20in%20(b,c),!d,e%3E5",
        "labelSelector=((((,)",
        "labelSelector=%2C%2C%3D",
        "fieldSelector=metadata.name%3Da",
        "fieldSelector=metadata.name!%3D",
        "fieldSelector=%3D,%3D",
        "dryRun=All",
        "dryRun=x",
        "fieldManager=m&force=true",
        "fieldManager=m",
        "fieldValidation=Strict",
        "gracePeriodSeconds=9223372036854775807",
        "gracePeriodSeconds=-9223372036854775808",
        "propagationPolicy=Foreground",
        "propagationPolicy=x",
        "sinceSeconds=9223372036854775807&tailLines=9223372036854775807",
        "sinceTime=-9999-01-01T00:00:00Z&limitBytes=1",
        "container=c&command=x&stdout=1",
        "ports=1,2,70000",
        "%zz=%",
    ];
    let chosen: Vec<&str> = (0..dice.below(3)).map(|_| dice.of(&parameters)).collect();
    chosen.join("&")
}

fn path(dice: &mut Dice, sample: &Sample, method: &Method) -> String {
    let mut path = sample.path.to_owned();
    let names = if *method == Method::POST {
        dice.one_in(4)
    } else {
        !dice.one_in(6)
    };
    if names {
        path += &format!("/{}", dice.of(&["a", "a", "a", "b", "%00", "%FF%FE", "..", ""]));
        if dice.one_in(4) {
            let below = [
                "status",
                "scale",
                "eviction",
                "binding",
                "log",
                "exec",
                "attach",
                "portforward",
                "token",
                "finalize",
                "x",
                "",
            ];
            path += &format!("/{}", dice.of(&below));
        }
    } else if dice.one_in(8) {
        let others = [
            "/",
            "//",
            "/api",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/openapi/v2",
            "/openapi/v3/apis/apps/v1",
            "/version",
            "/livez/x",
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            "/api/v1/componentstatuses",
            "/x/%2e%2e/%",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            "/api/v1/namespaces/default/services/a/proxy",
            "/api/v1/watch/pods",
        ];
        path = dice.of(&others).to_owned();
    }
    let query = query(dice);
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

fn body(dice: &mut Dice, sample: &Sample, method: &Method) -> (&'static str, Vec<u8>) {
    let whole = [
        "application/json",
        "application/json",
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ];
    let patches = [
        "application/json-patch+json",
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
        "text/plain",
    ];
    let patching = (*method == Method::PATCH) != dice.one_in(20);
    let content_type = if patching {
        dice.of(&patches)
    } else {
        dice.of(&whole)
    };
    let mut object = sample.object.clone();
    for _ in 0..dice.below(6).saturating_sub(2) {
        mutate(dice, &mut object);
    }
    let bytes = match (content_type, dice.below(32)) {
        (_, 0) => nested(dice),
        (_, 1) => odd_value(dice).to_string().into_bytes(),
        (_, 2) => json!({"gracePeriodSeconds": odd_value(dice), "preconditions": odd_value(dice),
            "deleteOptions": odd_value(dice), "target": odd_value(dice)})
        .to_string()
        .into_bytes(),
        (_, 3) => {
            let text = object.to_string().into_bytes();
            let cut = dice.below(text.len().max(1));
            text[..cut].to_vec()
        }
        ("application/vnd.kubernetes.protobuf", _) => {
            let noise = (0..dice.below(60)).map(|_| u8::try_from(dice.below(256)).expect("a byte"));
            b"k8s\0\x0a\x0b\x0a\x02v1\x12\x05Event\x12"
                .iter()
                .copied()
                .chain(noise)
                .collect()
        }
        ("application/json-patch+json", _) => json_patch(dice).to_string().into_bytes(),
        _ => object.to_string().into_bytes(),
    };
    (content_type, bytes)
}

fn request(dice: &mut Dice, samples: &[Sample]) -> Request<Body> {
    let sample = &samples[dice.below(samples.len())];
    let method = dice.of(&[
        Method::GET,
        Method::POST,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::PATCH,
        Method::PATCH,
        Method::DELETE,
    ]);
    let method = if dice.one_in(100) { Method::OPTIONS } else { method };
    let accept = dice.of(&[
        "application/json",
        "application/json",
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/yaml",
    ]);
    let accept = if dice.one_in(50) { "text/html" } else { accept };
    let (content_type, bytes) = body(dice, sample, &method);
    let uri = path(dice, sample, &method);
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, content_type)
        .body(Body::from(bytes))
        .expect("the paths above are URIs")
}

/// Checks that a refusal is a Status and that no answer mentions a panic.
fn check(code: StatusCode, content_type: &str, body: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(body);
    if text.contains("panicked") {
        return Err(text.into_owned());
    }
    if code.is_success() {
        return Ok(());
    }
    let status: Option<Value> = match content_type {
        "application/json" => serde_json::from_slice(body).ok(),
        _ => None,
    };
    let good = status.is_some_and(|status| status["kind"] == "Status" && status["code"] == code.as_u16());
    if good {
        Ok(())
    } else {
        Err(format!("not a Status: {text}"))
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn no_request_panics_and_every_refusal_is_a_status() {
    let server = ApiServer::new(ApiConfig::default());
    server.set_pod_runtime(FakeNode::shared(None));
    let client = server.client();
    let seed = number("API_FUZZ_SEED", 2026);
    let (mut dice, samples) = (Dice(seed), samples());
    let mut taken = 0_u64;
    for index in 0..number("API_FUZZ_REQUESTS", REQUESTS) {
        let request = request(&mut dice, &samples);
        let what = format!("{} {}", request.method(), request.uri());
        let response = client.send(request).await.expect("an answer");
        let code = response.status();
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        // A watch does not end: its first part is enough.
        while bytes.len() < LOOKED_AT
            && let Some(Some(Ok(frame))) = futures::FutureExt::now_or_never(body.frame())
        {
            bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        if bytes.len() < LOOKED_AT
            && let Err(why) = check(code, &content_type, &bytes)
        {
            panic!("request {index} of seed {seed}: {what}: {code}: {why}");
        }
        taken += u64::from(code.is_success());
    }
    assert!(
        taken > REQUESTS / 10,
        "only {taken} requests were good enough to be carried out"
    );
}
