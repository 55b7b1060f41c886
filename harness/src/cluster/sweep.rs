//! What a run that was killed left behind, found by its label and its age, and removed. A run that is still going is
//! younger than the age that is asked for; its namespaces are told of, and left.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::trial::environment::RUN_LABEL;
use crate::trial::namespace::delete_exactly;

/// What became of one left-over.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was told to go.
    Removed,
    /// It would have been removed.
    Found,
    /// Its run may still be going.
    TooYoung,
    /// It could not be removed.
    Stuck(String),
}

/// One thing that a run made.
#[derive(Debug)]
pub struct LeftOver {
    /// What it is, in words, such as `namespace vk-forms-cluster-rpm-1a2b3c4d`.
    pub what: String,
    /// The run that made it.
    pub run: String,
    /// How long ago.
    pub age: SignedDuration,
    /// What became of it.
    pub fate: Fate,
}

impl fmt::Display for LeftOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match &self.fate {
            Fate::Removed => "removed",
            Fate::Found => "would be removed",
            Fate::TooYoung => "left: its run may still be going",
            Fate::Stuck(why) => return write!(f, "{}: could not be removed: {why}", self.what),
        };
        write!(f, "{} of run {}, {:#} old: {fate}", self.what, self.run, self.age)
    }
}

/// Which left-overs are removed.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Those that are at least as old.
    pub older_than: SignedDuration,
    /// Only those of this run.
    pub run: Option<String>,
    /// Nothing is removed, only told of.
    pub dry: bool,
}

impl Sweep {
    /// What is to become of something that `run` made at `made`, before anything is done to it.
    pub fn fate(&self, made: Timestamp, now: Timestamp) -> Fate {
        if now.duration_since(made) < self.older_than {
            Fate::TooYoung
        } else {
            Fate::Found
        }
    }

    /// Whether left-overs of `run` are meant.
    pub fn covers(&self, run: &str) -> bool {
        self.run.as_deref().is_none_or(|only| only == run)
    }

    /// Finds the namespaces of runs on a cluster, and removes those that are old enough.
    ///
    /// # Errors
    /// When namespaces cannot be listed.
    pub async fn namespaces(&self, client: &Client) -> Result<Vec<LeftOver>, kube::Error> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let labelled = ListParams::default().labels(RUN_LABEL);
        let now = Timestamp::now();
        let mut found = Vec::new();
        for namespace in namespaces.list(&labelled).await?.items {
            let run = namespace.labels().get(RUN_LABEL).cloned().unwrap_or_default();
            if !self.covers(&run) {
                continue;
            }
            let made = namespace.creation_timestamp().map_or(now, |time| time.0);
            let mut fate = self.fate(made, now);
            if fate == Fate::Found && !self.dry {
                let deleted = delete_exactly(&namespaces, &namespace).await;
                fate = deleted.map_or_else(|error| Fate::Stuck(error.to_string()), |()| Fate::Removed);
            }
            found.push(LeftOver {
                what: format!("namespace {}", namespace.name_any()),
                run,
                age: SignedDuration::from_secs(now.duration_since(made).as_secs()),
                fate,
            });
        }
        Ok(found)
    }
}

/// When a run began, as its identifier says: `e2e-20261124-010016-25634`.
pub fn began(run: &str) -> Option<Timestamp> {
    let moment = run.strip_prefix("e2e-")?.rsplit_once('-')?.0;
    let civil = jiff::civil::DateTime::strptime("%Y%m%d-%H%M%S", moment).ok()?;
    civil
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_itself_when_it_began() {
        let began = began("e2e-20261124-010016-25634").unwrap();
        assert_eq!(began.to_string(), "2026-11-24T01:00:16Z");
        for other in ["kind", "e2e-tuesday-1", "my-20261124-010016-25634"] {
            assert_eq!(super::began(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_young_may_still_be_in_use() {
        let sweep = Sweep {
            older_than: SignedDuration::from_hours(2),
            run: None,
            dry: false,
        };
        let at = |hour: i64| Timestamp::from_second(hour * 3600).unwrap();
        assert_eq!(sweep.fate(at(3), at(4)), Fate::TooYoung);
        assert_eq!(sweep.fate(at(1), at(4)), Fate::Found);
        assert!(sweep.covers("r1"));
        assert!(
            !Sweep {
                run: Some("r2".into()),
                ..sweep
            }
            .covers("r1")
        );
    }
}
