//! The ServiceAccount of the release's pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{RenderContext, non_empty};

/// Renders the ServiceAccount, if the release creates one.
pub(super) fn service_account(context: &RenderContext<'_>) -> Option<ServiceAccount> {
    let given = &context.values.service_account;
    given.create.then(|| {
        let mut metadata = context.metadata(context.release.service_account_name(context.values));
        metadata.annotations = non_empty(&given.annotations);
        ServiceAccount {
            metadata,
            ..ServiceAccount::default()
        }
    })
}
