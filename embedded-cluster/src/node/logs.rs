//! Container logs: one file per container instance, in the CRI's line format
//! (`2026-01-02T03:04:05.123456789Z stdout F text`), read for `kubectl logs`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::runtime::LogOptions;

/// The maximum size of a log file: the kubelet's `containerLogMaxSize`. One older file is kept next
/// to the current one. The kubelet keeps four on a disk; here they would take memory.
const MAX_FILE: u64 = 10 * 1024 * 1024;

/// The maximum size of one entry, as in containerd; longer lines continue in the next entry (tag
/// `P`).
const MAX_ENTRY: usize = 16 * 1024;

/// The log of one container instance.
#[derive(Clone, Debug)]
pub(crate) struct ContainerLog {
    path: Arc<Path>,
    progress: watch::Receiver<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Number of entries written so far.
    entries: u64,
    /// Number of times that the file has been rotated.
    rotations: u64,
    closed: bool,
}

impl ContainerLog {
    /// Starts writing the output of these pipes to `path`.
    pub(crate) async fn record(path: PathBuf, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let file = File::create(&path).await?;
        let (sender, progress) = watch::channel(Progress::default());
        let path: Arc<Path> = path.into();
        let (lines, receiver) = mpsc::channel(64);
        for (name, fd) in [("stdout", stdout), ("stderr", stderr)] {
            let pipe = pipe::Receiver::from_owned_fd(fd)?;
            tokio::spawn(read_stream(name, pipe, lines.clone()));
        }
        let writer = Writer {
            path: Arc::clone(&path),
            file,
            size: 0,
            progress: sender,
        };
        tokio::spawn(writer.run(receiver));
        Ok(Self { path, progress })
    }

    /// Waits until everything has been written; the container must have ended.
    pub(crate) async fn finished(&mut self) {
        // An error means that the writer is gone, which also means that it has finished.
        let _ = self.progress.wait_for(|progress| progress.closed).await;
    }

    /// Returns the end of the log, for `terminationMessagePolicy: FallbackToLogsOnError`.
    pub(crate) async fn tail(&self, lines: usize, bytes: usize) -> String {
        let text = tokio::fs::read_to_string(&self.path).await.unwrap_or_default();
        let all: Vec<&str> = text
            .lines()
            .filter_map(|line| Entry::parse(line).map(|entry| entry.text))
            .collect();
        let tail = all[all.len().saturating_sub(lines)..].join("\n");
        let mut start = tail.len().saturating_sub(bytes);
        while !tail.is_char_boundary(start) {
            start += 1;
        }
        tail[start..].to_owned()
    }

