//! Readiness of a new cluster: its nodes are ready, claims get volumes, and names resolve. `kind
//! create cluster --wait` waits only for the nodes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};

use super::survey;
use wait::{self, Expectation, Verdict, WaitError};

/// Time that each condition may take. The node brings its images, so nothing is pulled.
const BUDGET: Duration = Duration::from_secs(180);

/// The selector of the addresses of the cluster's DNS servers, whichever they are.
const DNS_SLICES: &str = "kubernetes.io/service-name=kube-dns";

/// Waits until the cluster can run the trials.
///
/// # Errors
/// When the cluster is not usable within three minutes. The error names the missing condition.
pub(super) async fn wait_until_usable(client: &Client) -> Result<(), WaitError> {
    let all = watcher::Config::default;
    let nodes = Expectation::new("the nodes", "to be ready", BUDGET);
    wait::objects(&Api::<Node>::all(client.clone()), all(), nodes, |nodes| {
        let waiting = nodes.values().find(|node| !survey::is_ready(node));
        match waiting {
            Some(node) => Verdict::NotYet(format!("node {} is not", node.name_any())),
            None if nodes.is_empty() => Verdict::NotYet("there is none".to_owned()),
            None => Verdict::Ready(()),
        }
    })
    .await?;
    let classes = Expectation::new("a default storage class", "to exist", BUDGET);
    wait::objects(
        &Api::<StorageClass>::all(client.clone()),
        all(),
        classes,
        |classes| {
            let all: Vec<StorageClass> = classes.values().cloned().collect();
            survey::storage(&all, None).map_or_else(Verdict::NotYet, |_| Verdict::Ready(()))
        },
    )
    .await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    let servers = Expectation::new("the cluster's DNS", "to answer", BUDGET);
    wait::objects(&slices, all().labels(DNS_SLICES), servers, |slices| {
        if slices.values().any(serves) {
            return Verdict::Ready(());
        }
        Verdict::NotYet(format!(
            "none of its {} endpoint slices has a server that is ready",
            slices.len()
        ))
    })
    .await
}

/// Returns true if a DNS server reports ready. CoreDNS does once it has the Services and answers.
fn serves(slice: &EndpointSlice) -> bool {
    let ready = |endpoint: &Endpoint| endpoint.conditions.as_ref().and_then(|is| is.ready) == Some(true);
    slice.endpoints.iter().flatten().any(ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_is_ready_serves() {
        let slice = |ready: &str| -> EndpointSlice {
            serde_yaml::from_str(&format!(
                "{{addressType: IPv4, endpoints: [{{addresses: [10.0.0.1], conditions: {{ready: {ready}}}}}]}}"
            ))
            .expect("the test's own YAML is a slice")
        };
        assert!(serves(&slice("true")));
        assert!(!serves(&slice("false")));
        assert!(!serves(&EndpointSlice::default()));
    }
}
