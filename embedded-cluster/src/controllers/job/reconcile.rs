//! Reads a Job and its pods, decides, acts, and writes the status.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use serde_json::json;

use super::plan::{self, Plan};
use super::pod;
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::events::EventRecorder;
use crate::controllers::hub::Hub;
use crate::controllers::owners::is_controlled_by;

const COMPONENT: &str = "job-controller";

/// Puts one Job right, as far as can be done now.
pub(crate) async fn reconcile(known: Arc<Job>, hub: Arc<Hub>) -> Reconciled {
    let namespace = known.namespace().unwrap_or_default();
    let name = known.name_any();
    let read = hub.api::<Job>(&namespace).get(&name).await;
    let Some(job) = read
        .unless_gone()
        .during(|| format!("read Job {namespace}/{name}"))?
    else {
        return Ok(Action::await_change());
    };
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let work = Work {
        events: hub.events(COMPONENT),
        hub,
        namespace,
        name,
    };
    match job.status.as_ref().and_then(plan::finished_at) {
        Some(finished) => work.expire(&job, finished).await,
        None => work.run(job).await,
    }
}

struct Work {
    hub: Arc<Hub>,
    events: EventRecorder,
    namespace: String,
    name: String,
}

impl Work {
    async fn run(&self, mut job: Job) -> Reconciled {
        if let Some(what) = pod::unsupported(&job) {
            let message = format!("{what} is not supported by the embedded cluster; no pod is created");
            self.events
                .warning(&job, "UnsupportedByEmbeddedCluster", &message)
                .await;
            return Ok(Action::await_change());
        }
        let pods = self.owned_pods(&job).await?;
        let decided = plan::plan(&job, &pods, Timestamp::now());
        self.write_status(&mut job, &decided.status).await?;
        self.act(&job, &decided).await?;
        for (warning, reason, message) in &decided.events {
            match warning {
                true => self.events.warning(&job, reason, message).await,
                false => self.events.normal(&job, reason, message).await,
            }
        }
        Ok(decided.recheck.map_or_else(Action::await_change, Action::requeue))
    }

    async fn owned_pods(&self, job: &Job) -> Result<Vec<Pod>, ControllerError> {
        let uid = job.uid().unwrap_or_default();
        let of_job = ListParams::default().labels(&format!("{}={uid}", pod::UID_LABEL));
        let listed = self.hub.api::<Pod>(&self.namespace).list(&of_job).await;
        let listed = listed.during(|| format!("list pods of Job {}", self.name))?;
        Ok(listed
            .items
            .into_iter()
            .filter(|pod| is_controlled_by(&pod.metadata, job))
            .collect())
    }

    async fn act(&self, job: &Job, plan: &Plan) -> Result<(), ControllerError> {
        let api = self.hub.api::<Pod>(&self.namespace);
        for pod in &plan.delete {
            let deleted = api.delete(pod, &DeleteParams::default()).await;
            deleted.unless_gone().during(|| format!("delete pod {pod}"))?;
            self.events
                .normal(job, "SuccessfulDelete", &format!("Deleted pod: {pod}"))
                .await;
        }
        for _ in 0..plan.create {
            let wanted = pod::pod(job);
            let pod = wanted.name_any();
            match api.create(&PostParams::default(), &wanted).await {
                Ok(_) => {
                    self.events
                        .normal(job, "SuccessfulCreate", &format!("Created pod: {pod}"))
                        .await;
                }
                Err(error) => {
                    self.events
                        .warning(job, "FailedCreate", &format!("Error creating: {error}"))
                        .await;
                    return Err(error).during(|| format!("create pod {pod}"));
                }
            }
        }
        Ok(())
    }

    /// Writes the status, in two steps when the Job has come to its end: watchers see `SuccessCriteriaMet` or
    /// `FailureTarget` before `Complete` or `Failed`, as in Kubernetes.
    async fn write_status(&self, job: &mut Job, wanted: &JobStatus) -> Result<(), ControllerError> {
        if plan::finished_at(wanted).is_some() && !had_target(job) {
            let mut first = wanted.clone();
            first.completion_time = None;
            if let Some(conditions) = &mut first.conditions {
                conditions.retain(|condition| !matches!(condition.type_.as_str(), "Complete" | "Failed"));
            }
            self.patch_status(job, &first).await?;
        }
        self.patch_status(job, wanted).await
    }

    async fn patch_status(&self, job: &mut Job, wanted: &JobStatus) -> Result<(), ControllerError> {
        if job.status.as_ref() == Some(wanted) {
            return Ok(());
        }
        let mut status = json!(wanted);
        // A merge patch leaves what it does not name: a suspended Job's start time must be named to go.
        if wanted.start_time.is_none() {
            status["startTime"] = serde_json::Value::Null;
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let api = self.hub.api::<Job>(&self.namespace);
        let written = api
            .patch_status(&self.name, &PatchParams::default(), &patch)
            .await;
        if let Some(written) = written
            .unless_gone()
            .during(|| format!("write the status of Job {}", self.name))?
        {
            *job = written;
        }
        Ok(())
    }

    /// `ttlSecondsAfterFinished`.
    async fn expire(&self, job: &Job, finished: Timestamp) -> Reconciled {
        let Some(ttl) = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished) else {
            return Ok(Action::await_change());
        };
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let elapsed = Duration::try_from(Timestamp::now().duration_since(finished)).unwrap_or_default();
        if elapsed < ttl {
            return Ok(Action::requeue(ttl - elapsed));
        }
        let deleted = self
            .hub
            .api::<Job>(&self.namespace)
            .delete(&self.name, &DeleteParams::background())
            .await;
        deleted
            .unless_gone()
            .during(|| format!("delete finished Job {}", self.name))?;
        Ok(Action::await_change())
    }
}

fn had_target(job: &Job) -> bool {
    let status = job.status.as_ref();
    ["SuccessCriteriaMet", "FailureTarget"]
        .iter()
        .any(|kind| status.is_some_and(|status| plan::condition(status, kind).is_some()))
}