    /// Streams the log.
    pub(crate) fn read(&self, options: LogOptions) -> BoxStream<'static, io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(16);
        let log = self.clone();
        tokio::spawn(async move {
            if let Err(error) = send_log(log, options, &sender).await {
                // A failed send means that nobody reads any more.
                let _ = sender.send(Err(error)).await;
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }

    /// Deletes the files.
    pub(crate) async fn remove(&self) {
        for path in [self.path.to_path_buf(), rotated(&self.path)] {
            // The second file exists only for containers with much output.
            let _ = tokio::fs::remove_file(path).await;
        }
    }
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

struct Writer {
    path: Arc<Path>,
    file: File,
    size: u64,
    progress: watch::Sender<Progress>,
}

impl Writer {
    async fn run(mut self, mut lines: mpsc::Receiver<Vec<u8>>) {
        let mut batch = Vec::new();
        while lines.recv_many(&mut batch, 64).await > 0 {
            let entries = batch.len() as u64;
            if let Err(error) = self.write(&batch.concat()).await {
                tracing::warn!(path = %self.path.display(), %error, "container output is lost");
            }
            batch.clear();
            self.progress.send_modify(|progress| progress.entries += entries);
        }
        self.progress.send_modify(|progress| progress.closed = true);
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size > MAX_FILE {
            tokio::fs::rename(&self.path, rotated(&self.path)).await?;
            self.file = File::create(&self.path).await?;
            self.size = 0;
            self.progress.send_modify(|progress| progress.rotations += 1);
        }
        self.file.write_all(bytes).await?;
        self.file.flush().await?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// Cuts a stream into entries. Ends when every process that holds the pipe has ended.
async fn read_stream(name: &'static str, pipe: pipe::Receiver, lines: mpsc::Sender<Vec<u8>>) {
    let mut reader = BufReader::with_capacity(MAX_ENTRY, pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_ENTRY as u64;
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let complete = line.last() == Some(&b'\n');
        if !complete {
            line.push(b'\n');
        }
        // The last line of a stream is complete even without a newline, but only the stream's end
        // shows it. Readers join partial entries, so a short unfinished line may be marked
        // complete.
        let tag = if complete || line.len() <= MAX_ENTRY {
            'F'
        } else {
            'P'
        };
        let mut entry = format!("{:.9} {name} {tag} ", jiff::Timestamp::now()).into_bytes();
        entry.extend_from_slice(&line);
        if lines.send(entry).await.is_err() {
            return;
        }
    }
}

/// A parsed line of a log file.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    time: &'a str,
    partial: bool,
    text: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let (time, _stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            time,
            partial: tag == "P",
            text,
        })
    }

    fn is_before(&self, since: jiff::Timestamp) -> bool {
        self.time
            .parse::<jiff::Timestamp>()
            .is_ok_and(|time| time < since)
    }
}

/// The filter for the entries of a log that are sent.
struct Selection {
    options: LogOptions,
    left: Option<u64>,
    continues: bool,
}

impl Selection {
    fn new(options: LogOptions) -> Self {
        Self {
            left: options.limit_bytes,
            options,
            continues: false,
        }
    }

    fn wants(&self, line: &str) -> bool {
        let Some(entry) = Entry::parse(line) else {
            return false;
        };
        self.options.since.is_none_or(|since| !entry.is_before(since))
    }

    /// Returns the bytes to send for a line of the file; `None` once the limit is reached.
    fn render(&mut self, line: &str) -> Option<Bytes> {
        let entry = Entry::parse(line)?;
        let mut text = String::with_capacity(line.len());
        if self.options.timestamps && !self.continues {
            text.push_str(entry.time);
            text.push(' ');
        }
        text.push_str(entry.text);
        if !entry.partial {
            text.push('\n');
        }
        self.continues = entry.partial;
        let mut bytes = text.into_bytes();
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        Some(bytes.into())
    }

    fn exhausted(&self) -> bool {
        self.left == Some(0)
    }
}

async fn send_log(
    mut log: ContainerLog,
    options: LogOptions,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let follow = options.follow;
    let tail = options.tail_lines;
    let mut selection = Selection::new(options);
    let mut seen = *log.progress.borrow_and_update();
    let mut lines = match Tail::open(&rotated(&log.path)).await {
        Ok(mut older) => older.lines().await?,
        Err(_) => Vec::new(),
    };
    let mut file = Tail::open(&log.path).await?;
    lines.extend(file.lines().await?);
    lines.retain(|line| selection.wants(line));
    if let Some(tail) = tail {
        let excess = lines
            .len()
            .saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
        lines.drain(..excess);
    }
    if !send_lines(&mut selection, lines, sender).await || !follow {
        return Ok(());
    }
    while !seen.closed {
        tokio::select! {
            changed = log.progress.changed() => if changed.is_err() { return Ok(()) },
            () = sender.closed() => return Ok(()),
        }
        let now = *log.progress.borrow_and_update();
        let mut fresh = file.lines().await?;
        if now.rotations != seen.rotations {
            file = Tail::open(&log.path).await?;
            fresh.extend(file.lines().await?);
        }
        seen = now;
        if !send_lines(&mut selection, fresh, sender).await {
            return Ok(());
        }
    }
    Ok(())
}

/// An open log file that is read as it grows. It stays open because a deleted pod's files may
/// vanish while their last lines are still being sent.
struct Tail {
    file: File,
    unfinished: Vec<u8>,
}

impl Tail {
    async fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path).await?,
            unfinished: Vec::new(),
        })
    }

    /// Returns the complete lines that were written since the last call.
    async fn lines(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.unfinished).await?;
        let end = self
            .unfinished
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        let rest = self.unfinished.split_off(end);
        let complete = std::mem::replace(&mut self.unfinished, rest);
        let lines = complete
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        Ok(lines
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect())
    }
}

