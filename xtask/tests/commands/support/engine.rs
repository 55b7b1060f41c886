//! A container engine that is a script: as much of its API as starting one container takes.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What the engine is like.
#[derive(Clone)]
pub(crate) struct Script {
    /// What becomes of a pull.
    pub(crate) pull: Result<(), &'static str>,
    /// The version of the machine's cgroups.
    pub(crate) cgroup: &'static str,
    /// Whether files can be copied into the container. Where not, the copying never ends.
    pub(crate) copies: bool,
    /// Whether the container goes on running once it is started.
    pub(crate) running: bool,
    /// The runs that have left a container.
    pub(crate) left: &'static [&'static str],
    /// What is in the container for kubectl.
    pub(crate) kubeconfig: String,
    /// The port that is published for the API server.
    pub(crate) api_port: u16,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            pull: Ok(()),
            cgroup: "2",
            copies: true,
            running: true,
            left: &[],
            kubeconfig: String::new(),
            api_port: 1,
        }
    }
}

/// What k3s logs in the script's container.
const LOG: &str = "level=fatal msg=\"no memory cgroup\"\n";

/// The script on its socket.
pub(crate) struct Engine {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    asked: Vec<String>,
    pulled: bool,
    container: bool,
    /// The commands that were run in the container, by number.
    commands: Vec<String>,
}

struct Request {
    method: String,
    /// Path and query.
    target: String,
    body: Vec<u8>,
}

impl Engine {
    pub(crate) fn start(script: Script) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(folder.path().join("docker.sock")).expect("the folder is empty");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        // It ends with the process: a test's engine has nothing to put away.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, state) = (script.clone(), shared.clone());
                std::thread::spawn(move || serve(stream, &script, &state));
            }
        });
        Self { folder, state }
    }

    pub(crate) fn docker_host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// What it was asked: method and path, with what matters of the body.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state
            .lock()
            .expect("nobody panics while holding it")
            .asked
            .clone()
    }

    pub(crate) fn has_container(&self) -> bool {
        self.state
            .lock()
            .expect("nobody panics while holding it")
            .container
    }
}

fn serve(stream: UnixStream, script: &Script, state: &Mutex<State>) {
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    let mut reader = BufReader::new(stream);
    let Some(request) = read(&mut reader) else { return };
    let mut state = state.lock().expect("nobody panics while holding it");
    let body = String::from_utf8_lossy(&request.body);
    let told = if body.starts_with('{') { &body } else { "" };
    state
        .asked
        .push(format!("{} {} {told}", request.method, request.target));
    if request.method == "PUT" && !script.copies {
        drop(state);
        // Until whoever asked is gone.
        let _ = reader.fill_buf();
        return;
    }
    // Whoever asked may be gone.
    let _ = writer.write_all(&answer(&request, script, &mut state));
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        chunked = size > 0;
        body.extend(&chunk[..size]);
    }
    Some(Request { method, target, body })
}

fn answer(request: &Request, script: &Script, state: &mut State) -> Vec<u8> {
    let path = request.target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["info"]) => ok(&json!({"ServerVersion": "28.0.0", "CgroupVersion": script.cgroup})),
        ("GET", ["images", .., "json"]) if state.pulled => ok(&json!({"Id": "sha256:1"})),
        ("POST", ["images", "create"]) => match script.pull {
            Ok(()) => {
                state.pulled = true;
                ok(&json!({"status": "Download complete"}))
            }
            Err(why) => failure(500, why),
        },
        ("POST", ["containers", "create"]) if state.pulled => {
            state.container = true;
            json_answer(201, &json!({"Id": "c1", "Warnings": []}))
        }
        ("PUT", ["containers", _, "archive"]) => plain(200),
        ("POST", ["containers", _, "start"]) => plain(204),
        ("GET", ["containers", "json"]) => ok(&left(script)),
        ("GET", ["containers", _, "json"]) => ok(&inspect(script)),
        ("GET", ["containers", _, "logs"]) => logs(),
        ("POST", ["containers", _, "exec"]) if script.running => {
            let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let words = asked["Cmd"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            state.commands.push(words.collect::<Vec<_>>().join(" "));
            let command = state.commands.last().cloned().unwrap_or_default();
            state.asked.push(command);
            json_answer(201, &json!({"Id": (state.commands.len() - 1).to_string()}))
        }
        ("POST", ["containers", _, "exec"]) => failure(409, "container c1 is not running"),
        ("POST", ["exec", number, "start"]) => output(number, script, state),
        ("GET", ["exec", ..]) => ok(&json!({"ExitCode": 0, "Running": false})),
        ("DELETE", ["containers", ..]) => {
            state.container = false;
            plain(204)
        }
        _ => failure(404, "no such thing"),
    }
}

/// What a command prints, as the engine sends it: frames after a change of protocol.
fn output(number: &str, script: &Script, state: &State) -> Vec<u8> {
    let command = number
        .parse()
        .ok()
        .and_then(|number: usize| state.commands.get(number));
    let printed = if command.is_some_and(|command| command.starts_with("cat ")) {
        script.kubeconfig.as_bytes()
    } else {
        b"unpacking docker.io/perconalab/valkey"
    };
    let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    [head.as_bytes(), &frame(1, printed)].concat()
}

fn logs() -> Vec<u8> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: close\r\n\r\n";
    [head.as_bytes(), &frame(2, LOG.as_bytes())].concat()
}

fn frame(stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len())
        .expect("the script is short")
        .to_be_bytes();
    [&[stream, 0, 0, 0][..], &length, content].concat()
}

fn inspect(script: &Script) -> Value {
    json!({
        "Id": "c1",
        "State": {"Running": script.running, "ExitCode": 1},
        "NetworkSettings": {"Ports": {"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": script.api_port.to_string()}]}},
    })
}

fn left(script: &Script) -> Value {
    let container = |run: &&str| json!({"Id": run, "Labels": {"valkey-e2e/run": run}});
    script.left.iter().map(container).collect()
}

fn ok(body: &Value) -> Vec<u8> {
    json_answer(200, body)
}

fn failure(status: u16, message: &str) -> Vec<u8> {
    json_answer(status, &json!({"message": message}))
}

fn json_answer(status: u16, body: &Value) -> Vec<u8> {
    // A pull is told in lines.
    let body = format!("{body}\n");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

fn plain(status: u16) -> Vec<u8> {
    let length = if status == 204 {
        ""
    } else {
        "Content-Length: 0\r\n"
    };
    format!("HTTP/1.1 {status} x\r\n{length}Connection: close\r\n\r\n").into_bytes()
}
