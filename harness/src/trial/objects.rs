//! Kubernetes' own view of the release: Services, endpoints, disruption budget, restarts, volumes,
//! logs.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams, LogParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::Context;
use super::error::TrialError;
use super::observer::is_server;
use super::rendering::hooks_in_the_way;
use crate::checks::disruption_budget::LabelledPod;
use crate::checks::password::Credential;
use crate::checks::persistence::VolumeFacts;
use crate::checks::server_container::server_container;
use crate::checks::services::ServiceFacts;
use crate::checks::{Violation, disruption_budget, logs, password, persistence, restarts, services};
use crate::release::Hook;

/// The label with the name of an EndpointSlice's Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The checks behind [`Context::verify_objects`].
const OBJECT_CHECKS: [&str; 5] = [
    services::NAME,
    disruption_budget::NAME,
    restarts::NAME,
    persistence::NAME,
    logs::NAME,
];

impl Context {
    /// Checks Services, disruption budget, restarts, volumes and logs. Notes each violation; it
    /// fails the trial at its end.
    pub async fn verify_objects(&mut self) -> Result<(), TrialError> {
        let judged = Box::pin(self.object_violations());
        let name = "verify Services, budget, volumes and logs";
        let violations = self.recorder.steps.judge(name, judged).await?;
        let kept = violations.is_empty();
        self.recorder.note_broken(violations);
        if kept {
            self.recorder.kept(OBJECT_CHECKS);
        }
        Ok(())
    }

    /// Checks that every server accepts exactly the credentials that it must. Notes each violation;
    /// it fails the trial at its end.
    pub async fn verify_credentials(&mut self, credentials: &[Credential]) -> Result<(), TrialError> {
        let judged = async {
            let pods = self.server_pods().await?;
            let pods: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
            let attempts = password::attempt(self.dialer().as_ref(), &pods, credentials).await;
            Ok::<_, TrialError>(password::check(&attempts))
        };
        let violations = self
            .recorder
            .steps
            .judge("try passwords on every server", judged)
            .await?;
        let kept = violations.is_empty();
        self.recorder.note_broken(violations);
        if kept {
            self.recorder.kept([password::NAME]);
        }
        Ok(())
    }

    /// Checks that no user of any server reads keys without a password. A probe's user may do less.
    /// Notes each violation; it fails the trial at its end.
    pub async fn verify_users(&mut self) -> Result<(), TrialError> {
        let judged = async {
            let mut violations = Vec::new();
            for pod in self.server_pods().await? {
                let pod = pod.name_any();
                // A server may deny this command to its clients.
                let Ok(answer) = self.command(&pod, &["ACL", "LIST"]).await else {
                    continue;
                };
                let lines: Vec<String> = redis::from_redis_value(answer).unwrap_or_default();
                for user in password::open_users(lines.iter().map(String::as_str)) {
                    let read = self
                        .command(&pod, &["ACL", "DRYRUN", &user, "GET", "key"])
                        .await?;
                    if matches!(read, redis::Value::Okay) {
                        violations.push(password::reads_without_password(&pod, &user));
                    }
                }
            }
            Ok::<_, TrialError>(violations)
        };
        let violations = self
            .recorder
            .steps
            .clone()
            .judge("look for users without a password", judged)
            .await?;
        self.recorder.note_broken(violations);
        Ok(())
    }

