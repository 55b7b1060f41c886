//! `cargo xtask e2e`: select, run, report.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use harness::cluster::{ClusterError, Provenance};
use harness::images::Origin;
use harness::lifecycle;
use harness::report::baseline::Baseline;
use harness::report::deployment::ChartSource;
use harness::report::file::ReportFileError;
use harness::report::journal::Journal;
use harness::report::known::KnownFindings;
use harness::report::outputs::EVIDENCE_FOLDER;
use harness::report::plain::Plain;
use harness::report::progress::Progress;
use harness::report::style::{Stream, Style};
use harness::report::{
    Event, EventSink, Outcome, Reporter, RunReport, RunVerdict, file, history, markdown, outputs,
};
use harness::trial::{ClientPod, Halt, HaltReason, Turns};
use scenarios::registry::{self, Trial};
use scenarios::runner::{self, Started};
use scenarios::selection::{Selection, select};
use scenarios::session::{ClusterChoice, Session, SessionOptions, new_run_id};
use scenarios::shard::Costs;

use tokio::task::JoinHandle;

use crate::chart;
use crate::cli::{E2eArgs, MOST_JOBS};
use crate::exit::{self, UsageError};
use crate::{limits, signals};

/// The folder of reports, below the current one.
const REPORTS_FOLDER: &str = "reports";

/// Number of concurrent trials per processor. Trials wait for servers half of the time, and too
/// many delay each other's servers. On two processors, six trials in all took 122 s, seven took 115
/// s, eight and ten took 110 s.
const JOBS_PER_PROCESSOR: usize = 4;

/// Time to wait at the end of a run for work that still blocks.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// Time to detect the death of a cluster after that of its servers.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The typed words, resolved.
struct Plan {
    trials: Vec<Trial>,
    folder: PathBuf,
    baseline: Option<RunReport>,
    /// The report that the folder had before, which this run replaces.
    replaced: Option<RunReport>,
    /// True if the user gave the number of concurrent trials.
    jobs_given: bool,
    known: Option<KnownFindings>,
    session: SessionOptions,
}

/// Runs the command.
pub(crate) fn run(args: E2eArgs) -> anyhow::Result<ExitCode> {
    limits::check(false)?;
    let list = args.list;
    let chart = chart::open(&args.chart)?;
    let arguments = args.words_to_repeat();
    let runtime = tokio::runtime::Runtime::new().context("failed to start the async runtime")?;
    let mut plan = runtime.block_on(Plan::resolve(args, chart.is_some()))?;
    if list {
        for trial in &plan.trials {
            // A closed pipe is not a failure.
            let _ = writeln!(std::io::stdout(), "{}", trial.id);
        }
        return Ok(ExitCode::from(exit::QUALIFIED));
    }
    limits::check(matches!(plan.session.cluster, ClusterChoice::Embedded))?;
    if let Some(chart) = &chart {
        chart::check_combination(chart)?;
    }
    plan.session.chart = chart;
    let started = Started::now();
    let mut begun = runner::begun(started, &plan.session);
    begun.deployment.arguments = arguments;
    if let Some(chart) = &plan.session.chart {
        begun.deployment.chart = Some(runtime.block_on(ChartSource::of_chart(chart)));
    }
    let names: Vec<String> = plan.trials.iter().map(|trial| trial.id.to_string()).collect();
    let journal = Journal::begin(&plan.folder, &begun, &names, Box::new(std::io::stderr()))?;
    // An event's data is on disk before the event is shown.
    let (events, reporters) = EventSink::start(vec![Box::new(journal), reporter()]);
    let code = runtime.block_on(execute(plan, started, begun, events));
    // Stragglers of an interrupted run hold clones of the sink. They are dropped with the runtime.
    // One may block in a system call on a dead file system, and then stays until the process ends.
    runtime.shutdown_timeout(STRAGGLERS);
    reporters
        .join()
        .map_err(|_| anyhow::anyhow!("the reporter panicked"))?;
    code.map(ExitCode::from)
}

