//! A run in several parts, on machines that do not communicate. Each machine computes the same
//! division for itself.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use harness::report::RunReport;
use manifests::Mode;

use crate::registry::Trial;

/// The assumed cost of a trial that no report has.
const CLUSTER_TRIAL: Duration = Duration::from_secs(20);
const STANDALONE_TRIAL: Duration = Duration::from_secs(4);

/// One part of several, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// The error for a text that is not a shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a shard is I/N, such as 1/4, with I from 1 to N")]
pub struct ShardError;

impl Shard {
    /// Returns all parts of `count`.
    pub fn all(count: usize) -> impl Iterator<Item = Self> {
        (1..=count).map(move |index| Self { index, count })
    }

    /// Returns the trials of this part, in the order of `trials`. Each trial is in exactly one
    /// part, and all parts take about the same time. The division goes through the trials, longest
    /// first. Each trial goes to the part with the least time so far.
    pub fn of(self, trials: Vec<Trial>, costs: &Costs) -> Vec<Trial> {
        let mut order: Vec<usize> = (0..trials.len()).collect();
        order.sort_by_key(|at| (Reverse(costs.of(&trials[*at])), trials[*at].id.to_string()));
        let mut loads = vec![Duration::ZERO; self.count];
        let mut mine = vec![false; trials.len()];
        for at in order {
            let least = (0..self.count)
                .min_by_key(|part| (loads[*part], *part))
                .unwrap_or(0);
            loads[least] += costs.of(&trials[at]);
            mine[at] = least + 1 == self.index;
        }
        let kept = trials.into_iter().zip(mine).filter(|(_, mine)| *mine);
        kept.map(|(trial, _)| trial).collect()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let (index, count) = text.split_once('/').ok_or(ShardError)?;
        let (index, count) = (
            index.parse().map_err(|_| ShardError)?,
            count.parse().map_err(|_| ShardError)?,
        );
        if index == 0 || index > count {
            return Err(ShardError);
        }
        Ok(Self { index, count })
    }
}

/// The duration of each trial: taken from an earlier report, or else assumed by its mode.
#[derive(Debug, Clone, Default)]
pub struct Costs(BTreeMap<String, Duration>);

impl Costs {
    /// Reads the costs from a report.
    pub fn measured(report: &RunReport) -> Self {
        let trials = report.trials.iter().filter(|trial| trial.duration_ms > 0);
        Self(
            trials
                .map(|trial| (trial.name.clone(), Duration::from_millis(trial.duration_ms)))
                .collect(),
        )
    }

    /// Returns the duration of a trial.
    pub fn of(&self, trial: &Trial) -> Duration {
        let by_mode = match trial.id.mode {
            Mode::Cluster => CLUSTER_TRIAL,
            Mode::Standalone => STANDALONE_TRIAL,
        };
        self.0.get(&trial.id.to_string()).copied().unwrap_or(by_mode)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::registry::trials;

    #[test]
    fn all_parts_together_have_every_trial_once_and_are_balanced() {
        let costs = Costs::default();
        for count in 1..=7 {
            let mut names = BTreeSet::new();
            let mut loads = Vec::new();
            for shard in Shard::all(count) {
                let part = shard.of(trials(), &costs);
                loads.push(part.iter().map(|trial| costs.of(trial)).sum::<Duration>());
                for trial in part {
                    assert!(
                        names.insert(trial.id.to_string()),
                        "{} is in two parts of {count}",
                        trial.id
                    );
                }
            }
            assert_eq!(names.len(), trials().len());
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(*most - *least <= CLUSTER_TRIAL, "{loads:?}");
        }
    }

    #[test]
    fn a_shard_reads_back_as_it_is_written_and_nothing_else_is_one() {
        assert_eq!("2/3".parse::<Shard>().unwrap().to_string(), "2/3");
        for wrong in ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"] {
            assert_eq!(wrong.parse::<Shard>(), Err(ShardError), "{wrong}");
        }
    }
}
