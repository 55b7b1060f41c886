//! No password of a run gets into anything that is written of it: not as it is, not base64-encoded, not in environment dumps,
//! command lines or logs. A deployment is broken on purpose, and beside it a pod tells the password to everybody who looks; every
//! file of the report and of the evidence is then searched for it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::report::{Event, EventSink, Outcome, RunReport, TrialReport, journal, outputs};
use harness::secret::{Password, RunSecrets};
use harness::trial::{Context, Placement, Profile, TrialId};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use libtest_mimic::{Arguments, Failed};
use manifests::{Mode, Variant};
use scenarios::registry::Trial;
use scenarios::runner::{self, Started};
use scenarios::scenario::{Scenario, Start, everywhere, nothing};
use scenarios::session::{ClusterChoice, SessionOptions};
use scenarios::shared::SharedSession;

#[expect(dead_code, reason = "the mutations' own test uses the others")]
#[path = "mutations/broken.rs"]
mod broken;
#[path = "mutations/parts.rs"]
mod parts;

/// How long the broken deployment is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The passwords that the trial knew: the one that its context made for itself, and the one that a user brought along.
static PASSWORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What a user may choose: each of its signs is written in another way somewhere.
const BROUGHT: &str = "Br0ught/along+\"with\" <odd>&s!gns%";

fn main() -> ExitCode {
    embedded_cluster::supervisor::reexec();
    let arguments = Arguments::from_args();
    let shared = Arc::new(SharedSession::new(env!("CARGO_TARGET_TMPDIR")));
    let for_test = shared.clone();
    let test = libtest_mimic::Trial::test("no_password_is_in_any_file_of_a_run", move || {
        search_everything(&for_test).map_err(|error| Failed::from(format!("{error:#}")))
    });
    let conclusion = libtest_mimic::run(&arguments, vec![test]);
    if let Some(shared) = Arc::into_inner(shared) {
        shared.finish();
    }
    conclusion.exit_code()
}

/// Replicas that cannot authenticate, and a pod that tells the password in its environment, on its command line and in its
/// log.
async fn tells_everybody(context: &mut Context) -> Result<()> {
    let password = context.password();
    let plain = password.expose();
    let brought = Password::new(BROUGHT);
    context.put_secret("brought-along", &brought).await?;
    *PASSWORDS.lock().expect("nobody panics with it") = vec![plain.to_owned(), BROUGHT.to_owned()];
    let told: String = [plain, BROUGHT]
        .iter()
        .flat_map(|secret| every_way(secret))
        .collect();
    let mut bundle = context.render(&context.values())?;
    broken::without_masterauth(&mut bundle);
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
            "command": ["sh", "-c", "env; echo \"$TOLD\"; echo \"$0\"; echo \"$1\"", plain, BROUGHT],
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
        .with_context(|| format!("with the passwords {plain} and {BROUGHT}"))?;
    Ok(())
}

/// A line for every way in which a secret is told: by a server, in a URL, by `base64`, in a Secret of something longer, by a
/// program that logs JSON, and by one that logs what that one logged.
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
        secrets.len() == 2,
        "the trial did not come to know both of its passwords"
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
        redacted += text.matches(harness::secret::REDACTED).count();
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

/// The secret as it is and as it may be met, made here by other means than the redaction's own.
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
    // Its middle, in each of the three places that it may have within something longer: what is there of it whatever
    // stands before and behind.
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
            environment.deadlines.hook = PATIENCE;
            environment.deadlines.healthy = PATIENCE;
        })
        .map_err(anyhow::Error::msg)?;
    let report = runner::ended(
        begun,
        started,
        harness::cluster::Provenance::default(),
        vec![report],
        false,
    );
    outputs::write_all(&report, folder)?;
    events.send(Event::RunFinished {
        report: Box::new(report.clone()),
        folder: folder.to_owned(),
        kept: None,
    });
    // As `kind export logs` would write what it finds on its nodes.
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
            scenario: "tells_everybody",
            mode: Mode::Cluster,
            variant: Variant::Rpm,
        },
        scenario: Scenario {
            name: "tells_everybody",
            fits: everywhere,
            lacks: nothing,
            start: Start::Whenever,
            body: |context| Box::pin(tells_everybody(context)),
        },
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
