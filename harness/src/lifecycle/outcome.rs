//! The outcome of a failed trial. A fault of the environment is not a failure of the deployment.

use std::error::Error;

use kube::client::UpgradeConnectionError;

use crate::diagnostics;
use crate::release::ChartError;
use crate::report::Outcome;
use crate::trial::{Context, TrialError, format_error};

/// Returns the outcome, and distinguishes a failed environment from a failed deployment.
pub(super) fn outcome(context: &Context, error: &anyhow::Error, evidence: &diagnostics::Evidence) -> Outcome {
    let message = context.credentials.redact(&format_error(error));
    match error.downcast_ref() {
        Some(TrialError::Invalid(_)) => return Outcome::Invalid { reason: message },
        Some(TrialError::RecordFile(_) | TrialError::Unrecorded(_) | TrialError::Client(_)) => {
            return Outcome::Broken { reason: message };
        }
        _ => {}
    }
    if let Some(fault) = environment_fault(error) {
        return Outcome::Broken {
            reason: format!("{fault}: {message}"),
        };
    }
    if let Some(absence) = context.timeline().deadline_pauses().absence() {
        return Outcome::Broken {
            reason: format!(
                "the API server was unreachable for {:.0} s, so observations from that time prove nothing: {message}",
                absence.as_secs_f64().ceil()
            ),
        };
    }
    let headline = diagnostics::recognised(evidence);
    let cause = headline.map(|found| context.credentials.redact(&found.cause.to_string()));
    Outcome::Failed { cause, message }
}

/// Finds a cause of type `E`, also inside a box or an I/O error. The standard library treats a
/// boxed error as another type. An I/O error omits the wrapped error from its source chain.
fn find<'a, E: Error + 'static>(cause: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let boxed = || cause.downcast_ref::<Box<E>>().map(Box::as_ref);
    let wrapped = || cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref();
    cause.downcast_ref().or_else(boxed).or_else(wrapped)
}

/// Returns the environment's fault, if there is one. An API server's answer about the request
/// itself is not a fault.
fn environment_fault(error: &anyhow::Error) -> Option<&'static str> {
    if error
        .chain()
        .filter_map(find::<ChartError>)
        .any(ChartError::is_environment)
    {
        return Some("helm could not be run");
    }
    error.chain().find_map(|cause| match find::<kube::Error>(cause)? {
        kube::Error::Service(_)
        | kube::Error::HyperError(_)
        | kube::Error::Auth(_)
        | kube::Error::ReadEvents(_) => Some("the connection to the cluster failed"),
        // From a port-forward or an exec. Status 500 comes from the kubelet and concerns the pod.
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            match status.as_u16() {
                401 | 403 => Some("the user is not allowed to do this"),
                429 => Some("the cluster is overloaded"),
                502..=504 => Some("the API server is not available"),
                _ => None,
            }
        }
        kube::Error::Api(status) => match status.code {
            401 => Some("the cluster no longer knows the user"),
            // Admission also refuses with 403, because of the manifests. Only RBAC names the user.
            403 if status.message.contains("forbidden: User ") => Some("the user is not allowed to do this"),
            429 => Some("the cluster is overloaded"),
            502..=504 => Some("the API server is not available"),
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::release::ReleaseError;
    use crate::wait::WaitError;

    #[test]
    fn an_error_chain_is_told_once() {
        let error = anyhow::anyhow!("connection refused").context("connect to vk-0: connection refused");
        assert_eq!(
            crate::trial::format_error(&error.context("observe")),
            "observe: connect to vk-0: connection refused"
        );
    }

    #[test]
    fn an_answer_of_the_api_server_is_no_fault_of_the_environment() {
        let answer = |code: u16, message: &str| {
            let status = kube::core::Status {
                code,
                message: message.to_owned(),
                ..Default::default()
            };
            let refused = Err::<(), _>(kube::Error::Api(Box::new(status)));
            environment_fault(&refused.context("apply").unwrap_err()).is_some()
        };
        assert!(!answer(422, "Invalid value"));
        assert!(!answer(
            403,
            "pods \"vk-0\" is forbidden: violates PodSecurity \"restricted:latest\""
        ));
        assert!(answer(
            403,
            "pods is forbidden: User \"ci\" cannot list resource \"pods\""
        ));
        assert!(answer(401, "Unauthorized"));
        assert!(answer(503, "etcdserver: leader changed"));
        let unreachable = || kube::Error::Service(Box::new(std::io::Error::other("gone")));
        let plain = Err::<(), _>(unreachable()).context("apply").unwrap_err();
        assert!(environment_fault(&plain).is_some());
        let boxed = TrialError::api("list pods", unreachable());
        assert!(environment_fault(&boxed.into()).is_some());
        // The same error as a port-forward and a watch wrap it.
        let dialled = std::io::Error::other(unreachable());
        let dialled = crate::valkey::ConnectError::Dial(dialled);
        let (pod, source) = ("vk-0".to_owned(), dialled);
        assert!(environment_fault(&TrialError::Connect { pod, source }.into()).is_some());
        let watched = |source| WaitError::Watch {
            subject: "pods".to_owned(),
            source: Box::new(kube::runtime::watcher::Error::InitialListFailed(source)),
        };
        assert!(environment_fault(&TrialError::from(watched(unreachable())).into()).is_some());
        let missing = ReleaseError::Chart(Box::new(ChartError::Missing));
        assert!(environment_fault(&TrialError::from(missing).into()).is_some());
    }
}
