//! The output of a hook, read while it runs. Helm deletes a Job as soon as it has succeeded.
//! Kubernetes deletes the pod of a failed Job. Afterwards the log is gone.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Release;
use timeline::{EntryKind, Timeline};
use wait::{self, conditions};

/// Number of lines of a hook to remember: a bound above the output of any of the chart's hooks.
const REMEMBERED_LINES: usize = 2_000;

/// Time that the output of an ended hook may take to arrive. Its pod may be deleted at any moment.
const DRAIN: Duration = Duration::from_secs(2);

/// Number of attempts to read a log when the connection breaks.
const LOG_ATTEMPTS: usize = 10;
const LOG_RETRY: Duration = Duration::from_secs(1);

/// Number of lines to show for a pod in a terminal state.
const LAST_LINES: i64 = 12;

/// The output of a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookOutput {
    /// The hook's object.
    pub hook: String,
    /// The lines in order of arrival, over all pods and restarts of the hook.
    pub lines: Vec<String>,
}

impl HookOutput {
    /// Returns the last `count` lines.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        self.lines[self.lines.len().saturating_sub(count)..].to_vec()
    }
}

/// Reads the logs of every container of a hook's pods in the background, from their first line on.
#[derive(Debug)]
pub(super) struct Follower {
    hook: String,
    lines: Lines,
    tasks: JoinSet<()>,
    ended: CancellationToken,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

impl Follower {
    /// Starts to read the output of the pods of the hook `kind`/`name`.
    pub(super) fn start(release: &Release, kind: &str, name: &str) -> Self {
        let selection = match kind {
            "Job" => watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={name}")),
            _ => watcher::Config::default().fields(&format!("metadata.name={name}")),
        };
        let pods = Api::namespaced(release.client.clone(), &release.namespace);
        let lines = Lines::default();
        let (mut tasks, ended) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(follow_pods(
            pods,
            selection,
            lines.clone(),
            release.timeline.clone(),
            ended.clone(),
        ));
        Self {
            hook: name.to_owned(),
            lines,
            tasks,
            ended,
        }
    }

    /// Ends the reading, and returns the output. A pod's end closes its log, so the wait is short.
    /// `complete` is true if the pod has ended by itself.
    pub(super) async fn finish(mut self, complete: bool) -> HookOutput {
        if !complete {
            // No pod of the hook will succeed: wait only for logs that are being read.
            self.ended.cancel();
        }
        // The watch task ends by itself after all the logs it follows.
        let _ = tokio::time::timeout(DRAIN, self.tasks.join_next()).await;
        self.tasks.abort_all();
        let lines = self
            .lines
            .lock()
            .expect("no code panics while it holds the lines")
            .iter()
            .cloned()
            .collect();
        HookOutput {
            hook: self.hook,
            lines,
        }
    }
}

/// Watches the pods and follows each container instance once. Returns when a pod has ended and its
/// logs are read.
async fn follow_pods(
    pods: Api<Pod>,
    selection: watcher::Config,
    lines: Lines,
    timeline: Timeline,
    ended: CancellationToken,
) {
    let mut followed: BTreeSet<(String, String, i32)> = BTreeSet::new();
    let mut logs = JoinSet::new();
    let mut events = wait::watch(pods.clone(), selection)
        .take_until(ended.cancelled())
        .boxed();
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event else {
            continue;
        };
        for status in conditions::container_statuses(&pod) {
            let instance = (
                pod.uid().unwrap_or_default(),
                status.name.clone(),
                status.restart_count,
            );
            let has_log = status
                .state
                .as_ref()
                .is_some_and(|s| s.running.is_some() || s.terminated.is_some());
            if has_log && followed.insert(instance) {
                let (pods, lines, timeline) = (pods.clone(), lines.clone(), timeline.clone());
                logs.spawn(follow_container(
                    pods,
                    pod.name_any(),
                    status.name.clone(),
                    lines,
                    timeline,
                ));
            }
        }
        if pod
            .status
            .and_then(|status| status.phase)
            .is_some_and(|phase| phase == "Succeeded")
        {
            break;
        }
    }
    while logs.join_next().await.is_some() {}
}

