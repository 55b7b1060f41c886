//! Signs of a lasting state in what the servers say of themselves.

use crate::valkey::ClusterObservation;
use crate::valkey::observation::Mode;
use crate::valkey::view::NodeView;

/// Returns true if a replica without a link offers another password than its primary's.
pub(super) fn offers_wrong_password(view: &NodeView) -> bool {
    view.primary_auth_matches == Some(false) && view.replication.link_up == Some(false)
}

/// Returns true if a server outside a working cluster announces an address that no pod has.
/// - A pod that was just replaced announces its old address for a moment.
/// - In a working cluster, the address of a Service or load balancer is no fault.
pub(super) fn announces_what_no_pod_has(seen: &ClusterObservation) -> bool {
    let fails = |pod: &str| {
        let view = seen.views.get(pod).and_then(|view| view.as_ref().ok());
        let info = view.and_then(|view| view.cluster_info.as_ref());
        info.is_some_and(|info| info.cluster_state != "ok")
    };
    seen.node_tables()
        .filter(|(pod, _)| fails(pod))
        .any(|(_, nodes)| {
            let announced = nodes.myself().map_or("", |myself| myself.ip.as_str());
            let all_known = seen.pods.iter().all(|pod| pod.ip.is_some());
            !announced.is_empty() && all_known && seen.pod_by_ip(announced).is_none()
        })
}

/// Returns true if the only pod of a cluster answers but is not ready.
pub(super) fn is_alone(seen: &ClusterObservation) -> bool {
    let [only] = seen.pods.as_slice() else {
        return false;
    };
    let several = seen.expected.mode == Mode::Cluster && seen.expected.pods > 1;
    several && !only.ready && !only.terminating && seen.answered().count() == 1
}
