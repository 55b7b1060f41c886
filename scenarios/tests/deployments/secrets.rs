//! No output of a run contains a password: plain, base64-encoded, in environment dumps, in command
//! lines or in logs. The test breaks a deployment on purpose, and runs a pod that prints the
//! password. Then it searches every file of the report and of the evidence for the password.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use ::manifests::{Mode, Variant};
use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::lifecycle::Body;
use harness::report::{Event, EventSink, Outcome, RunReport, TrialReport, journal, outputs};
use harness::secret::{Password, RunSecrets};
use harness::settings::{Placement, Profile};
use harness::trial::{Context, TrialId};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::PostParams;
use libtest_mimic::Failed;
use scenarios::registry::Trial;
use scenarios::runner::{self, Started};
use scenarios::scenario::Start;
use scenarios::session::{ClusterChoice, SessionOptions};
use scenarios::test_session::SharedSession;

use super::Tests;
use super::manifests::without_masterauth;

/// Deadline of acts on the broken deployment.
const DEADLINE: Duration = Duration::from_secs(20);

/// The passwords that the trial knew: the context's own password, and the password of a user.
static PASSWORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A password that a user may choose. Some encoding changes each of its characters.
const BROUGHT: &str = "Br0ught/along+\"with\" <odd>&s!gns%";

/// A password that a chart generates, and keeps in a configuration file.
const MADE: &str = "M4de-by-the-chart-itself";

/// Adds the search.
pub(super) fn tests(tests: &mut Tests) {
    tests.trial("no_password_is_in_any_file_of_a_run".to_owned(), |shared| {
        search_everything(shared).map_err(|error| Failed::from(format!("{error:#}")))
    });
}

/// Replicas cannot authenticate. A pod has the password in its environment, on its command line and
/// in its log.
async fn tells_everybody(context: &mut Context) -> Result<()> {
    let password = context.credentials.current();
    let plain = password.expose();
    let brought = Password::new(BROUGHT);
    context.put_secret("brought-along", &brought).await?;
    make_secret(context).await?;
    *PASSWORDS.lock().expect("nobody panics with it") =
        vec![plain.to_owned(), BROUGHT.to_owned(), MADE.to_owned()];
    let told: String = [plain, BROUGHT, MADE]
        .iter()
        .flat_map(|secret| every_way(secret))
        .collect();
    let mut bundle = context.render(&context.values())?;
    without_masterauth(&mut bundle);
    let image = bundle.objects_mut().find_map(|object| {
        object
            .data
            .pointer("/spec/template/spec/containers/0/image")
            .cloned()
    });
    let teller: Pod = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "teller"},
        "spec": {"restartPolicy": "Never", "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": {"type": "RuntimeDefault"},
        }, "containers": [{
            "name": "teller",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "image": image,
            "command": ["sh", "-c", "env; echo \"$TOLD\"; echo \"$0\"; echo \"$1\"; echo \"$2\"", plain, BROUGHT, MADE],
            "env": [
                {"name": "VALKEY_PASSWORD", "value": plain},
                {"name": "ENCODED", "value": STANDARD.encode(plain)},
                {"name": "TOLD", "value": told},
            ],
        }]},
    }))?;
    context.pods().create(&PostParams::default(), &teller).await?;
    context.install_bundle(context.values(), bundle).await?;
    context
        .healthy()
        .await
        .with_context(|| format!("with the passwords {plain}, {BROUGHT} and {MADE}"))?;
    Ok(())
}

/// Writes a Secret that the trial does not know.
async fn make_secret(context: &Context) -> Result<()> {
    let secret: Secret = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "made-by-the-chart"},
        "stringData": {"config": format!("appendonly yes\nrequirepass {MADE}\n")},
    }))?;
    let secrets: Api<Secret> = Api::namespaced(context.client(), context.namespace());
    secrets.create(&PostParams::default(), &secret).await?;
    Ok(())
}

/// Returns one line for each printed form of a secret: configuration, URL, base64, longer base64,
/// JSON, nested JSON.
fn every_way(secret: &str) -> Vec<String> {
    let json = serde_json::json!({"auth": {"password": secret}}).to_string();
    vec![
        format!("requirepass {secret}\n"),
        format!("redis://default:{}@vk:6379\n", forms(secret)[3].1),
        format!("{}\n", STANDARD.encode(format!("{secret}\n"))),
        format!(
            "{}\n",
            STANDARD.encode(format!("user default on >{secret} ~* +@all"))
        ),
        format!("{}\n", STANDARD.encode(format!("masterauth {secret}"))),
        format!("{}\n", serde_json::json!({"line": json})),
        format!("{json}\n"),
    ]
}

