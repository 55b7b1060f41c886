//! Checks of rendered objects before their deployment: places of the password, host names, and
//! hooks that would block their successors.

use ::release::{Hook, HookEvent};
use manifests::{Values, password::GENERATED_LENGTH};
use serde_json::Value;

use super::context::Context;
use super::error::TrialError;
use super::passwords;
use crate::checks::{Violation, names, secrecy};

/// The longest name that Helm lets a release have.
const LONGEST_RELEASE_NAME: usize = 53;

/// A name that no object has by default.
const OTHER_NAME: &str = "renamed-by-the-user";

/// The name of the check for hooks that stay.
const HOOKS: &str = "hooks";

/// Hooks that run more than once in the life of a release.
const REPEATED: [HookEvent; 5] = [
    HookEvent::PreUpgrade,
    HookEvent::PostUpgrade,
    HookEvent::PreRollback,
    HookEvent::PostRollback,
    HookEvent::Test,
];

impl Context {
    /// Fails if a password from the values is rendered outside a Secret. Also fails if a password
    /// of digits only is not rendered as text.
    pub async fn verify_secrecy(&mut self) -> Result<(), TrialError> {
        let steps = self.recorder.steps.clone();
        let violations = steps
            .judge("check where the password is rendered", self.secrecy())
            .await?;
        self.recorder.note_broken(violations);
        self.recorder.kept([secrecy::NAME]);
        Ok(())
    }

    /// Fails if pods use host names that the release does not have. Tries the user's full name and
    /// the longest release name.
    pub async fn verify_names(&mut self) -> Result<(), TrialError> {
        let steps = self.recorder.steps.clone();
        let violations = steps
            .judge("check the host names that pods use", self.strange_names())
            .await?;
        self.recorder.note_broken(violations);
        self.recorder.kept([names::NAME]);
        Ok(())
    }

    async fn secrecy(&mut self) -> Result<Vec<Violation>, TrialError> {
        let mut values = self.values();
        // A random password occurs nowhere by chance. The redaction must know it.
        let password = passwords::generate();
        self.credentials
            .keep_out(&::secret::Password::new(password.reveal()));
        password.reveal().clone_into(&mut values.auth.password);
        let objects = self.objects(self.release_name(), &values).await?;
        let mut violations = secrecy::outside_of_secrets(&objects, password.reveal());
        if secrecy::is_kept(&objects, password.reveal()) {
            values.auth.password = "4".repeat(GENERATED_LENGTH);
            let objects = self.objects(self.release_name(), &values).await?;
            violations.extend(secrecy::no_texts(&objects));
        }
        Ok(violations)
    }

    async fn strange_names(&self) -> Result<Vec<Violation>, TrialError> {
        let mut values = self.values();
        let ordinary = self.objects(self.release_name(), &values).await?;
        let long_name = "r".repeat(LONGEST_RELEASE_NAME);
        let under = format!("for a release whose name has {LONGEST_RELEASE_NAME} characters");
        let mut violations = match self.objects(&long_name, &values).await {
            Ok(long) => names::check(&long, &long_name, &under),
            // A refusal is better than names that Kubernetes refuses.
            Err(TrialError::Render(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        OTHER_NAME.clone_into(&mut values.fullname_override);
        let renamed = self.objects(self.release_name(), &values).await?;
        let before = server_set(&ordinary);
        // A conformance case covers a chart without this parameter.
        if server_set(&renamed) != before
            && let Some(before) = before
        {
            let under = format!("with fullnameOverride: {OTHER_NAME}");
            violations.extend(names::check(&renamed, before, &under));
        }
        Ok(violations)
    }

    /// Returns every object that `values` render to for the release name, hooks included.
    async fn objects(&self, release: &str, values: &Values) -> Result<Vec<Value>, TrialError> {
        let naming = manifests::Release::install(release, self.namespace());
        let naming = naming.with_password(passwords::generate());
        let bundle = self.rendered(&naming, values).await?;
        let hooks = bundle.hooks.iter().map(|hook| &hook.object);
        let all = bundle.resources.iter().chain(hooks);
        Ok(all
            .map(|object| serde_json::to_value(&object.content).unwrap_or_default())
            .collect())
    }
}

/// Returns the name of the StatefulSet.
fn server_set(objects: &[Value]) -> Option<&str> {
    let set = objects.iter().find(|object| object["kind"] == "StatefulSet")?;
    set["metadata"]["name"].as_str()
}

/// Returns violations for hooks that block the next hook of the same name once they have failed. A
/// name that contains the `revision` is different in each run.
pub(super) fn hooks_in_the_way(hooks: &[Hook], revision: usize) -> Vec<Violation> {
    let revision = revision.to_string();
    hooks
        .iter()
        .filter(|hook| hook.events.iter().any(|event| REPEATED.contains(event)))
        .filter(|hook| !hook.object.name().split('-').any(|part| part == revision))
        .filter(|hook| {
            let policy = hook.delete;
            let always = policy.on_success && policy.on_failure;
            !(policy.before_creation || always)
        })
        .map(|hook| {
            let (kind, name) = (hook.object.kind(), hook.object.name());
            Violation::new(
                HOOKS,
                format!("{kind} {name}"),
                "a hook-delete-policy that lets the next hook start, such as before-hook-creation",
                format!("a failed hook stays, and the next one is refused: {kind} {name} already exists"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use ::release::Bundle;

    use super::*;

    fn stay(name: &str, event: &str, policy: Option<&str>) -> usize {
        let mut annotations = json!({"helm.sh/hook": event});
        if let Some(policy) = policy {
            annotations["helm.sh/hook-delete-policy"] = policy.into();
        }
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "annotations": annotations}});
        hooks_in_the_way(&Bundle::from_values([job]).expect("a hook").hooks, 2).len()
    }

    #[test]
    fn a_hook_that_stays_after_a_failure_is_in_the_way() {
        assert_eq!(stay("vk-scale", "post-upgrade", Some("hook-succeeded")), 1);
        assert_eq!(stay("vk-scale", "post-upgrade", Some("hook-failed")), 1);
        assert_eq!(stay("vk-test", "test", Some("hook-succeeded")), 1);
    }

    #[test]
    fn a_hook_that_makes_room_is_fine() {
        // Helm's own default is before-hook-creation.
        assert_eq!(stay("vk-scale", "post-upgrade", None), 0);
        assert_eq!(stay("vk-scale", "post-upgrade", Some("before-hook-creation")), 0);
        assert_eq!(
            stay("vk-scale", "post-upgrade", Some("hook-succeeded,hook-failed")),
            0
        );
        assert_eq!(
            stay("vk-scale-2", "post-upgrade", Some("hook-succeeded")),
            0,
            "named by the revision"
        );
        assert_eq!(
            stay("vk-init", "post-install", Some("hook-succeeded")),
            0,
            "runs once"
        );
    }
}
