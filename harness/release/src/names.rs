//! Reasons why no cluster can be formed of the rendered objects. The Job that forms it reaches the
//! servers by names from a headless Service. The manifests alone decide; no cluster is contacted.

use serde_json::Value;

use super::bundle::{Bundle, Hook, HookEvent, INIT_JOB};
use super::object::Object;

impl Bundle {
    /// Returns the reason why the Job that forms the cluster finds no names of servers. Returns
    /// `None` where no Job forms a cluster.
    pub fn cannot_be_formed(&self) -> Option<String> {
        let job = self
            .hooks
            .iter()
            .find(|hook| hook.object.name().ends_with(INIT_JOB))?;
        runs_too_early(job).or_else(|| self.names_are_missing())
    }

    fn names_are_missing(&self) -> Option<String> {
        let of_kind = |kind: &'static str| self.resources.iter().filter(move |object| object.kind() == kind);
        let headless: Vec<&Object> = of_kind("Service")
            .filter(|service| service.content.data["spec"]["clusterIP"] == "None")
            .collect();
        // Another headless Service, such as that of an exporter, gives no pod its name.
        let names_pods = |service: &&&Object| {
            of_kind("StatefulSet").any(|set| set.content.data["spec"]["serviceName"] == service.name())
        };
        let hidden = headless
            .iter()
            .filter(names_pods)
            .find(|service| service.content.data["spec"]["publishNotReadyAddresses"] != true);
        if let Some(service) = hidden {
            return Some(format!(
                "the headless Service {} has publishNotReadyAddresses false, and no pod is ready before",
                service.name()
            ));
        }
        of_kind("StatefulSet").find_map(|set| names_no_service(set, &headless))
    }
}

/// Returns the reason why the Job runs before there are servers, if it does.
fn runs_too_early(job: &Hook) -> Option<String> {
    let early = job.events.contains(&HookEvent::PreInstall) && !job.events.contains(&HookEvent::PostInstall);
    early.then(|| {
        format!(
            "the hook {} runs at pre-install and not at post-install, before there is any server",
            job.object.name()
        )
    })
}

/// Returns the reason why a StatefulSet's pods have no names, if so. A pod's name is beneath the
/// Service that the set names. That Service must exist and select the pods.
fn names_no_service(set: &Object, headless: &[&Object]) -> Option<String> {
    let spec = &set.content.data["spec"];
    let wanted = spec["serviceName"].as_str().unwrap_or_default();
    let Some(service) = headless.iter().find(|service| service.name() == wanted) else {
        let known: Vec<&str> = headless.iter().map(|service| service.name()).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return Some(format!(
            "StatefulSet {} has the serviceName {wanted:?}, and there is no such headless Service (there is {known})",
            set.name()
        ));
    };
    let labels = &spec["template"]["metadata"]["labels"];
    let selector = service.content.data["spec"]["selector"].as_object()?;
    let (key, value) = selector
        .iter()
        .find(|(key, value)| labels.get(key.as_str()) != Some(value))?;
    Some(format!(
        "the headless Service {} selects pods with {key}={}, which the pods of StatefulSet {} do not have",
        service.name(),
        value
            .as_str()
            .map_or_else(|| Value::to_string(value), str::to_owned),
        set.name()
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn why(change: impl Fn(&mut [Value; 3])) -> Option<String> {
        let mut objects = [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "vk-headless"},
                   "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "selector": {"app": "vk"}}}),
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "vk"},
                   "spec": {"serviceName": "vk-headless", "template": {"metadata": {"labels": {"app": "vk", "more": "x"}}}}}),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "vk-cluster-init",
                   "annotations": {"helm.sh/hook": "post-install"}}}),
        ];
        change(&mut objects);
        Bundle::from_values(objects).unwrap().cannot_be_formed()
    }

    #[rstest]
    #[case(0, "/spec/publishNotReadyAddresses", json!(false), "vk-headless has publishNotReadyAddresses false")]
    #[case(0, "/spec/clusterIP", json!("10.0.0.1"), "serviceName \"vk-headless\", and there is no such headless Service (there is none)")]
    #[case(0, "/metadata/name", json!("vk-nodes"), "(there is vk-nodes)")]
    #[case(0, "/spec/selector/app", json!("other"), "selects pods with app=other, which the pods of StatefulSet vk do not have")]
    #[case(1, "/spec/serviceName", json!("vk"), "serviceName \"vk\"")]
    #[case(2, "/metadata/annotations/helm.sh~1hook", json!("pre-install"), "vk-cluster-init runs at pre-install")]
    fn what_keeps_a_cluster_from_being_formed_is_named(
        #[case] object: usize,
        #[case] field: &str,
        #[case] value: Value,
        #[case] expected: &str,
    ) {
        let why = why(|objects| *objects[object].pointer_mut(field).unwrap() = value.clone()).unwrap();
        assert!(why.contains(expected), "{why}");
    }

    #[test]
    fn what_is_right_and_what_has_no_job_is_not_blamed() {
        assert_eq!(why(|_| {}), None);
        let without_job = |objects: &mut [Value; 3]| {
            objects[0]["spec"]["publishNotReadyAddresses"] = json!(false);
            objects[2]["metadata"]["name"] = json!("vk-something-else");
        };
        assert_eq!(why(without_job), None);
    }
}