/// Reads one container's log to its end. A broken connection (API server restart, unreachable
/// kubelet) is renewed, from the line after the last one received.
async fn follow_container(pods: Api<Pod>, pod: String, container: String, lines: Lines, timeline: Timeline) {
    let mut last: Option<jiff::Timestamp> = None;
    let mut retries = tokio::time::interval(LOG_RETRY);
    for _ in 0..LOG_ATTEMPTS {
        retries.tick().await;
        let params = LogParams {
            container: Some(container.clone()),
            follow: true,
            timestamps: true,
            since_time: last,
            ..LogParams::default()
        };
        let stream = match pods.log_stream(&pod, &params).await {
            Ok(stream) => stream,
            // The pod or its log no longer exists.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 400 => return,
            Err(_) => continue,
        };
        let (mut stream, resumed_after) = (stream.lines(), last);
        loop {
            match stream.try_next().await {
                Ok(Some(line)) => {
                    let (moment, text) = stamped(&line);
                    if moment.is_some() && moment <= resumed_after {
                        continue;
                    }
                    last = moment.or(last);
                    remember(&lines, &timeline, &pod, text);
                }
                Ok(None) => return,
                Err(_) => break,
            }
        }
    }
}

fn remember(lines: &Lines, timeline: &Timeline, pod: &str, text: &str) {
    timeline.record(EntryKind::Hook, pod, text);
    let mut lines = lines.lock().expect("no code panics while it holds the lines");
    if lines.len() == REMEMBERED_LINES {
        lines.pop_front();
    }
    lines.push_back(text.to_owned());
}

/// Splits a log line into Kubernetes' timestamp and the text.
fn stamped(line: &str) -> (Option<jiff::Timestamp>, &str) {
    let (stamp, text) = line.split_once(' ').unwrap_or((line, ""));
    stamp.parse().map_or((None, line), |moment| (Some(moment), text))
}

/// Returns the last lines of a pod's most restarted container. Prefers its previous instance.
pub(super) async fn last_lines(pods: &Api<Pod>, pod: &Pod) -> Vec<String> {
    let restarted = conditions::container_statuses(pod)
        .iter()
        .max_by_key(|status| status.restart_count);
    let Some(status) = restarted else {
        return Vec::new();
    };
    let container = Some(status.name.clone());
    for previous in [true, false] {
        let container = container.clone();
        let params = LogParams {
            container,
            previous,
            tail_lines: Some(LAST_LINES),
            ..LogParams::default()
        };
        if let Ok(text) = pods.logs(&pod.name_any(), &params).await
            && !text.trim().is_empty()
        {
            return text.lines().map(str::to_owned).collect();
        }
    }
    Vec::new()
}

/// Returns the pod that a hook waits for. That is the first word with an ordinal in the last line
/// about waiting or giving up.
pub fn waits_for(lines: &[String]) -> Option<String> {
    let speaks = |line: &String| {
        ["wait", "gave up"]
            .iter()
            .any(|word| line.to_lowercase().contains(word))
    };
    let line = lines.iter().rev().find(|line| speaks(line))?;
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | '(' | ')' | '"' | '\''));
    let mut pods = words.filter_map(|word| {
        let pod = word.split('.').next()?;
        let (stem, ordinal) = pod.rsplit_once('-')?;
        let is_pod = !stem.is_empty() && !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
        is_pod.then(|| pod.to_owned())
    });
    pods.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn the_awaited_pod_is_read_from_the_last_waiting_line() {
        let log = lines(&[
            "waiting for vk-percona-valkey-1.vk-headless.ns.svc.cluster.local:6379",
            "Waiting for pod vk-percona-valkey-5 (5 of 6): connection refused",
            "try 3",
        ]);
        assert_eq!(waits_for(&log).unwrap(), "vk-percona-valkey-5");
        let given_up = "gave up after 30 s: pod vk-2 to become a replica of pod vk-1, last answer: ERR";
        assert_eq!(waits_for(&lines(&[given_up])).unwrap(), "vk-2");
        assert_eq!(
            waits_for(&lines(&["cluster formed", "waiting for slots to be agreed"])),
            None
        );
    }

    #[test]
    fn a_line_is_told_from_its_moment() {
        let (moment, text) = stamped("2026-01-02T03:04:05.678901234Z cluster formed");
        assert_eq!(text, "cluster formed");
        assert!(moment > stamped("2026-01-02T03:04:05.678901233Z x").0);
        assert_eq!(
            stamped("2026-01-02T03:04:05Z"),
            (Some("2026-01-02T03:04:05Z".parse().unwrap()), "")
        );
        assert_eq!(stamped("no moment"), (None, "no moment"));
    }

    #[test]
    fn last_lines_are_no_more_than_there_are() {
        let output = HookOutput {
            hook: "x".into(),
            lines: lines(&["a", "b", "c"]),
        };
        assert_eq!(output.last_lines(2), ["b", "c"]);
        assert_eq!(output.last_lines(9), ["a", "b", "c"]);
    }
}
