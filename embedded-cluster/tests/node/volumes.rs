//! Tests of volumes with well-behaved and with malicious containers.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::pods::{Outcome, check, create, delete, exec, pod, ready, until};

/// The user ID of the chart's servers. It has no name on the node.
const UID: u32 = 999;

/// Builds a pod of an ordinary user with this volume at `/v` and its sub path at `/file`.
fn with_volume(name: &str, volume: &Value, sub_path: Option<&str>) -> Value {
    let mut mounts = vec![json!({"name": "v", "mountPath": "/v"})];
    mounts.extend(sub_path.map(|path| json!({"name": "v", "mountPath": "/file", "subPath": path})));
    let mut pod = pod(
        name,
        json!({"command": ["sleep", "100"], "volumeMounts": mounts,
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}),
    );
    let mut volume = volume.clone();
    volume["name"] = json!("v");
    pod["spec"]["volumes"] = json!([volume]);
    pod["spec"]["securityContext"] = json!({"runAsUser": UID, "runAsNonRoot": true, "fsGroup": UID});
    pod
}

async fn config_map(client: &Client, name: &str) -> Result<Api<ConfigMap>, libtest_mimic::Failed> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map = json!({"metadata": {"name": name}, "data": {"key": "first"}});
    maps.create(&PostParams::default(), &serde_json::from_value(map)?)
        .await?;
    Ok(maps)
}

pub(crate) async fn volumes_from_the_api_are_read_only(client: Client) -> Outcome {
    config_map(&client, "read-only").await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "read-only"}, "stringData": {"key": "first"}});
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::default_namespaced(client.clone());
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    let field = json!([{"path": "key", "fieldRef": {"fieldPath": "metadata.name"}}]);
    let volumes = [
        ("config", json!({"configMap": {"name": "read-only"}})),
        ("secret", json!({"secret": {"secretName": "read-only"}})),
        ("downward", json!({"downwardAPI": {"items": field}})),
        (
            "projected",
            json!({"projected": {"sources": [{"configMap": {"name": "read-only"}}]}}),
        ),
    ];
    for (kind, volume) in volumes {
        let name = format!("read-only-{kind}");
        create(&client, with_volume(&name, &volume, Some("key"))).await?;
        until(&client, &name, "Ready", ready).await?;
        let attempts = [
            "echo planted > /v/key",
            "echo planted > /file",
            "rm /v/..data",
            "touch /v/planted",
        ];
        for attempt in attempts {
            let script = format!("if ({attempt}) 2>/tmp/refusal; then echo done; else cat /tmp/refusal; fi");
            let (said, _) = exec(&client, &name, &["sh", "-c", &script]).await?;
            check(
                said.contains("Read-only file system"),
                format!("{kind}: {attempt}: {said}"),
            )?;
        }
        delete(&client, &name).await?;
    }
    Ok(())
}

/// Repeats an attack: a container puts a link to a host directory where the node expects a
/// directory.
pub(crate) async fn a_config_volume_cannot_be_turned_against_the_host(client: Client) -> Outcome {
    let host = tempfile::tempdir()?;
    std::fs::write(host.path().join("key"), "of the host")?;
    let maps = config_map(&client, "attacked").await?;
    create(
        &client,
        with_volume("attacker", &json!({"configMap": {"name": "attacked"}}), None),
    )
    .await?;
    until(&client, "attacker", "Ready", ready).await?;
    let target = host.path().display();
    let attack = format!(
        "symlink('{target}', '/v/planted') and rename('/v/planted', '/v/..data') and print 'planted';
         rename('/v/' . readlink('/v/..data'), '/v/gone') and print 'moved';"
    );
    let (said, _) = exec(&client, "attacker", &["perl", "-e", &attack]).await?;
    check(said.is_empty(), format!("the container could write: {said}"))?;
    let patch = Patch::Merge(json!({"data": {"key": "second"}}));
    maps.patch("attacked", &PatchParams::default(), &patch).await?;
    let wait =
        "i=0; until grep -q second /v/key; do i=$((i + 1)); test $i -lt 1000 || exit 1; sleep 0.1; done";
    let (_, status) = exec(&client, "attacker", &["sh", "-c", wait]).await?;
    check(status.is_empty(), format!("the update did not arrive: {status}"))?;
    let files: Vec<_> = std::fs::read_dir(host.path())?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    check(files == ["key"], format!("the host's folder now has {files:?}"))?;
    let text = std::fs::read_to_string(host.path().join("key"))?;
    check(text == "of the host", text)?;
    delete(&client, "attacker").await
}

pub(crate) async fn a_sub_path_that_leads_out_makes_nothing_on_the_host(client: Client) -> Outcome {
    let host = tempfile::tempdir()?;
    let mut pod = with_volume(
        "leads-out",
        &json!({"emptyDir": {}}),
        Some("out/made/by/the/node"),
    );
    let plant = format!("symlink('{}', '/v/out') or die", host.path().display());
    let mut first = pod["spec"]["containers"][0].clone();
    first["name"] = json!("plant");
    first["command"] = json!(["perl", "-e", plant]);
    first["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    pod["spec"]["initContainers"] = json!([first]);
    create(&client, pod).await?;
    let refused = |pod: &Pod| {
        let waiting = crate::pods::status(pod).and_then(|status| status.state?.waiting);
        waiting.is_some_and(|waiting| {
            waiting.reason.as_deref() == Some("CreateContainerConfigError")
                && waiting
                    .message
                    .is_some_and(|message| message.contains("leads out of its volume"))
        })
    };
    until(&client, "leads-out", "a refused sub path", refused).await?;
    let made = std::fs::read_dir(host.path())?.count();
    check(made == 0, format!("{made} entries were made on the host"))?;
    delete(&client, "leads-out").await
}

/// Tests that the directory of a sub path has its volume's group, as on a real node. An ordinary
/// user can then write there.
pub(crate) async fn a_sub_path_is_writable_where_its_volume_is(client: Client) -> Outcome {
    create(
        &client,
        with_volume("sub-path", &json!({"emptyDir": {}}), Some("made/by/the/node")),
    )
    .await?;
    until(&client, "sub-path", "Ready", ready).await?;
    let script = "echo data > /file/written && cat /v/made/by/the/node/written";
    let (said, status) = exec(&client, "sub-path", &["sh", "-c", script]).await?;
    check(said == "data\n", format!("{said}{status}"))?;
    delete(&client, "sub-path").await
}
