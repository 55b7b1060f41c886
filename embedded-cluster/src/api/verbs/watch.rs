//! `watch`: a stream of changes from a revision on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use super::read;
use crate::api::content::{Accept, Form, metadata_only};
use crate::api::request::Context;
use crate::api::selector::Selector;
use crate::api::status::ApiError;
use crate::api::store::{Change, Store, TooOld, frame};
use crate::api::{events, object, table};

/// How long a watch lasts unless the client says; the real server picks 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How often an idle watcher that allows bookmarks gets one; the real server's period is about a minute.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(15);

/// `GET …?watch=1`.
pub(crate) fn watch(store: &Arc<Store>, ctx: Context) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    // Boxed, since the stream moves its state in and out again for every event.
    let watcher = Box::new(Watcher::start(store, ctx, accept.form)?);
    let stream = futures::stream::unfold(watcher, |mut watcher| async {
        watcher
            .next()
            .await
            .map(|bytes| (Ok::<_, Infallible>(bytes), watcher))
    });
    let mut response = Response::new(Body::from_stream(stream));
    *response.status_mut() = StatusCode::OK;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

struct Watcher {
    store: Arc<Store>,
    ctx: Context,
    form: Form,
    selector: Selector,
    /// Everything up to this revision has been sent.
    cursor: u64,
    bookmarked: u64,
    queue: VecDeque<Bytes>,
    changed: watch::Receiver<u64>,
    bookmarks: Option<Interval>,
    /// One timer for the whole watch: making one for every pause costs more than the pause does.
    deadline: Pin<Box<Sleep>>,
    ended: bool,
    /// A table's columns are only sent once.
    columns_sent: bool,
}

impl Watcher {
    fn start(store: &Arc<Store>, ctx: Context, form: Form) -> Result<Self, ApiError> {
        let selector = read::selector(&ctx)?;
        let timeout = ctx
            .options
            .number("timeoutSeconds")?
            .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let initial = initial_events(&ctx)?;
        let bookmarks = ctx.options.flag("allowWatchBookmarks").then(bookmark_interval);
        let mut watcher = Self {
            changed: store.subscribe(ctx.kind),
            store: Arc::clone(store),
            form,
            selector,
            cursor: 0,
            bookmarked: 0,
            queue: VecDeque::new(),
            bookmarks,
            // The end of a watch is an agreed time, not a wait for a condition.
            deadline: Box::pin(tokio::time::sleep_until(Instant::now() + timeout)),
            ended: false,
            columns_sent: false,
            ctx,
        };
        match initial {
            Initial::None(revision) => watcher.start_at(revision),
            Initial::All { and_bookmark } => watcher.start_with_all(and_bookmark),
        }
        Ok(watcher)
    }

    fn start_at(&mut self, revision: u64) {
        self.cursor = revision;
        let current = self.store.revision();
        if revision > current {
            self.fail(&read::too_large(revision, current));
        }
    }

    fn start_with_all(&mut self, and_bookmark: bool) {
        let (revision, objects) = self.store.list(self.ctx.kind, &self.ctx.namespace);
        self.cursor = revision;
        for stored in objects {
            if self.selector.matches(&stored.value) {
                let shown = self.shown(&stored.value);
                self.queue.push_back(frame("ADDED", &shown));
            }
        }
        if and_bookmark {
            self.bookmark(json!({"k8s.io/initial-events-end": "true"}));
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.queue.pop_front() {
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            self.changed.borrow_and_update();
            self.collect();
            if self.queue.is_empty() && !self.ended {
                self.pause().await;
            }
        }
    }

    /// Queues what has happened since the cursor.
    fn collect(&mut self) {
        match self.store.changes_since(self.ctx.kind, self.cursor) {
            Ok((revision, changes)) => {
                for change in &changes {
                    self.push(change);
                }
                self.cursor = self.cursor.max(revision);
            }
            Err(TooOld { oldest }) => {
                let message = format!("too old resource version: {} ({oldest})", self.cursor);
                self.fail(&ApiError::expired(message));
            }
        }
    }

    fn push(&mut self, change: &Change) {
        let Some(change_type) = change.seen_by(&self.ctx.namespace, &self.selector) else {
            return;
        };
        let bytes = if self.form == Form::Object && !self.ctx.kind.is_events_v1() {
            change.frame(change_type)
        } else {
            let shown = self.shown(change.object(change_type));
            frame(change_type.as_str(), &shown)
        };
        self.queue.push_back(bytes);
    }

    fn shown(&mut self, value: &Value) -> Value {
        match self.form {
            Form::Object => events::to_served(self.ctx.kind, value.clone()),
            Form::Metadata => metadata_only(value),
            Form::Table => {
                let revision = object::text(value, &["metadata", "resourceVersion"]);
                let mut table = table::of_objects(&self.ctx, &[value], revision);
                if self.columns_sent {
                    table["columnDefinitions"] = Value::Null;
                }
                self.columns_sent = true;
                table
            }
        }
    }

    /// Waits for a change, the next bookmark or the end, whichever is first.
    async fn pause(&mut self) {
        let ticked = tokio::select! {
            changed = self.changed.changed() => {
                self.ended = changed.is_err();
                false
            }
            () = tick(self.bookmarks.as_mut()) => true,
            () = self.deadline.as_mut() => {
                self.ended = true;
                self.bookmarks.is_some()
            }
        };
        if ticked && self.bookmarked < self.cursor {
            self.bookmark(Value::Null);
        }
    }

    fn bookmark(&mut self, annotations: Value) {
        self.bookmarked = self.cursor;
        let mut bookmark = json!({
            "kind": self.ctx.kind.kind,
            "apiVersion": self.ctx.kind.api_version(),
            "metadata": {"resourceVersion": self.cursor.to_string(), "creationTimestamp": null},
        });
        if annotations.is_object() {
            bookmark["metadata"]["annotations"] = annotations;
        }
        let shown = match self.form {
            Form::Object => bookmark,
            Form::Metadata => metadata_only(&bookmark),
            Form::Table => table::bookmark(&self.ctx, &bookmark),
        };
        self.queue.push_back(frame("BOOKMARK", &shown));
    }

    fn fail(&mut self, error: &ApiError) {
        self.queue.push_back(frame("ERROR", &error.to_status()));
        self.ended = true;
    }
}

enum Initial {
    /// Only changes after this revision.
    None(u64),
    /// Every object as ADDED first.
    All { and_bookmark: bool },
}

fn initial_events(ctx: &Context) -> Result<Initial, ApiError> {
    let revision = read::requested_revision(&ctx.options)?;
    if ctx.options.get("sendInitialEvents") == "true" {
        if ctx.options.get("resourceVersionMatch") != "NotOlderThan" {
            return Err(ApiError::bad_request(
                "sendInitialEvents: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        return Ok(Initial::All {
            and_bookmark: ctx.options.flag("allowWatchBookmarks"),
        });
    }
    Ok(match revision {
        None | Some(0) => Initial::All { and_bookmark: false },
        Some(revision) => Initial::None(revision),
    })
}

fn bookmark_interval() -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + BOOKMARK_PERIOD, BOOKMARK_PERIOD);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
