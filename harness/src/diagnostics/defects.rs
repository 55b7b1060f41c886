//! The defects that a failed trial shows: recognised causes, and violations that no cause explains.

use super::evidence::Evidence;
use super::explains::LOAD;
use super::triage::{Recognised, diagnose};
use crate::checks::{
    Violation, announce, balance, bus, cluster_state, forgotten, reachability, readiness, replication,
    slot_coverage, topology,
};
use crate::report::defect::{Defect, RecognisedCause, identifier};

/// Promises that break together when the cluster is in a bad state, the most telling first.
const VIEW: [&str; 10] = [
    announce::NAME,
    reachability::NAME,
    slot_coverage::NAME,
    topology::NAME,
    replication::NAME,
    balance::NAME,
    forgotten::NAME,
    bus::NAME,
    cluster_state::NAME,
    readiness::NAME,
];

/// Number of lines of evidence that describe a defect.
const LINES: usize = 6;

/// Number of characters that a line of evidence may have.
const LINE_LENGTH: usize = 400;

/// Returns the defects, the one that failed the trial first. Identifiers leave `namespace` out,
/// which differs from trial to trial.
pub fn defects(evidence: &Evidence, namespace: &str) -> Vec<Defect> {
    let found = diagnose(evidence);
    let explains_view = found
        .iter()
        .flat_map(|found| &found.explained)
        .any(|place| is_of_view(&evidence.violations[*place]));
    let explained = |place: &usize| found.iter().any(|found| found.explained.contains(place));
    let left: Vec<usize> = (0..evidence.violations.len())
        .filter(|place| !explained(place))
        .collect();
    // All violations in the servers' views have one reason. A cause that explains some of them
    // explains the rest as consequences.
    let (of_view, others): (Vec<usize>, Vec<usize>) = left
        .into_iter()
        .partition(|place| is_of_view(&evidence.violations[*place]));
    // Lost writes of all keys and shards have one reason, too.
    let (of_load, others): (Vec<usize>, Vec<usize>) = others
        .into_iter()
        .partition(|place| evidence.violations[*place].check == LOAD);
    let is_decisive = |places: &[usize]| places.iter().any(|place| evidence.is_decisive(*place));
    let rank = |decisive: bool| if decisive { Rank::Decisive } else { Rank::Noted };
    let mut ranked: Vec<(Rank, Defect)> = found
        .iter()
        .map(|found| {
            let rank = if found.explained.is_empty() {
                Rank::Beside
            } else {
                rank(found.is_decisive(evidence))
            };
            (rank, of_cause(found, evidence, namespace))
        })
        .collect();
    if !explains_view && !of_view.is_empty() {
        let violations: Vec<&Violation> = of_view.iter().map(|place| &evidence.violations[*place]).collect();
        ranked.push((rank(is_decisive(&of_view)), of_cluster(&violations, namespace)));
    }
    if !of_load.is_empty() {
        let violations: Vec<&Violation> = of_load.iter().map(|place| &evidence.violations[*place]).collect();
        ranked.push((rank(is_decisive(&of_load)), of_load_keys(&violations, namespace)));
    }
    for place in others {
        let defect = of_violation(&evidence.violations[place], namespace);
        ranked.push((rank(evidence.is_decisive(place)), defect));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut defects: Vec<Defect> = Vec::new();
    for (_, defect) in ranked {
        if !defects.iter().any(|known| known.id == defect.id) {
            defects.push(defect);
        }
    }
    defects
}

/// The part that a defect has in the trial's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The defect ended the trial.
    Decisive,
    /// The defect was noted during the trial.
    Noted,
    /// The defect is real, but broke nothing in this trial.
    Beside,
}

fn is_of_view(violation: &Violation) -> bool {
    VIEW.contains(&violation.check.as_str())
}

fn of_cause(found: &Recognised, evidence: &Evidence, namespace: &str) -> Defect {
    let explained: Vec<&Violation> = found
        .explained
        .iter()
        .map(|place| &evidence.violations[*place])
        .collect();
    let kind = found.cause.id();
    let distinction = found.cause.distinction().replace(namespace, "");
    Defect {
        id: identifier(&kind, &[&distinction]),
        title: found.cause.title().to_owned(),
        text: found.cause.to_string(),
        promises: promises(&explained),
        evidence: lines(&explained),
        cause: Some(RecognisedCause {
            id: kind,
            fields: found.cause.fields().into_iter().collect(),
        }),
    }
}

/// Combines all violations in the servers' views under the most telling promise.
fn of_cluster(violations: &[&Violation], namespace: &str) -> Defect {
    let rank = |violation: &&&Violation| VIEW.iter().position(|promise| *promise == violation.check);
    let first = violations.iter().min_by_key(rank).expect("there is at least one");
    let mut defect = of_violation(first, namespace);
    // The node that reports it, and by how much, differs from trial to trial.
    defect.id = identifier(&first.check, &[&first.expected.replace(namespace, "")]);
    defect.promises = promises(violations);
    defect
}

