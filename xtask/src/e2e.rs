//! `cargo xtask e2e`: select, run, report.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use harness::cluster::{ClusterError, Provenance};
use harness::images::Origin;
use harness::report::baseline::Baseline;
use harness::report::deployment::ChartSource;
use harness::report::file::ReportFileError;
use harness::report::journal::Journal;
use harness::report::plain::Plain;
use harness::report::progress::Progress;
use harness::report::style::{Stream, Style};
use harness::report::{Event, EventSink, Reporter, RunReport, RunVerdict, file, history, markdown, outputs};
use scenarios::conformance;
use scenarios::registry::{self, Trial};
use scenarios::runner::{self, Started};
use scenarios::selection::{Selection, select};
use scenarios::session::{Session, SessionOptions, new_run_id};
use scenarios::shard::Costs;
use tokio_util::sync::CancellationToken;

use crate::chart;
use crate::cli::{E2eArgs, MOST_JOBS};
use crate::exit::{self, UsageError};

/// The folder of reports, beneath the current one.
const REPORTS_FOLDER: &str = "reports";

/// How many trials run at a time, per processor: they wait for servers half of the time, and more of them only make each
/// other's servers late. On two processors a run took 122 s with six in all, 115 s with seven, and 110 s with eight and
/// with ten.
const JOBS_PER_PROCESSOR: usize = 4;

/// What was typed, resolved to what it means here.
struct Plan {
    trials: Vec<Trial>,
    folder: PathBuf,
    baseline: Option<RunReport>,
    session: SessionOptions,
}

/// Runs the command.
pub(crate) fn run(args: E2eArgs) -> anyhow::Result<ExitCode> {
    let list = args.list;
    let chart = chart::open(&args.chart)?;
    let arguments = args.words_to_repeat();
    let runtime = tokio::runtime::Runtime::new().context("no async runtime could be made")?;
    let mut plan = runtime.block_on(Plan::resolve(args, chart.is_some()))?;
    if list {
        for trial in &plan.trials {
            // A reader that has seen enough and went away is no failure.
            let _ = writeln!(std::io::stdout(), "{}", trial.id);
        }
        return Ok(ExitCode::from(exit::QUALIFIED));
    }
    if let Some(chart) = &chart {
        chart::check_overrides(chart, plan.session.profile)?;
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
    // What is said to have ended is on disk by then.
    let (events, reporters) = EventSink::start(vec![Box::new(journal), reporter()]);
    let code = runtime.block_on(execute(plan, started, begun, events));
    // Stragglers of an interrupted run hold clones of the sink; they are dropped with the runtime.
    drop(runtime);
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
            trials.extend(conformance::trials());
        }
        let mut trials = select(trials, &selection)?;
        if let Some(shard) = args.shard {
            // The same estimates everywhere: the parts must fit each other.
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
        let most = (processors * JOBS_PER_PROCESSOR).min(usize::from(MOST_JOBS));
        let jobs = args.jobs.map_or(most, usize::from);
        Ok(Self {
            baseline: args.baseline.as_deref().map(file::read).transpose()?,
            session: SessionOptions {
                cluster,
                namespaces: trials.iter().map(namespace).collect(),
                placement,
                run,
                image_source: args.image_source,
                profile: args.profile.into(),
                seed: args.seed.unwrap_or_else(seed_of_now),
                jobs,
                keep: args.keep,
                chart: None,
                evidence: folder.join("evidence"),
            },
            trials,
            folder,
        })
    }
}

async fn execute(plan: Plan, started: Started, begun: RunReport, events: EventSink) -> anyhow::Result<u8> {
    events.send(Event::RunStarted {
        run: plan.session.run.clone(),
        trials: plan.trials.len(),
        jobs: plan.session.jobs.min(plan.trials.len()),
        profile: plan.session.profile.name().to_owned(),
    });
    let stop = stop_on_signal(&events)?;
    if let Some(chart) = &plan.session.chart {
        events.send(Event::Note {
            text: chart::describe(chart),
        });
        if let Some(text) = chart::describe_extensions(chart).await {
            events.send(Event::Note { text });
        }
    }
    let starting = Session::start(plan.session, events.clone());
    let session = tokio::select! {
        session = starting => session?,
        () = stop.cancelled() => return Ok(exit::INTERRUPTED),
    };
    let trials = runner::run_trials(&plan.trials, &session.environment, &stop).await;
    let interrupted = stop.is_cancelled();
    let provenance = session.provenance();
    tell_images(&provenance, &events);
    let mut report = runner::ended(begun, started, provenance, trials, interrupted);
    report.baseline = match plan.baseline {
        Some(before) => Some(Baseline::new(&before, &report, true)),
        None => run_before(&plan.folder, &report).map(|before| Baseline::new(&before, &report, false)),
    };
    let written = outputs::write_all(&report, &plan.folder).and_then(|()| step_summary(&report));
    let logs = match report.verdict {
        RunVerdict::Qualified => Ok(()),
        RunVerdict::NotQualified | RunVerdict::Inconclusive => save_logs(&session, &plan.folder).await,
    };
    let kept = end(session).await?;
    let code = exit::code_of_run(&report);
    // Also a verdict that could not be written down is told.
    finished(&events, report, plan.folder, kept);
    written?;
    logs.context("the cluster's logs cannot be put beside the report")?;
    Ok(code)
}

/// Puts the logs of the cluster beside the report. The provider exports what the containers wrote and knows of no password:
/// nothing gets to its place before it was searched.
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

/// The newest run of the same kind in the folder that this run's folder is in, if there is one.
fn run_before(folder: &Path, report: &RunReport) -> Option<RunReport> {
    history::newest(folder.parent()?, |before| {
        before.run != report.run
            && !before.interrupted
            && before.profile == report.profile
            && before.provenance.provider == report.provenance.provider
    })
}

/// Adds the summary to that of the GitHub Actions step that this runs in, if it does.
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

/// Says which images ran on a cluster that got them by itself: it is known only now.
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

/// A token that is cancelled by the first Ctrl-C or SIGTERM. A second one ends the process at once: the cluster goes with it.
fn stop_on_signal(events: &EventSink) -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let (token, events) = (stop.clone(), events.clone());
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !first {
                std::process::exit(i32::from(exit::INTERRUPTED));
            }
            events.send(Event::Interrupted);
            token.cancel();
        }
    });
    Ok(stop)
}

fn reporter() -> Box<dyn Reporter> {
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
    if terminal {
        return Box::new(Progress::new(Style::of(Stream::Stderr)));
    }
    Box::new(Plain::new(std::io::stdout(), Style::of(Stream::Stdout)))
}

/// A seed for a run that was not given one; the report says which it was.
fn seed_of_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
}
