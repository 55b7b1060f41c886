//! The protocol between a host program and its supervisor. The request comes on standard input, and
//! one line for each step of the start goes to standard output. All later communication goes
//! through the Kubernetes API.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api::Token;
use crate::delays::Delays;

/// The settings of a supervisor: the first line of its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Name of the cluster in its kubeconfig.
    pub(super) name: String,
    /// TCP port of the API on 127.0.0.1; 0 lets the kernel choose.
    pub(super) port: u16,
    /// Directory of the OCI image store.
    pub(super) image_store: PathBuf,
    /// True to enter a user namespace first and ask the host program to map its IDs.
    pub(super) user_namespace: bool,
    /// True to end when standard input does. False for clusters that outlive the command that
    /// started them.
    pub(super) lifeline: bool,
    /// Tokens of callers other than the administrator, for tests of restricted permissions.
    pub(super) restricted: Vec<Token>,
    /// The delays with which the cluster notices changes.
    pub(super) delays: Delays,
}

/// A reply of the supervisor, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    /// The process is in its new user namespace and waits until its user and group IDs are mapped.
    MapIds,
    /// The API answers.
    Ready(Access),
    /// A part of the running cluster has died, and the whole cluster ends.
    Died {
        /// The part.
        part: String,
        /// The event that ended it, as a verb.
        cause: String,
    },
    /// The cluster cannot run here.
    Failed {
        /// The action, as a fragment that reads after "failed to".
        what: String,
        /// The cause, with its own causes.
        cause: String,
        /// True if the kernel refused a namespace or a mount: the machine lacks a permission.
        permission: bool,
    },
}

/// The address and the credentials of a cluster's API.
#[derive(Clone, Serialize, Deserialize)]
pub struct Access {
    /// Name of the cluster, context and user in the kubeconfig.
    pub name: String,
    /// Base URL of the API: `https://127.0.0.1:PORT`.
    pub server: String,
    /// Certificate authority of the run, PEM.
    pub certificate_authority: String,
    /// The administrator's bearer token.
    pub token: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("name", &self.name)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Returns a kubeconfig with one cluster, one user and one context, all called
    /// [`Access::name`].
    pub fn kubeconfig(&self) -> kube::config::Kubeconfig {
        use base64::Engine as _;
        let authority = base64::engine::general_purpose::STANDARD.encode(&self.certificate_authority);
        let document = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": self.name,
                "cluster": { "server": self.server, "certificate-authority-data": authority },
            }],
            "users": [{ "name": self.name, "user": { "token": self.token } }],
            "contexts": [{ "name": self.name, "context": { "cluster": self.name, "user": self.name } }],
            "current-context": self.name,
        });
        serde_json::from_value(document).expect("a literal kubeconfig has the shape of one")
    }

    /// Returns the kubeconfig as YAML, with a context `NAME-USER` for each of `others` after the
    /// administrator's.
    pub(super) fn kubeconfig_yaml_with(&self, others: &[Token]) -> String {
        let mut kubeconfig = self.kubeconfig();
        for other in others {
            let user = format!("{}-{}", self.name, other.identity.user);
            let more = serde_json::json!({
                "users": [{ "name": user, "user": { "token": other.secret } }],
                "contexts": [{ "name": user, "context": { "cluster": self.name, "user": user } }],
            });
            let more: kube::config::Kubeconfig =
                serde_json::from_value(more).expect("a literal kubeconfig has the shape of one");
            kubeconfig.auth_infos.extend(more.auth_infos);
            kubeconfig.contexts.extend(more.contexts);
        }
        serde_yaml::to_string(&kubeconfig).expect("a kubeconfig is plain data")
    }
}
