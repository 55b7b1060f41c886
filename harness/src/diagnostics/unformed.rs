//! Why no cluster was ever formed, where every server runs and knows nobody but itself: the hook that should have formed it
//! did not run, or has hidden its failure.

use kube::ResourceExt;

use super::evidence::Evidence;
use crate::release::HookEvent;
use crate::release::bundle::INIT_JOB;
use crate::wait::{Verdict, conditions};

/// Every server of a cluster knows only itself.
pub(super) fn never_formed(evidence: &Evidence) -> Option<String> {
    let seen = evidence.observation.as_ref()?;
    if !seen.is_unformed() || evidence.error.contains(" hook ") {
        return None;
    }
    let Some((job, events)) = evidence.hooks.iter().find(|(name, _)| name.ends_with(INIT_JOB)) else {
        return Some(format!(
            "no server knows any other: the chart has no hook {INIT_JOB} that would form the cluster"
        ));
    };
    if events.contains(&HookEvent::PostInstall) {
        if let Some(state) = has_not_ended(evidence, job) {
            return Some(format!(
                "no server knows any other: the hook {job}, which forms the cluster, {state}"
            ));
        }
        return Some(format!(
            "no server knows any other, although the hook {job} has succeeded: it hides its failure"
        ));
    }
    let events: Vec<&str> = events.iter().map(|event| event.name()).collect();
    Some(format!(
        "no server knows any other: the hook {job}, which forms the cluster, runs at {} and not at post-install",
        events.join(", ")
    ))
}

/// What the Job does instead of ending, and its last words. A Job that has succeeded is deleted, or says that it is
/// complete.
fn has_not_ended(evidence: &Evidence, job: &str) -> Option<String> {
    let found = evidence.jobs.iter().find(|found| found.name_any() == job)?;
    if !matches!(conditions::job_verdict(Some(found)), Verdict::NotYet(_)) {
        return None;
    }
    let pod = evidence
        .pods
        .iter()
        .find(|pod| pod.name_any().starts_with(&format!("{job}-")));
    let restarts = pod.map_or(0, |pod| {
        let counts = conditions::container_statuses(pod)
            .iter()
            .map(|status| status.restart_count);
        counts.sum::<i32>()
    });
    let state = match restarts {
        0 => "has not ended".to_owned(),
        count => format!("crashes again and again ({count} restarts)"),
    };
    let logs = evidence
        .logs
        .iter()
        .rev()
        .filter(|(name, _)| name.starts_with(&format!("{job}-")));
    let last = logs
        .filter_map(|(_, log)| log.lines().rfind(|line| !line.trim().is_empty()))
        .next();
    let last = last.map_or_else(String::new, |line| format!("; its last words: {}", line.trim()));
    Some(format!("{state}{last}"))
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
    fn a_job_that_runs_and_one_that_crashes_are_told_with_their_last_words() {
        let state = |job: &str, restarts| has_not_ended(&evidence(job, restarts), "vk-cluster-init");
        assert_eq!(
            state("{active: 1}", 0).unwrap(),
            "has not ended; its last words: no such option"
        );
        assert_eq!(
            state("{active: 1}", 3).unwrap(),
            "crashes again and again (3 restarts); its last words: no such option"
        );
        assert_eq!(state("{conditions: [{type: Complete, status: 'True'}]}", 0), None);
        assert_eq!(has_not_ended(&Evidence::default(), "vk-cluster-init"), None);
    }
}
