//! The example values files of the chart's README, deployed unchanged: users copy these first.

use anyhow::{Context as _, Result};
use harness::trial::TrialError;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use manifests::examples::{CLUSTER, CUSTOM, Example, HARDENED, STANDALONE};
use manifests::release::PASSWORD_KEY;
use manifests::{Mode, Values, Variant};

use crate::Context;
use crate::scenario;
use crate::scenario::Suite;

/// The scenarios of this file.
pub const SUITE: Suite = Suite {
    name: "examples",
    scenarios: &[
        scenario!(standalone, |mode, variant| (mode, variant)
            == (Mode::Standalone, Variant::Rpm)),
        scenario!(cluster, |mode, variant| (mode, variant)
            == (Mode::Cluster, Variant::Rpm)),
        scenario!(hardened, |mode, variant| (mode, variant)
            == (Mode::Standalone, Variant::Hardened)),
        scenario!(custom, |mode, variant| (mode, variant)
            == (Mode::Standalone, Variant::Rpm)),
    ],
};

/// One server with limits and an eviction policy.
async fn standalone(context: &mut Context) -> Result<()> {
    let values = values(context, &STANDALONE);
    deploy(context, values).await
}

/// Nine nodes on volumes of a special class.
async fn cluster(context: &mut Context) -> Result<()> {
    let mut values = values(context, &CLUSTER);
    // A laptop has less than nine times half a processor, so the nine pods would not fit. The tests
    // of `manifests` check that the file's own requests are rendered.
    for (name, amount) in [("cpu", "10m"), ("memory", "32Mi")] {
        values
            .resources
            .requests
            .insert(name.to_owned(), Quantity(amount.to_owned()));
    }
    let class = Class::borrow(context, &values.persistence.storage_class).await?;
    let deployed = deploy(context, values).await;
    class.give_back().await?;
    deployed
}

/// The hardened image, with a Secret that existed before the release.
async fn hardened(context: &mut Context) -> Result<()> {
    let mut values = values(context, &HARDENED);
    values.auth.password = String::new();
    let secrets: Api<Secret> = Api::namespaced(context.client(), context.namespace());
    let password = ByteString(context.credentials.current().expose().as_bytes().to_vec());
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(values.auth.existing_secret.clone()),
            ..ObjectMeta::default()
        },
        data: Some([(PASSWORD_KEY.to_owned(), password)].into()),
        ..Secret::default()
    };
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .context("create the user's Secret")?;
    deploy(context, values).await
}

/// Configuration directives of the user.
async fn custom(context: &mut Context) -> Result<()> {
    let values = values(context, &CUSTOM);
    deploy(context, values).await
}

async fn deploy(context: &mut Context, values: Values) -> Result<()> {
    context.install(values).await?;
    context.healthy().await?;
    context.write_data().await?;
    context.verify_data().await?;
    Ok(())
}

/// Returns the file's values on top of the run's values. The trial's own password replaces the
/// public password of the example.
fn values(context: &Context, example: &Example) -> Values {
    let mut values = context.values();
    let of_the_run = std::mem::take(&mut values.config.custom_config);
    let mut values = example.over(&values);
    values.config.custom_config.push_str(&of_the_run);
    context
        .credentials
        .current()
        .expose()
        .clone_into(&mut values.auth.password);
    values
}

/// A storage class for the time of one trial: a copy of the default class under another name.
/// Nothing is made if the cluster already has a class of this name.
struct Class {
    classes: Api<StorageClass>,
    made: Option<String>,
}

impl Class {
    async fn borrow(context: &Context, name: &str) -> Result<Self> {
        const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
        let classes: Api<StorageClass> = Api::all(context.client());
        let all = classes
            .list(&ListParams::default())
            .await
            .context("list storage classes")?
            .items;
        if all
            .iter()
            .any(|class| class.metadata.name.as_deref() == Some(name))
        {
            return Ok(Self { classes, made: None });
        }
        if context.environment().borrowed {
            let reason = format!(
                "the example needs the storage class {name}, which this cluster does not have; on such a cluster, a run \
                 creates nothing outside its namespaces"
            );
            return Err(TrialError::NotJudged(reason).into());
        }
        let is_default = |class: &&StorageClass| {
            let annotations = class.metadata.annotations.as_ref();
            annotations
                .and_then(|annotations| annotations.get(DEFAULT))
                .is_some_and(|value| value == "true")
        };
        let mut class = all
            .iter()
            .find(is_default)
            .context("the cluster has no default storage class")?
            .clone();
        class.metadata = ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        classes
            .create(&PostParams::default(), &class)
            .await
            .with_context(|| format!("create storage class {name}"))?;
        Ok(Self {
            classes,
            made: Some(name.to_owned()),
        })
    }

    async fn give_back(self) -> Result<()> {
        if let Some(name) = self.made {
            self.classes
                .delete(&name, &DeleteParams::default())
                .await
                .context("delete the storage class")?;
        }
        Ok(())
    }
}
