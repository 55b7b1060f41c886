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
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use super::read;
use crate::api::content::{Accept, Form, metadata_only};
use crate::api::request::RequestContext;
use crate::api::selector::Selector;
use crate::api::server::ApiServer;
use crate::api::status::ApiError;
use crate::api::store::{Change, Store, Stored, TooOld, frame, framed};
use crate::api::{events, object, table};
use crate::seconds::bounded;

/// Duration of a watch when the client sets none; the real server picks 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The most watches at once. Each watch costs little, but not nothing.
pub(crate) const MAX_WATCHES: usize = 10_000;

/// Interval of bookmarks for an idle watcher that allows them; the real server's is about a minute.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(15);

/// Handles `GET …?watch=1`.
pub(crate) fn watch(server: &ApiServer, ctx: RequestContext) -> Result<Response, ApiError> {
    let accept = Accept::parse(&ctx.headers)?;
    let place = place(server, &ctx)?;
    // Boxed, because the stream moves its state in and out again for every event.
    let watcher = Box::new(Watcher::start(&server.store, ctx, accept.form, place)?);
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

/// Acquires one of the limited watch permits. The cluster's own components need none.
fn place(server: &ApiServer, ctx: &RequestContext) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
    if ctx.internal {
        return Ok(None);
    }
    let place = Arc::clone(&server.watches).try_acquire_owned();
    place
        .map(Some)
        .map_err(|_| ApiError::too_many_requests("watches"))
}

struct Watcher {
    /// Held until the watch ends.
    _place: Option<OwnedSemaphorePermit>,
    /// Objects still to be sent as ADDED, before any change. They are serialised one at a time: a
    /// slow client must not cost a copy of the collection.
    initial: VecDeque<Arc<Stored>>,
    /// True when a bookmark follows the initial objects.
    mark_initial_end: bool,
    store: Arc<Store>,
    ctx: RequestContext,
    form: Form,
    selector: Selector,
    /// Everything up to this revision has been sent.
    cursor: u64,
    bookmarked: u64,
    queue: VecDeque<Bytes>,
    changed: watch::Receiver<u64>,
    bookmarks: Option<Interval>,
    /// One timer for the whole watch: a new timer for every pause costs more than the pause.
    deadline: Pin<Box<Sleep>>,
    ended: bool,
    /// True once a table's columns have been sent. They are sent only once.
    columns_sent: bool,
}

impl Watcher {
    fn start(
        store: &Arc<Store>,
        ctx: RequestContext,
        form: Form,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, ApiError> {
        let selector = read::selector(&ctx)?;
        let timeout = ctx
            .options
            .number::<i64>("timeoutSeconds")?
            .filter(|seconds| *seconds > 0)
            .map_or(DEFAULT_TIMEOUT, bounded);
        let initial = initial_events(&ctx)?;
        let bookmarks = ctx.options.flag("allowWatchBookmarks").then(bookmark_interval);
        let mut watcher = Self {
            _place: place,
            initial: VecDeque::new(),
            mark_initial_end: false,
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
        let selected = objects
            .into_iter()
            .filter(|stored| self.selector.matches(&stored.value));
        self.initial = selected.collect();
        self.mark_initial_end = and_bookmark;
    }

    fn next_initial(&mut self) -> Option<Bytes> {
        if let Some(stored) = self.initial.pop_front() {
            if self.form == Form::Object && !self.ctx.kind.is_events_v1() {
                return Some(framed("ADDED", stored.json()));
            }
            let shown = self.shown(&stored.value);
            return Some(frame("ADDED", &shown));
        }
        if std::mem::take(&mut self.mark_initial_end) {
            self.bookmark(json!({"k8s.io/initial-events-end": "true"}));
        }
        None
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.next_initial() {
            return Some(bytes);
        }
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

    /// Queues the changes since the cursor.
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

    /// Waits for a change, the next bookmark or the end of the watch, whichever comes first.
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

fn initial_events(ctx: &RequestContext) -> Result<Initial, ApiError> {
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
