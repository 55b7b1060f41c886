//! Hooks that Helm runs at its events: the init, scale and drain Jobs, and the connection test.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{EnvVar, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{RenderContext, scripts, server, tools};
use crate::hook::{DELETE_POLICIES, Hook, HookEvent, HookObject, annotations};
use crate::release::COMPONENT_LABEL;
use crate::values::Mode;

/// The weight of the chart's Jobs.
const JOB_WEIGHT: i32 = 5;

/// One of the Jobs.
struct JobPlan {
    /// Suffix of the Job's name, name of its container and component of its pods.
    component: &'static str,
    event: HookEvent,
    script: &'static str,
    backoff_limit: i32,
    /// True if the Secret may be missing, as it is before an upgrade that introduces it.
    before_the_secret: bool,
}

const INIT: JobPlan = JobPlan {
    component: "cluster-init",
    event: HookEvent::PostInstall,
    script: scripts::CLUSTER_INIT,
    backoff_limit: 6,
    before_the_secret: false,
};

const SCALE: JobPlan = JobPlan {
    component: "cluster-scale",
    event: HookEvent::PostUpgrade,
    script: scripts::CLUSTER_SCALE,
    backoff_limit: 3,
    before_the_secret: false,
};

/// Our own Job, which runs before the upgrade is applied. The departing pods are then still alive,
/// and the Secret is the one that they were started with.
const DRAIN: JobPlan = JobPlan {
    component: "cluster-drain",
    event: HookEvent::PreUpgrade,
    script: scripts::CLUSTER_DRAIN,
    backoff_limit: 3,
    before_the_secret: true,
};

/// Renders every hook, in the order in which they first run.
pub(super) fn hooks(context: &RenderContext<'_>) -> Vec<Hook> {
    let mut hooks = Vec::new();
    if context.values.mode == Mode::Cluster {
        hooks.push(job(context, &INIT));
        if context.values.cluster.drain_before_scale_down {
            hooks.push(job(context, &DRAIN));
        }
        hooks.push(job(context, &SCALE));
    }
    hooks.push(connection_test(context));
    hooks
}

fn job(context: &RenderContext<'_>, plan: &JobPlan) -> Hook {
    let mut metadata = context.metadata(format!("{}-{}", context.fullname, plan.component));
    metadata.annotations = Some(annotations(plan.event, Some(JOB_WEIGHT)));
    let mut env = server::password_env(context, plan.before_the_secret);
    env.extend(tools::pods_env(context));
    env.extend(tools::target_env(context));
    let container = tools::container(context, plan.component, plan.script, env);
    let labels = context.release.component_labels(context.values, plan.component);
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(tools::pod(context, container, "OnFailure")),
    };
    let spec = JobSpec {
        backoff_limit: Some(plan.backoff_limit),
        template,
        ..JobSpec::default()
    };
    let job = Job {
        metadata,
        spec: Some(spec),
        status: None,
    };
    hook(plan.event, JOB_WEIGHT, HookObject::Job(Box::new(job)))
}

fn connection_test(context: &RenderContext<'_>) -> Hook {
    const COMPONENT: &str = "connection-test";
    let mut metadata = context.metadata(format!("{}-test-connection", context.fullname));
    metadata.annotations = Some(annotations(HookEvent::Test, None));
    metadata
        .labels
        .get_or_insert_default()
        .insert(COMPONENT_LABEL.to_owned(), COMPONENT.to_owned());
    let mut env: Vec<EnvVar> = server::password_env(context, false);
    env.push(server::variable("HOST", &context.fullname));
    env.push(server::variable("PORT", context.values.service.port.to_string()));
    let container = tools::container(context, "test", scripts::TEST_CONNECTION, env);
    let spec = tools::pod(context, container, "Never");
    hook(
        HookEvent::Test,
        0,
        HookObject::Pod(Box::new(Pod {
            metadata,
            spec: Some(spec),
            status: None,
        })),
    )
}

fn hook(event: HookEvent, weight: i32, object: HookObject) -> Hook {
    Hook {
        events: vec![event],
        weight,
        delete_policies: DELETE_POLICIES.to_vec(),
        object,
    }
}
