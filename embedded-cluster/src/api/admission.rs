//! Admission that looks beyond one object: Service addresses, service accounts, Pod Security and
//! default classes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::addresses;
use super::kinds::{self, ResourceKind};
use super::server::ApiServer;
use super::status::{ApiError, FieldError};
use super::{object, pod_security};

impl ApiServer {
    /// Completes or refuses a new pod in the light of other objects.
    pub(crate) fn admit_pod(&self, kind: &'static ResourceKind, pod: &mut Value) -> Result<(), ApiError> {
        self.give_priority(kind, pod)?;
        self.check_pod_security(kind, pod)?;
        self.check_service_account(kind, pod)
    }

    /// Allocates a Service's address and node ports. `old` is the Service before the change.
    pub(crate) fn admit_service(
        &self,
        kind: &'static ResourceKind,
        old: Option<&Value>,
        service: &mut Value,
    ) -> Result<(), ApiError> {
        self.give_address(kind, service)?;
        self.give_node_ports(kind, old, service)
    }

    /// Allocates the node ports of a NodePort or LoadBalancer Service, as Kubernetes does. Nothing
    /// listens on the ports, since this cluster has no outside.
    fn give_node_ports(
        &self,
        kind: &'static ResourceKind,
        old: Option<&Value>,
        service: &mut Value,
    ) -> Result<(), ApiError> {
        let outside = matches!(
            object::text(service, &["spec", "type"]),
            "NodePort" | "LoadBalancer"
        );
        let own = (
            object::namespace(service).to_owned(),
            object::name(service).to_owned(),
        );
        let mut taken: BTreeSet<i64> = BTreeSet::new();
        for other in self.store.list(kind, "").1 {
            if (object::namespace(&other.value), object::name(&other.value)) != (&own.0, &own.1) {
                taken.extend(
                    object::list(&other.value, &["spec", "ports"])
                        .iter()
                        .filter_map(node_port),
                );
            }
        }
        let had = old.map_or(&[][..], |old| object::list(old, &["spec", "ports"]));
        let mut errors = Vec::new();
        let ports = service["spec"].get_mut("ports").and_then(Value::as_array_mut);
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let before = had
                .iter()
                .find(|old| old["port"] == port["port"] && old["protocol"] == port["protocol"]);
            let before = before.and_then(node_port);
            let field = format!("spec.ports[{index}].nodePort");
            match node_port(port) {
                Some(number) if !outside && before != Some(number) => {
                    errors.push(FieldError::forbidden(
                        field,
                        "may not be used when `type` is 'ClusterIP'",
                    ));
                }
                _ if !outside => drop(object::remove(port, "nodePort")),
                Some(number) if !NODE_PORTS.contains(&number) => {
                    let text =
                        "provided port is not in the valid range. The range of valid ports is 30000-32767";
                    errors.push(FieldError::invalid(field, number, text));
                }
                Some(number) if !taken.insert(number) => {
                    errors.push(FieldError::invalid(
                        field,
                        number,
                        "provided port is already allocated",
                    ));
                }
                Some(_) => {}
                None => {
                    let free = before.filter(|number| !taken.contains(number));
                    let free = free.or_else(|| NODE_PORTS.clone().find(|number| !taken.contains(number)));
                    let number = free
                        .ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
                    taken.insert(number);
                    port["nodePort"] = json!(number);
                }
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(kind, &own.1, &errors))
        }
    }

    fn give_address(&self, kind: &'static ResourceKind, service: &mut Value) -> Result<(), ApiError> {
        let range = self.config.service_network;
        let given = object::text(service, &["spec", "clusterIP"]).to_owned();
        let key = (
            object::namespace(service).to_owned(),
            object::name(service).to_owned(),
        );
        let (_, others) = self.store.list(kind, "");
        let taken: BTreeSet<Ipv4Addr> = others
            .iter()
            .filter(|other| (object::namespace(&other.value), object::name(&other.value)) != (&key.0, &key.1))
            .filter_map(|other| object::text(&other.value, &["spec", "clusterIP"]).parse().ok())
            .collect();
        let address = match given.as_str() {
            "None" => "None".to_owned(),
            "" => self.allocate(&taken)?.to_string(),
            text => {
                let address = text.parse().ok().filter(|a| range.contains(a));
                let problem = match address {
                    None => Some("the provided IP is not in the valid range"),
                    Some(address) if taken.contains(&address) => Some("provided IP is already allocated"),
                    Some(_) => None,
                };
                if let Some(problem) = problem {
                    let error = FieldError::invalid("spec.clusterIPs", json!([text]), problem);
                    return Err(ApiError::invalid(kind, &key.1, &[error]));
                }
                given
            }
        };
        service["spec"]["clusterIP"] = json!(address);
        service["spec"]["clusterIPs"] = json!([address]);
        Ok(())
    }

    /// Gives the default class to a claim that names no class. (`""` names none on purpose.)
    pub(crate) fn give_default_class(&self, claim: &mut Value) {
        let classes =
            kinds::find("storage.k8s.io", "v1", "storageclasses").expect("classes are in the table");
        if object::at(claim, &["spec", "storageClassName"]).is_some() {
            return;
        }
        let (_, all) = self.store.list(classes, "");
        let default = all.iter().filter(|class| {
            let path = [
                "metadata",
                "annotations",
                "storageclass.kubernetes.io/is-default-class",
            ];
            object::text(&class.value, &path) == "true"
        });
        // The newest of several default classes wins, as in Kubernetes.
        if let Some(class) = default.max_by_key(|class| class.revision) {
            claim["spec"]["storageClassName"] = json!(object::name(&class.value));
        }
    }

    fn allocate(&self, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, ApiError> {
        let last = self.last_address.load(Ordering::Relaxed);
        let (offset, address) = addresses::next_free(self.config.service_network, taken, last)
            .ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))?;
        self.last_address.store(offset, Ordering::Relaxed);
        Ok(address)
    }

    /// Sets the pod's priority from the class it names, or from the default class. Follows the
    /// Priority admission plugin.
    fn give_priority(&self, kind: &'static ResourceKind, pod: &mut Value) -> Result<(), ApiError> {
        let classes =
            kinds::find("scheduling.k8s.io", "v1", "priorityclasses").expect("classes are in the table");
        let named = object::text(pod, &["spec", "priorityClassName"]).to_owned();
        let class = if named.is_empty() {
            let (_, all) = self.store.list(classes, "");
            let default = all
                .into_iter()
                .filter(|class| class.value["globalDefault"] == true);
            default.min_by_key(|class| class.value["value"].as_i64())
        } else {
            let found = self.store.get(classes, "", &named);
            let why = format!("no PriorityClass with name {named} was found");
            Some(found.ok_or_else(|| ApiError::forbidden(kind, object::name(pod), &why))?)
        };
        if let Some(class) = class {
            pod["spec"]["priorityClassName"] = json!(object::name(&class.value));
            pod["spec"]["priority"] = class.value["value"].clone();
            if let Some(policy) = class.value.get("preemptionPolicy") {
                pod["spec"]["preemptionPolicy"] = policy.clone();
            }
        }
        Ok(())
    }

    fn check_pod_security(&self, kind: &'static ResourceKind, pod: &Value) -> Result<(), ApiError> {
        let namespaces = kinds::find("", "v1", "namespaces").expect("namespaces are in the table");
        let namespace = self.store.get(namespaces, "", object::namespace(pod));
        let level = namespace.as_ref().map_or("", |namespace| {
            object::text(&namespace.value, &["metadata", "labels", pod_security::ENFORCE])
        });
        match pod_security::refusal(level, pod) {
            None => Ok(()),
            Some(why) => Err(ApiError::forbidden(kind, object::name(pod), &why)),
        }
    }

    fn check_service_account(&self, kind: &'static ResourceKind, pod: &mut Value) -> Result<(), ApiError> {
        let accounts = kinds::find("", "v1", "serviceaccounts").expect("service accounts are in the table");
        let (namespace, account) = (
            object::namespace(pod),
            object::text(pod, &["spec", "serviceAccountName"]),
        );
        if self.store.get(accounts, namespace, account).is_some() {
            return Ok(());
        }
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        Err(ApiError::forbidden(kind, object::name(pod), &why))
    }
}

/// kube-apiserver's default `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

fn node_port(port: &Value) -> Option<i64> {
    port.get("nodePort")
        .and_then(Value::as_i64)
        .filter(|number| *number != 0)
}

/// Refuses a Pod Security level that does not exist, instead of ignoring the label.
pub(crate) fn check_levels(kind: &'static ResourceKind, namespace: &Value) -> Result<(), ApiError> {
    let level = object::text(namespace, &["metadata", "labels", pod_security::ENFORCE]);
    if level.is_empty() || pod_security::LEVELS.contains(&level) {
        return Ok(());
    }
    let field = format!("metadata.labels[{}]", pod_security::ENFORCE);
    let error = FieldError::invalid(
        field,
        json!(level),
        "must be one of privileged, baseline, restricted",
    );
    Err(ApiError::invalid(kind, object::name(namespace), &[error]))
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
