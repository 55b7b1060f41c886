//! The command `cluster`: an embedded cluster to work on with kubectl.

use std::process::ExitCode;

use anyhow::Context;
use embedded_cluster::api::{Denial, Identity, Token};
use embedded_cluster::supervisor::{LastingCluster, LastingError, Options};
use harness::cluster::embedded::start_error;
use scenarios::session::{clusters_folder, prepare_images};

use crate::cli::{ClusterCommand, ClusterName};
use crate::exit::UsageError;
use crate::limits;

/// Runs the command.
pub(crate) fn run(command: ClusterCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClusterCommand::Up {
            name,
            image_source,
            deny,
        } => {
            let cluster = named(&name)?;
            limits::check(true)?;
            let runtime = tokio::runtime::Runtime::new().context("failed to start the async runtime")?;
            let (store, images) = runtime.block_on(prepare_images(&image_source))?;
            for image in images.iter().filter(|image| image.stand_in) {
                eprintln!("note: {} is a stand-in", image.reference);
            }
            let mut options = Options::new(&name.name, store);
            if !deny.is_empty() {
                options.restricted.push(restricted(deny));
            }
            cluster.up(&options).map_err(explain)?;
            println!("{}", cluster.kubeconfig().display());
        }
        ClusterCommand::Down(name) => named(&name)?.down().map_err(explain)?,
        ClusterCommand::Kubeconfig(name) => {
            let cluster = named(&name)?;
            if cluster.pid().is_none() {
                return Err(explain(LastingError::NotRunning(name.name)));
            }
            println!("{}", cluster.kubeconfig().display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates a user who may do everything except the denied actions.
fn restricted(denied: Vec<Denial>) -> Token {
    let random = || uuid::Uuid::new_v4().simple().to_string();
    Token {
        // Two version 4 UUIDs: 244 random bits, like the administrator's token.
        secret: random() + &random(),
        identity: Identity {
            user: "restricted".to_owned(),
            groups: Vec::new(),
            denied,
        },
    }
}

fn named(name: &ClusterName) -> anyhow::Result<LastingCluster> {
    let name = &name.name;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(fits) || name.starts_with('-') {
        let what = "1 to 40 lower-case letters, digits and dashes, and does not begin with a dash";
        return Err(UsageError(format!("invalid cluster name {name:?}: a name has {what}")).into());
    }
    Ok(LastingCluster::named(name, &clusters_folder()?))
}

/// Separates errors in the user's typing from limits of the machine.
fn explain(error: LastingError) -> anyhow::Error {
    match error {
        LastingError::Running { .. } | LastingError::NotRunning(_) => UsageError(error.to_string()).into(),
        LastingError::Start(error) => start_error(error).into(),
        LastingError::Files { .. } => error.into(),
    }
}
