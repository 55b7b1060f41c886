//! Reconciliation of a Job: reads it and its pods, decides, acts, and writes the status.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use serde_json::json;

use super::ledger::Ledger;
use super::plan::{self, Plan};
use super::pod;
use crate::controllers::drive::Reconciled;
use crate::controllers::error::{ControllerError, During};
use crate::controllers::events::EventRecorder;
use crate::controllers::hub::Hub;
use crate::controllers::owners::is_controlled_by;
use crate::seconds::bounded;

const COMPONENT: &str = "job-controller";

/// Reconciles one Job, as far as possible now.
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
        None => Box::pin(work.run(job)).await,
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
        let pods = self.owned_pods(&job).await?;
        let decided = self.decide(&job, &pods);
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

    fn decide(&self, job: &Job, pods: &[Pod]) -> Plan {
        let now = Timestamp::now();
        self.with_ledger(job, |ledger| {
            pods.iter().for_each(|pod| ledger.observe(pod, false, now));
            ledger.settle(pods, now);
            let decided = plan::plan(job, pods, ledger, now);
            for pod in pods.iter().filter(|pod| decided.delete.contains(&pod.name_any())) {
                ledger.give_up(pod);
            }
            decided
        })
    }

    fn with_ledger<T>(&self, job: &Job, act: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledgers = self
            .hub
            .job_ledgers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        act(ledgers.entry(job.uid().unwrap_or_default()).or_default())
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
                Ok(made) => {
                    self.with_ledger(job, |ledger| ledger.made(&made));
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

    /// Writes the status, in two steps when the Job has ended. Watchers see `SuccessCriteriaMet` or
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
        // A merge patch keeps the fields that it does not name. A suspended Job's start time and
        // counts that returned to zero must be named to be removed.
        for field in ["startTime", "active", "succeeded", "failed"] {
            if status.get(field).is_none() {
                status[field] = serde_json::Value::Null;
            }
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

    /// Deletes a finished Job after its `ttlSecondsAfterFinished`.
    async fn expire(&self, job: &Job, finished: Timestamp) -> Reconciled {
        let Some(ttl) = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished) else {
            return Ok(Action::await_change());
        };
        let ttl = bounded(ttl);
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
