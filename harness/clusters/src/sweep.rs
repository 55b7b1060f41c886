//! Removal of objects that a killed run left, found by their label and age. A run younger than the
//! requested age may still be going; its namespaces are listed and kept.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::namespaces::delete_exactly;
use settings::RUN_LABEL;

/// The outcome for one left-over.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its deletion was requested.
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
    /// The object, in words, such as `namespace vk-forms-cluster-rpm-1a2b3c4d`.
    pub what: String,
    /// The run that made it.
    pub run: String,
    /// The age of the object.
    pub age: SignedDuration,
    /// The outcome for the object.
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

/// The selection of left-overs to remove.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The minimum age.
    pub older_than: SignedDuration,
    /// Restricts the selection to this run.
    pub run: Option<String>,
    /// True if left-overs are only listed.
    pub dry: bool,
}

impl Sweep {
    /// Decides what happens to an object that `run` made at `made`, without touching it.
    pub fn fate(&self, made: Timestamp, now: Timestamp) -> Fate {
        if now.duration_since(made) < self.older_than {
            Fate::TooYoung
        } else {
            Fate::Found
        }
    }

    /// Returns true if left-overs of `run` are selected.
    pub fn covers(&self, run: &str) -> bool {
        self.run.as_deref().is_none_or(|only| only == run)
    }

    /// Finds the namespaces of runs on a cluster, and removes those of the minimum age.
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

/// Returns the start of a run, parsed from its identifier: `e2e-20261124-010016-25634`.
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