fn search_everything(shared: &SharedSession) -> Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("secrets");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let report = run_and_report(shared, &folder)?;
    let Outcome::Failed { cause, .. } = &report.trials[0].outcome else {
        anyhow::bail!(
            "the broken deployment did not fail: {:?}",
            report.trials[0].outcome
        );
    };
    ensure!(
        cause.is_some(),
        "the triage does not know this cause: {:?}",
        report.trials[0].outcome
    );
    let mut secrets = PASSWORDS.lock().expect("nobody panics with it").clone();
    ensure!(
        secrets.len() == 3,
        "the trial did not come to know all of its passwords"
    );
    secrets.sort();
    let forms: Vec<(String, String)> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let mut files = Vec::new();
    list(&folder, &mut files)?;
    let mut leaks = Vec::new();
    let mut redacted = 0;
    for file in &files {
        let content = std::fs::read(file)?;
        let text = String::from_utf8_lossy(&content);
        redacted += text.matches("[redacted ").count();
        let leaked = forms.iter().filter(|(_, secret)| text.contains(secret));
        leaks.extend(leaked.map(|(form, _)| format!("{} ({form})", file.display())));
    }
    ensure!(leaks.is_empty(), "a password is in {}", leaks.join(", "));
    let names: Vec<String> = files
        .iter()
        .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
        .collect();
    for expected in [
        "report.json",
        "report.html",
        "junit.xml",
        "summary.md",
        "journal.jsonl",
        "release-note.md",
        "teller.teller.log",
        "teller.log",
        "triage.json",
    ] {
        ensure!(
            names.iter().any(|name| name == expected),
            "{expected} was not written: {names:?}"
        );
    }
    ensure!(
        redacted > 0,
        "nothing was redacted: the password was nowhere to be found"
    );
    Ok(())
}

/// Returns the secret in every encoding, computed independently of the redaction.
fn forms(secret: &str) -> Vec<(String, String)> {
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    let twice = serde_json::Value::from(json.as_str()).to_string();
    let percent: String = secret
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    let mut forms = vec![
        ("as it is".to_owned(), secret.to_owned()),
        ("as JSON".to_owned(), json),
        (
            "as JSON within JSON".to_owned(),
            twice.trim_matches('"').to_owned(),
        ),
        ("percent-encoded".to_owned(), percent),
        (
            "as HTML".to_owned(),
            secret
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('"', "&quot;"),
        ),
        ("URL-safe base64".to_owned(), URL_SAFE_NO_PAD.encode(secret)),
    ];
    // The middle of the base64 text at each of the three possible offsets. This part does not
    // depend on the text before and after the secret.
    for before in ["", "x", "xy"] {
        let encoded = STANDARD.encode(format!("{before}{secret}"));
        let middle = encoded.get(4..20).unwrap_or(&encoded);
        forms.push((format!("base64 after {} bytes", before.len()), middle.to_owned()));
    }
    forms
}

fn run_and_report(shared: &SharedSession, folder: &Path) -> Result<RunReport> {
    let started = Started::now();
    let trial = trial();
    let options = SessionOptions {
        run: "secrets".to_owned(),
        cluster: ClusterChoice::Embedded,
        namespaces: Vec::new(),
        placement: Placement::default(),
        image_source: harness::images::ImageSource::Auto,
        profile: Profile::Fast,
        seed: 0,
        keep: false,
        chart: None,
        jobs: 1,
        evidence: folder.join("evidence"),
    };
    let begun = runner::begun(started, &options);
    let selected = [trial.id.to_string()];
    let journal = journal::Journal::begin(folder, &begun, &selected, Box::new(std::io::stderr()))?;
    let (events, reporters) = EventSink::start(vec![Box::new(journal)]);
    let mut known = RunSecrets::default();
    let report: TrialReport = shared
        .run(&trial, |environment| {
            known = environment.secrets.clone();
            environment.evidence = folder.join("evidence");
            environment.events = events.clone();
            environment.deadlines.hook = DEADLINE;
            environment.deadlines.healthy = DEADLINE;
        })
        .map_err(anyhow::Error::msg)?;
    let report = runner::ended(
        begun,
        started,
        harness::cluster::Provenance::default(),
        vec![report],
        false,
        None,
    );
    outputs::write_all(&report, folder)?;
    events.send(Event::RunFinished {
        report: Box::new(report.clone()),
        folder: folder.to_owned(),
        kept: None,
    });
    // Writes a log as `kind export logs` does for its nodes.
    let exported = folder.join("kind-logs/worker/pods");
    std::fs::create_dir_all(&exported)?;
    let said: String = PASSWORDS
        .lock()
        .expect("nobody panics with it")
        .iter()
        .flat_map(|secret| every_way(secret))
        .collect();
    std::fs::write(exported.join("teller.log"), said)?;
    ensure!(
        known.redact_files(&folder.join("kind-logs"))? == 1,
        "nothing was found in the exported log"
    );
    drop(events);
    reporters.join().expect("reporters do not panic");
    Ok(report)
}

fn trial() -> Trial {
    Trial {
        id: TrialId {
            suite: "secrets",
            scenario: "tells_everybody".into(),
            mode: Mode::Cluster,
            variant: Variant::Rpm,
        },
        start: Start::Whenever,
        body: Body::new(|context| Box::pin(tells_everybody(context))),
    }
}

fn list(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
