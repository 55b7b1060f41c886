//! What needs to know more than the object itself: Service addresses, service accounts and Pod Security of pods,
//! the default class of claims.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::addresses;
use super::kinds::{self, Kind};
use super::server::ApiServer;
use super::status::{ApiError, FieldError};
use super::{object, pod_security};

impl ApiServer {
    /// Completes or refuses a new object in the light of the others.
    pub(crate) fn admit_create(&self, kind: &'static Kind, object: &mut Value) -> Result<(), ApiError> {
        match kind.kind {
            "Service" => self.give_address(kind, object),
            "Pod" => {
                self.check_pod_security(kind, object)?;
                self.check_service_account(kind, object)
            }
            "Namespace" => check_levels(kind, object),
            "PersistentVolumeClaim" => {
                self.give_default_class(object);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Completes or refuses a changed object in the light of the others.
    pub(crate) fn admit_update(
        &self,
        kind: &'static Kind,
        _old: &Value,
        new: &mut Value,
    ) -> Result<(), ApiError> {
        match kind.kind {
            "Service" => self.give_address(kind, new),
            "Namespace" => check_levels(kind, new),
            _ => Ok(()),
        }
    }

    fn give_address(&self, kind: &'static Kind, service: &mut Value) -> Result<(), ApiError> {
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
                let address = text.parse().ok().filter(|a| addresses::contains(range, *a));
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

    /// A claim that names no class gets the default one. (`""` names none on purpose.)
    fn give_default_class(&self, claim: &mut Value) {
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
        // Of several, the newest, as in Kubernetes.
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

    fn check_pod_security(&self, kind: &'static Kind, pod: &Value) -> Result<(), ApiError> {
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

    fn check_service_account(&self, kind: &'static Kind, pod: &mut Value) -> Result<(), ApiError> {
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

/// A level that does not exist is refused, rather than taken for none.
fn check_levels(kind: &'static Kind, namespace: &Value) -> Result<(), ApiError> {
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
