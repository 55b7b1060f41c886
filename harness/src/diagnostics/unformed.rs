//! Recognises a cluster that never formed: every server runs and knows only itself. The hook that
//! should have formed it did not run, or hid its failure.

use kube::ResourceExt;

use super::cause::{Cause, Unformed};
use super::evidence::Evidence;
use crate::release::HookEvent;
use crate::release::bundle::INIT_JOB;
use crate::wait::{Verdict, conditions};

/// Recognises an unformed cluster: each server knows only itself.
pub(super) fn never_formed(evidence: &Evidence) -> Option<Cause> {
    let seen = evidence.observation.as_ref()?;
    if !seen.is_unformed() || evidence.failure.hook().is_some() {
        return None;
    }
    let found = evidence.hooks.iter().find(|(name, _)| name.ends_with(INIT_JOB));
    let why = match found {
        None => Unformed::NoHook,
        Some((job, events)) if events.contains(&HookEvent::PostInstall) => {
            let hook = job.clone();
            has_not_ended(evidence, job).unwrap_or(Unformed::HookHides { hook })
        }
        Some((job, events)) => Unformed::HookAtOtherTime {
            hook: job.clone(),
            events: events.iter().map(|event| event.name().to_owned()).collect(),
        },
    };
    Some(Cause::NeverFormed { why })
}

/// Returns the state of a Job that has not ended, and its last output. A Job that has succeeded is
/// deleted, or reports that it is complete.
fn has_not_ended(evidence: &Evidence, job: &str) -> Option<Unformed> {
    let found = evidence.jobs.iter().find(|found| found.name_any() == job)?;
    if !matches!(conditions::job_verdict(Some(found)), Verdict::NotYet(_)) {
        return None;
    }
    let of_job = format!("{job}-");
    let pod = evidence
        .pods
        .iter()
        .find(|pod| pod.name_any().starts_with(&of_job));
    let restarts = pod.map_or(0, |pod| {
        let counts = conditions::container_statuses(pod)
            .iter()
            .map(|status| status.restart_count);
        counts.sum::<i32>()
    });
    let logs = evidence
        .logs
        .iter()
        .rev()
        .filter(|(name, _)| name.starts_with(&of_job));
    let mut last = logs.filter_map(|(_, log)| log.lines().rfind(|line| !line.trim().is_empty()));
    Some(Unformed::HookRuns {
        hook: job.to_owned(),
        restarts,
        last_words: last.next().map(|line| line.trim().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn parse<T: DeserializeOwned>(yaml: &str) -> T {
        serde_yaml::from_str(yaml).expect("the test's own YAML is what it says")
    }

    fn evidence(job: &str, restarts: i32) -> Evidence {
        Evidence {
            jobs: vec![parse(&format!("{{metadata: {{name: vk-cluster-init}}, status: {job}}}"))],
            pods: vec![parse(&format!(
                "{{metadata: {{name: vk-cluster-init-x1}}, status: {{containerStatuses: [{{name: init, ready: false, image: x,
                   imageID: x, restartCount: {restarts}}}]}}}}"
            ))],
            logs: [
                ("vk-0/valkey".to_owned(), "Ready\n".to_owned()),
                ("vk-cluster-init-x1/init".to_owned(), "looking\nno such option\n\n".to_owned()),
            ]
            .into(),
            ..Evidence::default()
        }
    }

    #[test]
    fn an_unfinished_hook_is_shown_with_its_last_words() {
        let state = |job: &str, restarts| has_not_ended(&evidence(job, restarts), "vk-cluster-init");
        assert_eq!(
            state("{active: 1}", 0).unwrap().to_string(),
            ": the hook vk-cluster-init, which forms the cluster, has not ended; its last output: no such option"
        );
        assert_eq!(
            state("{active: 1}", 3).unwrap().to_string(),
            ": the hook vk-cluster-init, which forms the cluster, keeps crashing (3 restarts); its last output: no such \
             option"
        );
        assert_eq!(state("{conditions: [{type: Complete, status: 'True'}]}", 0), None);
        assert_eq!(has_not_ended(&Evidence::default(), "vk-cluster-init"), None);
    }
}
