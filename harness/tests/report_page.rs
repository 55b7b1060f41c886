//! The HTML report in a real browser. It logs nothing to the console, and its filters and folds
//! work. It loads nothing from elsewhere, and is small enough to be mailed.
//!
//! Ignored, with the reason, if Chromium is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::report::{RunReport, file, html};
use needs::needs;
use serde_json::Value;

/// Number of trials that the suite has, or soon will have.
const TRIALS: usize = 80;

/// Maximum size of a page of the whole matrix.
const LIMIT: usize = 2 * 1024 * 1024;

/// Queries to the loaded page. Each answer is the state that a person would see.
const PROBE: &str = r##"<script>addEventListener("load", () => {
  const visible = () => [...document.querySelectorAll(".trial")].filter((trial) => !trial.hidden).length;
  const click = (selector) => document.querySelector(selector).click();
  const type = (text) => { const find = document.getElementById("find"); find.value = text; find.dispatchEvent(new Event("input")); };
  const answers = { all: visible(), unfolded: document.querySelectorAll(".trial[open]").length };
  click('.chip[data-outcome="pass"]'); answers.withoutPassed = visible();
  answers.said = document.getElementById("shown").textContent;
  click('.chip[data-outcome="pass"]'); answers.again = visible();
  type("no such words anywhere"); answers.none = visible();
  type("masterauth"); answers.found = visible(); type("");
  click("#fold"); answers.folded = document.querySelectorAll(".trial[open]").length;
  click("#unfold"); answers.allUnfolded = document.querySelectorAll(".trial[open]").length;
  answers.unlabelled = [...document.querySelectorAll("svg[role=img]")].filter((svg) => !svg.getAttribute("aria-label")).length;
  answers.brokenLinks = [...document.querySelectorAll('a[href^="#"]')].filter((a) => !document.getElementById(a.hash.slice(1))).length;
  answers.fetched = performance.getEntriesByType("resource").length;
  answers.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const pre = document.createElement("pre"); pre.id = "answers"; pre.textContent = JSON.stringify(answers); document.body.append(pre);
});</script></body>"##;

/// Finds text with too little contrast by WCAG 2.2 (1.4.3: 4.5 to 1, large text 3 to 1). Finds
/// elements that a keyboard cannot reach or a screen reader cannot name. All trials are unfolded
/// first.
const ACCESS_PROBE: &str = r##"<script>addEventListener("load", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const behind = (element) => { for (let at = element; at; at = at.parentElement) { const color = rgba(getComputedStyle(at).backgroundColor); if (color[3] > 250) return color; } return rgba("Canvas"); };
  const channel = (value) => { const part = value / 255; return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const faint = new Set(); let texts = 0;
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    const style = getComputedStyle(element);
    if (!own || !element.checkVisibility() || element.closest("svg, script, style, .skip") || style.color === "rgba(0, 0, 0, 0)") continue;
    texts += 1;
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const found = ratio(rgba(style.color), behind(element));
    if (found < (large ? 3 : 4.5)) faint.add(`${element.localName}.${element.className} ${style.color}: ${found.toFixed(2)}`);
  }
  const native = "a[href], button, input, summary";
  const reached = [...document.querySelectorAll(native + ", [tabindex]")];
  const name = (element) => (element.getAttribute("aria-label") || element.textContent || element.closest("label")?.textContent || "").trim();
  const answers = {
    texts, faint: [...faint].sort(),
    first: reached[0]?.className,
    unnamed: reached.filter((element) => !name(element)).map((element) => element.outerHTML.slice(0, 80)),
    outOfOrder: reached.filter((element) => element.tabIndex > 0).length,
    unreachable: [...document.querySelectorAll("[onclick], [role=button]")].filter((element) => !element.matches(native)).length,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
  };
  const pre = document.createElement("pre"); pre.id = "answers"; pre.textContent = JSON.stringify(answers); document.body.append(pre);
});</script></body>"##;

/// The browser's switch for the preferred colour scheme of the reader's system.
const DARK: &str = "--blink-settings=preferredColorScheme=0";
const LIGHT: &str = "--blink-settings=preferredColorScheme=1";

fn report() -> RunReport {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/broken-run.json");
    file::read(&path).expect("a report")
}

fn page(report: &RunReport) -> String {
    let mut out = Vec::new();
    html::write(report, &mut out).expect("memory can be written to");
    String::from_utf8(out).expect("text")
}

/// Returns the path of the browser. A test that calls this has `#[needs(chromium)]`.
fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| [folder.join("chromium"), folder.join("google-chrome")])
        .find(|program| program.is_file())
        .expect("this test needs chromium or google-chrome on PATH")
}