impl Plan {
    async fn resolve(args: E2eArgs, of_chart: bool) -> anyhow::Result<Self> {
        let selection = Selection {
            modes: args.mode.into_iter().map(Into::into).collect(),
            variants: args.variant.into_iter().map(Into::into).collect(),
            patterns: args.scenario,
        };
        let mut trials = registry::trials();
        if of_chart {
            trials.extend(registry::trials_of_charts());
        }
        let mut trials = select(trials, &selection)?;
        if let Some(shard) = args.shard {
            // All parts need the same estimates to fit together.
            trials = shard.of(trials, &Costs::default());
            if trials.is_empty() {
                return Err(UsageError(format!(
                    "shard {shard} has no trial: there are fewer trials than shards"
                ))
                .into());
            }
        }
        let run = new_run_id();
        let folder = args
            .report
            .unwrap_or_else(|| PathBuf::from(REPORTS_FOLDER).join(&run));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let cluster = args.cluster.resolve()?;
        let placement = args.placement.resolve(&cluster, args.profile).await?;
        let namespace = |trial: &Trial| trial.id.namespace(&placement.namespace_prefix, &run);
        let client = ClientPod::namespace(&placement.namespace_prefix, &run);
        let most = (processors * JOBS_PER_PROCESSOR).min(usize::from(MOST_JOBS));
        let jobs = args.jobs.map_or(most, usize::from);
        Ok(Self {
            jobs_given: args.jobs.is_some(),
            baseline: args.baseline.as_deref().map(file::read).transpose()?,
            known: args.known.as_deref().map(KnownFindings::read).transpose()?,
            session: SessionOptions {
                cluster,
                namespaces: trials.iter().map(namespace).chain([client]).collect(),
                placement,
                run,
                image_source: args.image_source,
                profile: args.profile.into(),
                seed: args.seed.unwrap_or_else(seed_of_now),
                jobs,
                keep: args.keep,
                chart: None,
                evidence: folder.join(EVIDENCE_FOLDER),
            },
            trials,
            replaced: file::read(&folder).ok(),
            folder,
        })
    }
}

async fn execute(
    mut plan: Plan,
    started: Started,
    begun: RunReport,
    events: EventSink,
) -> anyhow::Result<u8> {
    // Before the run is announced, because a user may then interrupt it.
    let halt = Halt::default();
    signals::halt_on(&halt, &events, plan.session.sweep_command())?;
    events.send(Event::RunStarted {
        run: plan.session.run.clone(),
        trials: plan.trials.len(),
        jobs: plan.session.jobs.min(plan.trials.len()),
        profile: plan.session.profile.name().to_owned(),
    });
    let session = tokio::select! {
        session = start(&plan.session, &events) => Ok(session),
        why = halt.halted() => Err(why),
    };
    let mut session = match session {
        Ok(Ok(session)) => session,
        Err(why) => {
            let report = without_cluster(&plan, started, begun, &why.outcome("before its cluster was up"));
            let code = exit::code_of_run(&report);
            let written = outputs::write_all(&report, &plan.folder);
            finished(&events, report, plan.folder, None);
            return Ok(written.map(|()| code)?);
        }
        Ok(Err(error)) => {
            let reason = harness::trial::format_error(&error);
            let report = without_cluster(&plan, started, begun, &Outcome::Broken { reason });
            // The original error matters more than a failure to write the report.
            let _ = outputs::write_all(&report, &plan.folder);
            return Err(error);
        }
    };
    session.environment.halt = halt.clone();
    if !plan.jobs_given {
        follow_capacity(&mut session, plan.session.jobs, &events);
    }
    let mut watch = halt_when_it_dies(&session, &halt);
    let trials = runner::run_trials(&plan.trials, &session.environment).await;
    if trials.iter().any(|trial| trial.outcome.is_doubtful()) {
        // A trial may detect the cluster's death first.
        let _ = tokio::time::timeout(LAST_WORDS, &mut watch).await;
    }
    watch.abort();
    let provenance = session.provenance();
    tell_images(&provenance, &events);
    let mut report = runner::ended(
        begun,
        started,
        provenance,
        trials,
        halt.is_interrupted(),
        plan.known.as_ref(),
    );
    if let Some(HaltReason::ClusterLost(last_words)) = halt.reason() {
        let first = last_words.lines().next().unwrap_or_default();
        report.because = format!("{}: {first}", report.because);
    }
    report.baseline = match plan.baseline.take() {
        Some(before) => Some(Baseline::new(&before, &report, true)),
        None => run_before(plan.replaced.as_ref(), &plan.folder, &report)
            .map(|before| Baseline::new(&before, &report, false)),
    };
    let written = outputs::write_all(&report, &plan.folder).and_then(|()| step_summary(&report));
    let logs = match report.verdict {
        RunVerdict::Qualified => Ok(()),
        RunVerdict::QualifiedWithKnownFindings | RunVerdict::NotQualified | RunVerdict::Inconclusive => {
            save_logs(&session, &plan.folder).await
        }
    };
    let kept = end(session).await?;
    let code = exit::code_of_run(&report);
    // The verdict is shown even if its report could not be written.
    finished(&events, report, plan.folder, kept);
    written?;
    logs.context("the cluster's logs cannot be written next to the report")?;
    Ok(code)
}

/// Limits concurrent trials to the room of the cluster and the capacity of this machine.
fn follow_capacity(session: &mut Session, most: usize, events: &EventSink) {
    let Some(room) = session.environment.capabilities.room else {
        return;
    };
    let jobs = room.trials().min(most);
    session.environment.turns = Turns::new(jobs);
    let text = format!("{jobs} at a time: the cluster has {room} (--jobs N overrides this)");
    events.send(Event::Note { text });
}

