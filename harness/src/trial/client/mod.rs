//! A client's view of the release. The run's client pod, in another namespace, connects to the
//! Service and follows redirections.
//!
//! | module | what is in it |
//! |---|---|
//! | [`pod`] | the client pod, one for the whole run |
//! | [`view`] | one observation: the script in the pod, and its output |
//!
//! The client pod runs an image that the run uses anyway, and none of the chart's objects. The
//! checks in [`crate::checks::client`] judge its observations.

pub mod pod;
pub mod view;

pub use pod::ClientPod;

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ListParams};

use super::context::Context;
use super::error::TrialError;
use crate::checks::{Violation, client};
use crate::secret::Password;
use crate::valkey::ClusterObservation;
use crate::wait::{self, Expectation, Verdict};
use view::Door;

/// Limit of the propagation delay from a Service's endpoints to its data plane. Real clusters take
/// a second or two, and several seconds under load.
const PROPAGATION: Duration = Duration::from_secs(15);

/// Interval between a client's attempts.
const INTERVAL: Duration = Duration::from_secs(1);

impl Context {
    /// Fails unless a client in another namespace can connect to the Service. The client must also
    /// find each node at its announced address. Skipped if nothing has changed for clients since
    /// the last success.
    pub(super) async fn reachable_for_clients(
        &mut self,
        seen: &ClusterObservation,
    ) -> Result<(), TrialError> {
        let Some(client_pod) = self.environment().client_pod.clone() else {
            return Ok(());
        };
        let doors = self.doors().await?;
        let now = self.fingerprint(seen, &doors);
        if self.deployment.clients_connected.as_deref() == Some(&now) {
            return Ok(());
        }
        let reached = async {
            let mut reached = Ok(());
            for door in &doors {
                reached = reached.and(self.try_service(&client_pod, seen, door).await);
            }
            reached
        };
        let reached = self.recorder.steps.run("connect as a client", reached).await;
        // No later act goes through the Service.
        reached.or_else(|error| self.recorder.note_unhealthy(error))?;
        if !doors.is_empty() {
            self.deployment.clients_connected = Some(now);
            self.recorder.kept([client::NAME]);
        }
        Ok(())
    }

    /// Tries one Service until a client finds no violation, or [`PROPAGATION`] has passed.
    async fn try_service(
        &self,
        client_pod: &ClientPod,
        seen: &ClusterObservation,
        door: &Door,
    ) -> Result<(), TrialError> {
        let pods = client_pod.ready(self.environment(), &self.values()).await?;
        let pauses = self.timeline().deadline_pauses();
        let what = Expectation::new(
            format!("Service {}", door.service),
            "to accept clients",
            PROPAGATION,
        )
        .pausing(pauses);
        let last: Mutex<Result<Vec<Violation>, TrialError>> = Mutex::new(Ok(Vec::new()));
        // During a rotation, the servers change their password one after the other.
        let passwords: Vec<Option<Password>> = if seen.expected.auth {
            self.credentials
                .passwords
                .candidates()
                .map(Option::<&Password>::cloned)
                .collect()
        } else {
            vec![None]
        };
        let connected = wait::poll(what, INTERVAL, || async {
            let mut judged = Ok(Vec::new());
            for password in &passwords {
                let look = view::take(&pods, door, seen.expected.mode, password.as_ref()).await;
                let wrong = look.as_ref().is_ok_and(|view| view.admitted.is_refusal());
                judged = look.map(|view| client::check(seen, &view));
                // Another password is tried only if the servers refused this one.
                if !wrong {
                    break;
                }
            }
            let verdict = match &judged {
                Ok(violations) if violations.is_empty() => Verdict::Ready(()),
                Ok(violations) => Verdict::NotYet(violations[0].to_string()),
                Err(error) => Verdict::NotYet(error.to_string()),
            };
            *last.lock().expect("no code panics while it holds the last look") = judged;
            verdict
        });
        if connected.await.is_ok() {
            return Ok(());
        }
        let last = last
            .into_inner()
            .expect("no code panics while it holds the last look");
        Err(TrialError::Unhealthy {
            when: crate::trial::error::When::Within(PROPAGATION),
            violations: last?,
        })
    }

    /// Returns the Services that clients use.
    async fn doors(&self) -> Result<Vec<Door>, TrialError> {
        let services: Api<Service> = Api::namespaced(self.client(), self.namespace());
        let listed = services.list(&ListParams::default()).await;
        let listed = listed.map_err(|source| TrialError::api("list Services", source))?;
        let servers = self.server_pods().await?;
        let port = self.deployment.values()?.service.port;
        Ok(view::doors(&listed.items, &servers, i32::from(port)))
    }

    /// Returns a text that changes whenever something changes for clients.
    fn fingerprint(&self, seen: &ClusterObservation, doors: &[Door]) -> String {
        let pods: Vec<_> = seen.pods.iter().map(|pod| (&pod.uid, &pod.ip)).collect();
        let revision = self
            .deployment
            .release()
            .map_or(0, crate::release::Release::revision);
        format!("{revision} {doors:?} {pods:?}")
    }
}