    async fn object_violations(&self) -> Result<Vec<Violation>, TrialError> {
        let seen = self.observe().await?;
        let pods = self.list::<Pod>("pods").await?;
        let servers: Vec<&Pod> = pods.iter().filter(|pod| is_server(pod)).collect();
        let all_services = self.list::<Service>("Services").await?;
        let slices = self.list::<EndpointSlice>("EndpointSlices").await?;
        let facts: Vec<ServiceFacts> = all_services
            .iter()
            .map(|service| facts_of(service, &slices))
            .collect();
        let tools = self.tool_templates();

        let mut violations = services::check(seen.expected.mode, &facts, &seen.pods);
        violations.extend(tools_in_services(&all_services, &tools));
        let labelled: Vec<LabelledPod> = pods.iter().map(labelled).chain(tools).collect();
        let all_ready = seen.pods.iter().all(|pod| pod.ready);
        for budget in self.list::<PodDisruptionBudget>("PodDisruptionBudgets").await? {
            violations.extend(disruption_budget::check(&budget, &labelled, all_ready));
        }
        violations.extend(restarts::check(&seen));
        let volumes: Vec<VolumeFacts> = servers.iter().map(|pod| VolumeFacts::from_pod(pod)).collect();
        violations.extend(persistence::check(
            &seen,
            &volumes,
            self.deployment.values()?.persistence.enabled,
        ));
        if let Some(release) = self.deployment.release() {
            violations.extend(hooks_in_the_way(&release.deployed().hooks, release.revision()));
        }
        for pod in servers {
            let name = pod.name_any();
            let container = server_container(pod).map(|container| container.name.clone());
            let params = LogParams {
                container,
                ..LogParams::default()
            };
            let log = self.pods().logs(&name, &params).await;
            let log = log.map_err(|source| TrialError::api(format!("read the log of pod {name}"), source))?;
            violations.extend(logs::check(&name, &log));
        }
        Ok(violations)
    }

    /// Returns the hooks' pods, by their labels. The pods themselves are gone by now, so the labels
    /// come from the templates.
    fn tool_templates(&self) -> Vec<LabelledPod> {
        let hooks = self
            .deployment
            .release()
            .map(|release| release.deployed().hooks.as_slice())
            .unwrap_or_default();
        hooks.iter().map(template_of).collect()
    }

    async fn list<K>(&self, what: &str) -> Result<Vec<K>, TrialError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client(), self.namespace());
        let listed = api.list(&ListParams::default()).await;
        Ok(listed
            .map_err(|source| TrialError::api(format!("list {what}"), source))?
            .items)
    }
}

fn facts_of(service: &Service, slices: &[EndpointSlice]) -> ServiceFacts {
    let name = service.name_any();
    let own: Vec<EndpointSlice> = slices
        .iter()
        .filter(|slice| slice.labels().get(SERVICE_LABEL) == Some(&name))
        .cloned()
        .collect();
    ServiceFacts::from_objects(service, &own)
}

fn labelled(pod: &Pod) -> LabelledPod {
    LabelledPod {
        name: pod.name_any(),
        labels: pod.labels().clone(),
        server: is_server(pod),
    }
}

/// Returns a hook's pod: the Job's template, or the hook itself.
fn template_of(hook: &Hook) -> LabelledPod {
    let content = serde_json::to_value(&hook.object.content).unwrap_or_default();
    let at = if hook.object.kind() == "Job" {
        "/spec/template/metadata/labels"
    } else {
        "/metadata/labels"
    };
    let labels = content.pointer(at).and_then(Value::as_object);
    let labels: BTreeMap<String, String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    LabelledPod {
        name: format!("{} {}", hook.object.kind(), hook.object.name()),
        labels,
        server: false,
    }
}

/// Returns a violation for each Service that would send clients to a hook's pod.
fn tools_in_services(services: &[Service], tools: &[LabelledPod]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for service in services {
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            continue;
        };
        let selected = tools.iter().filter(|tool| {
            !selector.is_empty()
                && selector
                    .iter()
                    .all(|(key, value)| tool.labels.get(key) == Some(value))
        });
        violations.extend(selected.map(|tool| {
            let subject = format!("Service {}", service.name_any());
            let seen = format!("it also selects the pod of {}", tool.name);
            Violation::new(services::NAME, subject, "to select only server pods", seen)
        }));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(labels: &[(&str, &str)]) -> LabelledPod {
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        LabelledPod {
            name: "Job init".to_owned(),
            labels,
            server: false,
        }
    }

    #[test]
    fn a_job_pod_with_a_services_labels_is_found() {
        let service: Service =
            serde_yaml::from_str("{metadata: {name: vk}, spec: {selector: {app: vk, component: server}}}")
                .unwrap();
        assert!(tools_in_services(std::slice::from_ref(&service), &[tool(&[("app", "vk")])]).is_empty());
        let caught = tools_in_services(
            &[service],
            &[tool(&[("app", "vk"), ("component", "server"), ("x", "y")])],
        );
        assert_eq!(caught.len(), 1);
        assert!(
            caught[0].to_string().contains("selects the pod of Job init"),
            "{}",
            caught[0]
        );
    }
}