/// Returns the answers of a probe in `document`.
fn answers(document: &str) -> Value {
    let answers = document.split("<pre id=\"answers\">").nth(1);
    let answers = answers.and_then(|rest| rest.split('<').next());
    let answers = answers
        .expect("the probe answered")
        .replace("&gt;", ">")
        .replace("&lt;", "<");
    serde_json::from_str(&answers).expect("JSON")
}

/// Loads `page`, and returns the resulting document and the console's messages.
fn load(chromium: &Path, page: &str, width: u32, scheme: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("report.html");
    std::fs::write(&file, page).expect("written");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--dump-dom",
            scheme,
        ])
        .arg(format!("--window-size={width},900"))
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("Chromium starts");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{said}");
    let console = said
        .lines()
        .filter(|line| line.contains(":CONSOLE"))
        .map(str::to_owned);
    (String::from_utf8_lossy(&stdout).into_owned(), console.collect())
}

#[needs(chromium)]
#[test]
fn filters_and_folds_work_and_nothing_is_said_on_the_console() {
    let chromium = chromium();
    let report = report();
    let page = page(&report).replace("</body>", PROBE);
    let (document, console) = load(&chromium, &page, 1280, LIGHT);
    assert_eq!(console, Vec::<String>::new());
    let answers = answers(&document);
    let total = report.trials.len();
    let passed = report
        .trials
        .iter()
        .filter(|trial| trial.outcome.word() == "pass")
        .count();
    let failed = report
        .trials
        .iter()
        .filter(|trial| trial.outcome.is_failure())
        .count();
    assert!(passed > 0 && failed > 0, "the report has both");
    let expected = serde_json::json!({
        "all": total, "unfolded": failed, "withoutPassed": total - passed,
        "said": format!("{} of {total} trials shown", total - passed),
        "again": total, "none": 0, "found": answers["found"], "folded": 0, "allUnfolded": total,
        "unlabelled": 0, "brokenLinks": 0, "fetched": 0, "overflow": 0,
    });
    assert_eq!(answers, expected);
    let found = answers["found"].as_u64().expect("a number");
    assert!(
        found > 0 && found < total as u64,
        "{found} of {total} trials mention it"
    );
}

#[needs(chromium)]
#[test]
fn every_text_is_legible_and_every_control_has_keyboard_access() {
    let chromium = chromium();
    let report = report();
    for (scheme, dark) in [(LIGHT, false), (DARK, true)] {
        for width in [1280, 390] {
            let page = page(&report).replace("</body>", ACCESS_PROBE);
            let answers = answers(&load(&chromium, &page, width, scheme).0);
            let texts = answers["texts"].as_u64().expect("a number");
            assert!(texts > 500, "only {texts} texts were looked at");
            let expected = serde_json::json!({
                "texts": texts, "faint": [], "first": "skip", "unnamed": [], "outOfOrder": 0, "unreachable": 0, "dark": dark,
            });
            assert_eq!(answers, expected, "{width} px");
        }
    }
}

#[needs(chromium)]
#[test]
fn a_text_that_is_too_faint_would_be_noticed() {
    let chromium = chromium();
    let page = "<!DOCTYPE html><body style='background:#fff'><p style='color:#999'>faint</p><p>black</p><a href='#x'></a></body>";
    let (document, _) = load(&chromium, &page.replace("</body>", ACCESS_PROBE), 400, LIGHT);
    let answers = answers(&document);
    assert_eq!(
        answers["faint"],
        serde_json::json!(["p. rgb(153, 153, 153): 2.85"])
    );
    assert_eq!(answers["unnamed"].as_array().map(Vec::len), Some(1));
}

#[needs(chromium)]
#[test]
fn a_console_that_says_something_would_be_noticed() {
    let chromium = chromium();
    let page = "<!DOCTYPE html><script>console.error('trouble'); missing();</script>";
    let (_, console) = load(&chromium, page, 400, LIGHT);
    assert_eq!(console.len(), 2, "{console:?}");
}

#[test]
fn a_page_of_the_whole_matrix_stays_below_two_mebibytes() {
    let mut report = report();
    let some = std::mem::take(&mut report.trials);
    let failed = some.iter().filter(|trial| trial.outcome.is_failure());
    // The worst case: every trial has failed, with full details.
    report.trials = failed.cycle().take(TRIALS).cloned().collect();
    for (number, trial) in report.trials.iter_mut().enumerate() {
        trial.name = format!("{}-{number}", trial.name);
    }
    let text = page(&report);
    assert!(text.len() < LIMIT, "{} bytes for {TRIALS} trials", text.len());
    assert!(
        text.contains("no room for more logs"),
        "and says what it leaves out"
    );
    assert_eq!(
        text.matches("class=\"timeline\"").count(),
        TRIALS,
        "pictures are the last to go"
    );
}
