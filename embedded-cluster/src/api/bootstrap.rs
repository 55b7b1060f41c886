//! What every cluster has from the start: its namespaces and the Service of the API itself.

use serde_json::json;

use super::kinds::find;
use super::server::ApiServer;
use super::verbs::create::create_object;

/// Creates the objects every cluster has.
pub(crate) fn fill(server: &ApiServer) {
    let namespaces = find("", "v1", "namespaces").expect("namespaces are in the table");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        create_object(server, namespaces, "", namespace, false)
            .expect("the store is empty and this is valid");
    }
    let services = find("", "v1", "services").expect("services are in the table");
    let service = json!({"kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": super::addresses::api_address(server.config.service_network).to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]}});
    create_object(server, services, "default", service, false).expect("the store is empty and this is valid");
}
