//! What needs to know more than the object itself: Service addresses, service accounts of pods.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::addresses;
use super::kinds::{self, Kind};
use super::object;
use super::server::ApiServer;
use super::status::{ApiError, FieldError};

/// Where the last allocated Service address was. One counter for the process is enough: it only spreads
/// addresses, it does not keep them apart.
static LAST_ADDRESS: AtomicU32 = AtomicU32::new(0);

impl ApiServer {
    /// Completes or refuses a new object in the light of the others.
    pub(crate) fn admit_create(&self, kind: &'static Kind, object: &mut Value) -> Result<(), ApiError> {
        match kind.kind {
            "Service" => self.give_address(kind, object),
            "Pod" => self.check_service_account(kind, object),
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
            _ => Ok(()),
        }
    }

    fn give_address(&self, kind: &'static Kind, service: &mut Value) -> Result<(), ApiError> {
        let range = self.config.service_network;
        let given = object::text(service, &["spec", "clusterIP"]).to_owned();
        let key = (object::namespace(service).to_owned(), object::name(service).to_owned());
        let (_, others) = self.store.list(kind, "");
        let taken: BTreeSet<Ipv4Addr> = others
            .iter()
            .filter(|other| (object::namespace(&other.value), object::name(&other.value)) != (&key.0, &key.1))
            .filter_map(|other| object::text(&other.value, &["spec", "clusterIP"]).parse().ok())
            .collect();
        let address = match given.as_str() {
            "None" => "None".to_owned(),
            "" => allocate(range, &taken)?.to_string(),
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

    fn check_service_account(&self, kind: &'static Kind, pod: &mut Value) -> Result<(), ApiError> {
        let accounts = kinds::find("", "v1", "serviceaccounts").expect("service accounts are in the table");
        let (namespace, account) =
            (object::namespace(pod), object::text(pod, &["spec", "serviceAccountName"]));
        if self.store.get(accounts, namespace, account).is_some() {
            return Ok(());
        }
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        Err(ApiError::forbidden(kind, object::name(pod), &why))
    }
}

fn allocate(range: (Ipv4Addr, u8), taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, ApiError> {
    let last = LAST_ADDRESS.load(Ordering::Relaxed);
    let (offset, address) = addresses::next_free(range, taken, last)
        .ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))?;
    LAST_ADDRESS.store(offset, Ordering::Relaxed);
    Ok(address)
}
