use serde_json::json;

use super::*;

fn refused(spec: &Value) -> Vec<String> {
    pod(spec, "spec").into_iter().map(|error| error.field).collect()
}

#[test]
fn what_cannot_be_done_is_named() {
    let spec = json!({"hostNetwork": true, "hostPID": false,
        "volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}],
        "containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 1}],
            "livenessProbe": {"grpc": {"port": 1}},
            "securityContext": {"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}}]});
    assert_eq!(
        refused(&spec),
        [
            "spec.hostNetwork",
            "spec.volumes[0].hostPath",
            "spec.containers[0].ports[0].hostPort",
            "spec.containers[0].livenessProbe.grpc",
            "spec.containers[0].securityContext.capabilities.add[1]"
        ]
    );
}

#[test]
fn the_usual_pod_is_supported() {
    let spec = json!({"securityContext": {"runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "a", "emptyDir": {"medium": "Memory"}}, {"name": "p", "projected": {"sources": [
            {"configMap": {"name": "x"}}, {"secret": {"name": "y"}}]}}],
        "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]});
    assert!(refused(&spec).is_empty());
}

#[test]
fn settings_of_the_container_that_cannot_be_had_are_refused() {
    for (container, field) in [
        (json!({"tty": true}), "tty"),
        (
            json!({"securityContext": {"privileged": true}}),
            "securityContext.privileged",
        ),
        (
            json!({"securityContext": {"procMount": "Unmasked"}}),
            "securityContext.procMount",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPropagation": "HostToContainer"}]}),
            "volumeMounts[0].mountPropagation",
        ),
        (
            json!({"readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}),
            "readinessProbe.httpGet.scheme",
        ),
    ] {
        let refused = refused(&json!({"containers": [container]}));
        assert_eq!(refused, [format!("spec.containers[0].{field}")]);
    }
    assert_eq!(refused(&json!({"hostUsers": false})), ["spec.hostUsers"]);
}

#[test]
fn values_that_equal_the_default_are_supported() {
    let spec = json!({"hostUsers": true, "securityContext": {"sysctls": [], "seLinuxOptions": {"level": "s0"}},
        "containers": [{"name": "c", "tty": false, "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
            "securityContext": {"privileged": false, "procMount": "Default"},
            "volumeMounts": [{"name": "v", "mountPropagation": "None"}]}]});
    assert!(refused(&spec).is_empty());
    let job = json!({"spec": {"completionMode": "NonIndexed", "managedBy": JOB_CONTROLLER, "manualSelector": false}});
    assert!(self::job(&job).is_empty());
}

#[test]
fn unsupported_fields_of_a_job_are_named() {
    let job = json!({"spec": {"completionMode": "Indexed", "managedBy": "example.com/queue", "manualSelector": true,
        "maxFailedIndexes": 1, "podFailurePolicy": {"rules": [{}]}}});
    let fields: Vec<String> = self::job(&job).into_iter().map(|error| error.field).collect();
    let expected = [
        "manualSelector",
        "maxFailedIndexes",
        "podFailurePolicy",
        "managedBy",
        "completionMode",
    ];
    assert_eq!(fields, expected.map(|field| format!("spec.{field}")));
}

#[test]
fn settings_without_effect_are_named() {
    let pod = json!({"spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}, "containers": [
        {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}});
    assert_eq!(
        unenforced(&pod).expect("two settings"),
        "accepted but not enforced by the embedded cluster: resources.limits.cpu, seccompProfile"
    );
    assert_eq!(
        unenforced(&json!({"spec": {"containers": [{"name": "c"}]}})),
        None
    );
    let service = json!({"spec": {"clusterIP": "10.96.0.9", "type": "NodePort", "ports": [{"port": 53, "protocol": "UDP"}]}});
    let found = unenforced_of_service(&service).join("; ");
    assert!(found.contains("53/UDP") && found.contains("NodePort"), "{found}");
}
