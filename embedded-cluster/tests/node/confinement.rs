//! Tests of the confinement of containers and of leftovers after their end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use embedded_cluster::supervisor::{EmbeddedCluster, Options};
use kube::Client;
use kube::api::PostParams;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::host_image;
use crate::pods::{Outcome, check, create, delete, exec, pod, pods, ready, until};

/// Tests a container that runs as root with all default permissions.
pub(crate) async fn devices_can_be_neither_made_nor_opened(client: Client) -> Outcome {
    create(&client, pod("devices", json!({"command": ["sleep", "100"]}))).await?;
    until(&client, "devices", "Ready", ready).await?;
    let mknodat = if cfg!(target_arch = "x86_64") { 259 } else { 33 };
    for folder in ["/tmp", "/dev"] {
        let make = format!(
            "my $path = '{folder}/own'; print syscall({mknodat}, -100, $path, 0020666, 0x105) == 0 ? 'made' : \"$!\""
        );
        let (said, _) = exec(&client, "devices", &["perl", "-e", &make]).await?;
        check(said == "Operation not permitted", format!("{folder}: {said}"))?;
    }
    // The standard devices work.
    let (said, _) = exec(
        &client,
        "devices",
        &["sh", "-c", "echo x > /dev/null && echo fine"],
    )
    .await?;
    check(said == "fine\n", said)?;
    if host_image::has_device() {
        let open = "open(my $file, '<', '/data/zero') and print 'opened' or print \"$!\"";
        let (said, _) = exec(&client, "devices", &["perl", "-e", open]).await?;
        check(
            said == "Permission denied",
            format!("a device of the image: {said}"),
        )?;
    }
    delete(&client, "devices").await
}

pub(crate) async fn capabilities_that_reach_the_host_are_refused(client: Client) -> Outcome {
    for capability in ["SYS_ADMIN", "CAP_SYS_MODULE", "MKNOD", "DAC_READ_SEARCH", "ALL"] {
        let context = json!({"capabilities": {"add": [capability]}});
        let wanted = pod("mighty", json!({"securityContext": context}));
        let refused = pods(&client)
            .create(&PostParams::default(), &serde_json::from_value(wanted)?)
            .await;
        let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
        let named = text.contains("capabilities.add[0]") && text.contains(capability);
        check(named, format!("{capability}: {text:?}"))?;
    }
    Ok(())
}

pub(crate) async fn volumes_of_the_image_are_writable(client: Client) -> Outcome {
    let context = json!({"readOnlyRootFilesystem": true, "runAsUser": 999});
    let container = json!({"command": ["sleep", "100"], "securityContext": context});
    create(&client, pod("image-volumes", container)).await?;
    until(&client, "image-volumes", "Ready", ready).await?;
    let script =
        "cat /kept/inside && echo data > /kept/written && cat /kept/written; echo x > /tmp/x || echo refused";
    let (said, _) = exec(&client, "image-volumes", &["sh", "-c", script]).await?;
    check(said == "of the image\ndata\nrefused\n", said)?;
    delete(&client, "image-volumes").await
}

/// Kills clusters while their containers have a memory limit: once the supervisor, once its first
/// process.
pub(crate) async fn no_cgroup_outlives_its_cluster(images: PathBuf) -> Outcome {
    for part in ["supervisor", "first process"] {
        let cluster = EmbeddedCluster::start(Options::new("limits", &images)).await?;
        let client = cluster.client();
        let limited = pod(
            "limited",
            json!({"command": ["sleep", "100"], "resources": {"limits": {"memory": "64Mi"}}}),
        );
        create(&client, limited).await?;
        until(&client, "limited", "Ready", ready).await?;
        let supervisor = cluster.pid();
        if groups(supervisor).is_empty() {
            // The machine does not allow cgroups, so the limit is not enforced.
            check(cluster.log().contains("is not enforced here"), cluster.log())?;
            continue;
        }
        let victim = match part {
            "supervisor" => supervisor,
            _ => std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?
                .trim()
                .parse()?,
        };
        kill(Pid::from_raw(i32::try_from(victim)?), Signal::SIGKILL)?;
        tokio::time::timeout(Duration::from_secs(10), cluster.died()).await?;
        let left = groups(supervisor);
        check(left.is_empty(), format!("{part} killed: {left:?}"))?;
    }
    Ok(())
}

/// Returns the directories of a cluster's cgroups.
fn groups(supervisor: u32) -> Vec<PathBuf> {
    let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new);
    let entries = roots
        .into_iter()
        .flat_map(|root| std::fs::read_dir(root).into_iter().flatten());
    let prefix = format!("embedded-cluster-{supervisor}-");
    let ours = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|entry| entry.path()).collect()
}
