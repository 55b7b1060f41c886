//! From `helm install` to a cluster of six that every node calls ok. The floor is the same servers, bare on loopback, and
//! `valkey-cli --cluster create`.

use std::time::{Duration, Instant};

use harness::images::ImageSource;
use harness::report::EventSink;
use harness::trial::{Profile, TrialId};
use harness::valkey::ClusterObservation;
use harness::wait::{self, Expectation, Verdict};
use manifests::{Mode, Variant};
use scenarios::Context;
use scenarios::registry::Trial;
use scenarios::scenario::{Scenario, everywhere, nothing};
use scenarios::session::{Session, SessionOptions, new_run_id};

use super::{Row, bare, median, milliseconds};

/// The name under which the body puts what it measured into the report.
const MEASUREMENT: &str = "formation_ms";

/// How often every node is asked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Measures one formation after another, and as many bare ones.
pub(super) async fn row(source: &ImageSource, repeat: usize) -> anyhow::Result<Row> {
    let run = new_run_id();
    let options = SessionOptions {
        evidence: std::env::temp_dir().join(&run),
        run,
        image_source: source.clone(),
        profile: Profile::Fast,
        seed: 0,
        keep: false,
    };
    let session = Session::start(options, EventSink::silent()).await?;
    let scenario = Scenario {
        name: "formation",
        fits: everywhere,
        lacks: nothing,
        body: |context| Box::pin(form(context)),
    };
    let id = TrialId {
        suite: "bench",
        scenario: scenario.name,
        mode: Mode::Cluster,
        variant: Variant::Rpm,
    };
    let trial = Trial { id, scenario };
    let (mut measured, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        let report = scenarios::runner::run_one(&trial, &session.environment).await;
        let formed = report.measurements.get(MEASUREMENT);
        let formed = formed.ok_or_else(|| anyhow::anyhow!("no cluster was formed: {:?}", report.outcome))?;
        measured.push(Duration::from_secs_f64(formed / 1000.0));
        floors.push(bare::formation().await?);
    }
    session.finish().await?;
    Ok(Row {
        what: "six nodes, install to ok everywhere",
        unit: "ms",
        measured: milliseconds(median(measured)),
        floor: milliseconds(median(floors)),
        floor_is: "the same servers bare on loopback",
        goal: "within 1.3 × of the floor".to_owned(),
    })
}

/// Installs while looking: the init Job goes on after every node says ok, and that is not part of this figure.
async fn form(context: &mut Context) -> anyhow::Result<()> {
    let began = Instant::now();
    let values = context.values();
    let observer = context.observer(&values);
    let budget = context.environment().deadlines.hook;
    let what = Expectation::new("the cluster", "to be called ok by every node", budget);
    let ok = wait::poll(what, INTERVAL, || async {
        match observer.observe().await {
            Ok(seen) if all_ok(&seen) => Verdict::Ready(began.elapsed()),
            Ok(_) => Verdict::NotYet("not every node says ok".to_owned()),
            Err(error) => Verdict::NotYet(error.to_string()),
        }
    });
    let (installed, formed) = tokio::join!(context.install(values), ok);
    installed?;
    context.measure(MEASUREMENT, milliseconds(formed?));
    Ok(())
}

fn all_ok(seen: &ClusterObservation) -> bool {
    let states = seen.answered().filter_map(|(_, view)| view.cluster_info.as_ref());
    seen.pods.len() == 6 && states.filter(|info| info.cluster_state == "ok").count() == 6
}