/// Ends the run as soon as its cluster has died.
fn halt_when_it_dies(session: &Session, halt: &Halt) -> JoinHandle<()> {
    let (halt, died) = (halt.clone(), session.cluster().died());
    tokio::spawn(async move { halt.now(HaltReason::ClusterLost(died.await)) })
}

/// Announces the subject, and starts the cluster.
async fn start(options: &SessionOptions, events: &EventSink) -> anyhow::Result<Session> {
    if let Some(chart) = &options.chart {
        events.send(Event::Note {
            text: chart::describe(chart),
        });
        for text in chart::warnings(chart) {
            events.send(Event::Note { text });
        }
        if let Some(text) = chart::describe_extensions(chart).await {
            events.send(Event::Note { text });
        }
    }
    Ok(Session::start(options.clone(), events.clone()).await?)
}

/// Returns the report of a run without a cluster. All trials have the same outcome.
fn without_cluster(plan: &Plan, started: Started, begun: RunReport, outcome: &Outcome) -> RunReport {
    let of_trial = |trial: &Trial| lifecycle::not_run(&trial.id, outcome.clone());
    let trials = plan.trials.iter().map(of_trial).collect();
    let interrupted = matches!(outcome, Outcome::Interrupted { .. });
    runner::ended(begun, started, Provenance::default(), trials, interrupted, None)
}

/// Puts the logs of the cluster next to the report. The provider exports raw container output, so
/// passwords are redacted before the logs are moved into place.
async fn save_logs(session: &Session, folder: &Path) -> anyhow::Result<()> {
    let draft = folder.join(".logs.draft");
    std::fs::create_dir_all(&draft)?;
    session.cluster().save_logs(&draft).await?;
    session.environment.secrets.redact_files(&draft)?;
    for entry in std::fs::read_dir(&draft)? {
        let entry = entry?;
        let place = folder.join(entry.file_name());
        if place.is_dir() {
            std::fs::remove_dir_all(&place)?;
        }
        std::fs::rename(entry.path(), place)?;
    }
    Ok(std::fs::remove_dir(&draft)?)
}

/// Returns the newest comparable run before this one, if there is one: the run whose report this
/// one replaces, or a run in the parent of this run's folder.
fn run_before(replaced: Option<&RunReport>, folder: &Path, report: &RunReport) -> Option<RunReport> {
    let is_wanted = |before: &RunReport| {
        before.run != report.run
            && !before.interrupted
            && before.profile == report.profile
            && before.provenance.provider == report.provenance.provider
            && is_comparable(before, report)
    };
    let replaced = replaced.filter(|before| is_wanted(before)).cloned();
    let beside = folder
        .parent()
        .and_then(|parent| history::newest(parent, is_wanted));
    replaced.into_iter().chain(beside).max_by_key(|run| run.started)
}

/// Returns true if two runs have the same subject and selection. Other differences mean nothing.
fn is_comparable(before: &RunReport, report: &RunReport) -> bool {
    let subject = |run: &RunReport| {
        let chart = run.deployment.chart.as_ref().map(|chart| chart.name.clone());
        (chart, run.deployment.arguments.clone())
    };
    let selection =
        |run: &RunReport| -> BTreeSet<String> { run.trials.iter().map(|trial| trial.name.clone()).collect() };
    subject(before) == subject(report) && selection(before) == selection(report)
}

/// Appends the summary to that of the GitHub Actions step, if this runs in one.
fn step_summary(report: &RunReport) -> Result<(), ReportFileError> {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").map(PathBuf::from) else {
        return Ok(());
    };
    let append = || {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        markdown::write_summary(report, &mut file)
    };
    append().map_err(|source| ReportFileError::Io {
        path: path.clone(),
        source,
    })
}

/// Reports the images of a cluster that obtains them itself: they are known only after the trials.
fn tell_images(provenance: &Provenance, events: &EventSink) {
    for image in provenance
        .images
        .iter()
        .filter(|image| image.source == Origin::Cluster)
    {
        let what = if image.stand_in {
            "a STAND-IN: the run qualifies the deployment and not the image"
        } else {
            "as the cluster has it"
        };
        let text = format!("{} ran {}, {what}", image.reference, image.digest);
        events.send(Event::Note { text });
    }
}

async fn end(session: Session) -> Result<Option<String>, ClusterError> {
    if !session.environment.keep {
        session.finish().await?;
        return Ok(None);
    }
    let kept = session.keep().await?;
    Ok(Some(format!("{}; remove it with {}", kept.reach, kept.remove)))
}

fn finished(events: &EventSink, report: RunReport, folder: PathBuf, kept: Option<String>) {
    events.send(Event::RunFinished {
        report: Box::new(report),
        folder,
        kept,
    });
}

fn reporter() -> Box<dyn Reporter> {
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
    if terminal {
        return Box::new(Progress::new(Style::of(Stream::Stderr)));
    }
    Box::new(Plain::new(std::io::stdout(), Style::of(Stream::Stdout)))
}

/// Returns a seed for a run without a given one. The report contains it.
fn seed_of_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
}