/// Sends lines. Returns false when the client is gone or has enough.
async fn send_lines(
    selection: &mut Selection,
    lines: Vec<String>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> bool {
    for line in lines {
        if let Some(bytes) = selection.render(&line)
            && sender.send(Ok(bytes)).await.is_err()
        {
            return false;
        }
        if selection.exhausted() {
            return false;
        }
    }
    true
}

/// Collects a whole stream, for tests and diagnostics of this crate.
#[cfg(test)]
async fn collect(stream: BoxStream<'static, io::Result<Bytes>>) -> String {
    use tokio_stream::StreamExt;
    let chunks: Vec<_> = stream.collect::<Vec<_>>().await;
    chunks
        .into_iter()
        .map(|chunk| String::from_utf8_lossy(&chunk.unwrap()).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(text: &str) -> (tempfile::TempDir, ContainerLog) {
        let dir = tempfile::tempdir().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (errors, _) = std::io::pipe().unwrap();
        let mut log = ContainerLog::record(dir.path().join("0.log"), reader.into(), errors.into())
            .await
            .unwrap();
        let text = text.to_owned();
        std::thread::spawn(move || std::io::Write::write_all(&mut { writer }, text.as_bytes()).unwrap())
            .join()
            .unwrap();
        log.finished().await;
        (dir, log)
    }

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let (_dir, log) = written("one\ntwo\n\nno newline").await;
        assert_eq!(
            collect(log.read(LogOptions::default())).await,
            "one\ntwo\n\nno newline\n"
        );
        let tail = LogOptions {
            tail_lines: Some(1),
            ..LogOptions::default()
        };
        assert_eq!(collect(log.read(tail)).await, "no newline\n");
        let limit = LogOptions {
            limit_bytes: Some(5),
            ..LogOptions::default()
        };
        assert_eq!(collect(log.read(limit)).await, "one\nt");
        let late = LogOptions {
            since: Some(jiff::Timestamp::MAX),
            ..LogOptions::default()
        };
        assert_eq!(collect(log.read(late)).await, "");
    }

    #[tokio::test]
    async fn a_long_line_is_put_together_again() {
        let long = "x".repeat(3 * MAX_ENTRY + 10);
        let (_dir, log) = written(&format!("{long}\nnext\n")).await;
        assert_eq!(
            collect(log.read(LogOptions::default())).await,
            format!("{long}\nnext\n")
        );
    }

    #[tokio::test]
    async fn the_last_lines_of_a_deleted_log_still_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (errors, _) = std::io::pipe().unwrap();
        let log = ContainerLog::record(dir.path().join("0.log"), reader.into(), errors.into())
            .await
            .unwrap();
        let mut stream = log.read(LogOptions {
            follow: true,
            ..LogOptions::default()
        });
        std::io::Write::write_all(&mut writer, b"early\n").unwrap();
        let first = tokio_stream::StreamExt::next(&mut stream).await.unwrap().unwrap();
        assert_eq!(first, "early\n");
        drop(dir);
        std::io::Write::write_all(&mut writer, b"late\n").unwrap();
        drop(writer);
        assert_eq!(collect(stream).await, "late\n");
    }

    #[tokio::test]
    async fn following_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (errors, _) = std::io::pipe().unwrap();
        let log = ContainerLog::record(dir.path().join("0.log"), reader.into(), errors.into())
            .await
            .unwrap();
        let stream = log.read(LogOptions {
            follow: true,
            ..LogOptions::default()
        });
        let all = tokio::spawn(collect(stream));
        std::io::Write::write_all(&mut writer, b"early\nlate\n").unwrap();
        drop(writer);
        assert_eq!(all.await.unwrap(), "early\nlate\n");
    }
}
