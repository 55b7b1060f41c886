//! `cargo xtask doctor`: the clusters that this machine can run trials on. For any other, it prints
//! the obstacle and the remedy.

use std::process::ExitCode;

use anyhow::Context;
use embedded_cluster::supervisor::{EmbeddedCluster, Options};
use harness::cluster::K3sError;
use harness::cluster::embedded::start_error;
use harness::cluster::k3s::{Engine, K3sOptions};
use harness::cluster::kind::Tools;
use harness::images;
use harness::settings::program;
use harness::trial::format_error;
use kube::config::Kubeconfig;

use crate::exit;

/// One line of the output, with its details.
struct Finding {
    what: &'static str,
    usable: Result<String, String>,
    /// The command that uses the cluster, or makes it usable.
    command: String,
}

/// Runs the command. Succeeds when the default provider is usable.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the async runtime")?;
    let findings = [
        runtime.block_on(embedded()),
        runtime.block_on(kind()),
        runtime.block_on(k3s()),
        kubeconfig(),
        images_at_hand(),
    ];
    for Finding {
        what,
        usable,
        command,
    } in &findings
    {
        let (word, why) = match usable {
            Ok(how) => ("usable", how),
            Err(why) => ("NOT usable", why),
        };
        println!("{what:<11} {word:<11} {}\n{:24}$ {command}", indented(why), "");
    }
    let default = findings[0].usable.is_ok();
    Ok(ExitCode::from(if default {
        exit::QUALIFIED
    } else {
        exit::ENVIRONMENT
    }))
}

/// Starts an embedded cluster like a run. Only that shows what the kernel allows.
async fn embedded() -> Finding {
    let command = format!("{} e2e", program());
    let usable = match images::open_store() {
        Err(error) => Err(format_error(&error.into())),
        Ok(store) => match EmbeddedCluster::start(Options::new("doctor", store.dir())).await {
            Ok(cluster) => {
                cluster.stop().await;
                Ok("a cluster was started and stopped".to_owned())
            }
            Err(error) => Err(format_error(&start_error(error).into())),
        },
    };
    Finding {
        what: "embedded",
        command: if usable.is_ok() {
            command
        } else {
            format!("sudo -E env PATH=\"$PATH\" {command}")
        },
        usable,
    }
}

async fn kind() -> Finding {
    let checked = Tools.check().await;
    let command = match &checked {
        Ok(_) => format!("{} e2e --cluster kind", program()),
        Err(error) => error.remedy().to_owned(),
    };
    Finding {
        what: "kind",
        usable: checked
            .map(|version| format!("Docker answers, {version}; the node image is pulled when it is needed"))
            .map_err(|error| error.to_string()),
        command,
    }
}

/// Asks the container engine for its version. Only a pull can show if the image is available.
async fn k3s() -> Finding {
    let version = K3sOptions::default().version();
    let checked = async {
        let engine = Engine::find().await?;
        engine.check(&version)?;
        Ok(engine.version)
    };
    let checked: Result<String, K3sError> = checked.await;
    Finding {
        what: "k3s",
        command: match &checked {
            Ok(_) => format!("{} e2e --cluster k3s", program()),
            Err(error) => error.remedy(),
        },
        usable: checked
            .map(|engine| {
                format!(
                    "Docker {engine} answers; rancher/k3s:{} is pulled when it is needed",
                    version.k3s_tag()
                )
            })
            .map_err(|error| error.to_string()),
    }
}

/// Lists the contexts without contacting any, because their clusters belong to somebody.
fn kubeconfig() -> Finding {
    let contexts = Kubeconfig::read().map(|kubeconfig| {
        kubeconfig
            .contexts
            .into_iter()
            .map(|context| context.name)
            .collect::<Vec<_>>()
    });
    let (usable, context) = match contexts {
        Ok(contexts) if !contexts.is_empty() => {
            let first = contexts[0].clone();
            (
                Ok(format!("contexts: {} (not tried)", contexts.join(", "))),
                first,
            )
        }
        Ok(_) => (Err("the kubeconfig has no context".to_owned()), "NAME".to_owned()),
        Err(error) => (Err(format_error(&error.into())), "NAME".to_owned()),
    };
    let file = if usable.is_ok() { "" } else { " --kubeconfig PATH" };
    Finding {
        what: "kubeconfig",
        usable,
        command: format!("{} e2e --cluster kubeconfig --context {context}{file}", program()),
    }
}

/// Images are pulled where there is a network. Otherwise a server on this machine stands in.
fn images_at_hand() -> Finding {
    Finding {
        what: "stand-ins",
        usable: images::host_binaries()
            .map(|_| "a Valkey server and client for images without a registry are available".to_owned())
            .map_err(|error| format_error(&error.into())),
        command: format!("{} e2e --image-source stand-in", program()),
    }
}

fn indented(text: &str) -> String {
    text.replace('\n', &format!("\n{:24}", ""))
}