/// Combines the violations of a load's keys. Which keys lost writes differs from trial to trial.
fn of_load_keys(violations: &[&Violation], namespace: &str) -> Defect {
    let mut defect = of_violation(violations[0], namespace);
    defect.id = identifier(LOAD, &[]);
    defect.evidence = lines(violations);
    defect
}

fn of_violation(violation: &Violation, namespace: &str) -> Defect {
    let plain = |text: &str| text.replace(namespace, "");
    let (subject, expected) = (plain(&violation.subject), plain(&violation.expected));
    let seen = violation.seen.lines().next().unwrap_or_default();
    Defect {
        id: identifier(&violation.check, &[&subject, &expected]),
        title: format!("{} is broken", sentence(&violation.check)),
        text: format!(
            "{}: expected {}, saw {seen}",
            violation.subject, violation.expected
        ),
        cause: None,
        promises: vec![violation.check.clone()],
        evidence: lines(&[violation]),
    }
}

fn promises(violations: &[&Violation]) -> Vec<String> {
    let mut promises: Vec<String> = Vec::new();
    for violation in violations {
        if !promises.contains(&violation.check) {
            promises.push(violation.check.clone());
        }
    }
    promises
}

/// Returns the first lines of evidence: a line for each violation, then the proof of the first.
fn lines(violations: &[&Violation]) -> Vec<String> {
    let told = violations.iter().map(|violation| {
        let seen = violation.seen.lines().next().unwrap_or_default();
        format!(
            "{}: {}: expected {}, saw {seen}",
            violation.check, violation.subject, violation.expected
        )
    });
    let proof = violations
        .first()
        .into_iter()
        .flat_map(|violation| &violation.evidence)
        .cloned();
    let shortened = |line: String| line.chars().take(LINE_LENGTH).collect();
    told.take(LINES / 2)
        .chain(proof)
        .take(LINES)
        .map(shortened)
        .collect()
}

/// Returns a promise's name as the beginning of a sentence.
fn sentence(promise: &str) -> String {
    let words = promise.replace('_', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(violations: Vec<Violation>) -> Evidence {
        Evidence {
            violations,
            ..Evidence::default()
        }
    }

    fn ids(violations: Vec<Violation>) -> Vec<String> {
        let found = defects(&evidence(violations), "vk-forms-cluster-rpm-1234abcd");
        found.into_iter().map(|defect| defect.id).collect()
    }

    #[test]
    fn what_all_servers_say_of_the_cluster_is_one_defect() {
        let violations = (0..6)
            .flat_map(|pod| {
                let pod = format!("vk-{pod}");
                [
                    Violation::new("cluster_state", &pod, "cluster_size:4", "cluster_size:3"),
                    Violation::new("balance", "the cluster", "4096 slots each", "0"),
                    Violation::new("topology", "the cluster", "4 primaries with slots", "3"),
                ]
            })
            .collect();
        let found = defects(&evidence(violations), "ns");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].id, "topology:n-primaries-with-slots");
        assert_eq!(found[0].promises, ["cluster_state", "balance", "topology"]);
    }

    #[test]
    fn lost_writes_of_all_keys_are_one_defect() {
        let lost = |key: &str| Violation::new(LOAD, key, "every write that a replica confirmed", "7 lost");
        let over = Violation::new(LOAD, "shard of vk-0", "at most 800 unconfirmed", "1299");
        assert_eq!(ids(vec![lost("key a"), lost("key b"), over]), ["load"]);
    }

    #[test]
    fn defects_are_split_by_expectation_and_not_by_pod() {
        let tmp = |pod: &str| Violation::new("security", pod, "a writable tmpfs at /tmp", "none");
        let root = Violation::new("security", "vk-0", "a read-only root", "it is writable");
        assert_eq!(
            ids(vec![tmp("vk-0"), tmp("vk-1"), root]),
            [
                "security:vk-n:a-writable-tmpfs-at-tmp",
                "security:vk-n:a-read-only-root"
            ]
        );
    }

    #[test]
    fn a_namespace_is_no_part_of_an_identifier() {
        let of = |namespace: &str| {
            let violation = Violation::new(
                "password",
                format!("Secret {namespace}/vk"),
                "to be there",
                "none",
            );
            defects(&evidence(vec![violation]), namespace).remove(0).id
        };
        assert_eq!(
            of("vk-forms-cluster-rpm-1234abcd"),
            of("vk-scales-standalone-rpm-99990000")
        );
    }
}
