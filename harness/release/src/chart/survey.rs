//! A survey of a chart in every combination of mode and variant, before any deployment. It collects
//! the images of the pods, and the values beyond the README. It judges nothing.

use std::collections::BTreeSet;

use manifests::conformance::Objects;
use manifests::conformance::objects::is_documented;
use manifests::values::beyond_readme;
use manifests::{Mode, Variant};
use serde_json::Value;

use super::Chart;

/// The name and namespace of the rendered release. Trials use the same name.
const RELEASE: (&str, &str) = ("vk", "survey");

/// Objects and values that a chart has beyond the README. They are allowed, and reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Objects, as `Kind/name`, or by role where they have one.
    pub objects: Vec<String>,
    /// Parameters of the chart's `values.yaml`, by dotted path.
    pub values: Vec<String>,
}

impl Beyond {
    /// Renders both lists in words, if there is anything.
    pub fn words(&self) -> Option<String> {
        let part = |what: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
        };
        let parts = [part("objects", &self.objects), part("values", &self.values)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Chart {
    /// Returns the objects that the chart renders in each combination, with the run's values. Omits
    /// a combination that does not render: its trials report the reason. `helm` runs once per
    /// combination, however often this is called.
    pub async fn survey(&self) -> &[Vec<Value>] {
        self.surveyed
            .get_or_init(|| self.render_every_combination())
            .await
    }

    /// Returns the chart's additions to the README.
    pub async fn beyond_readme(&self) -> Beyond {
        let mut objects: BTreeSet<String> = BTreeSet::new();
        for rendered in self.survey().await {
            let rendered = Objects::new(rendered.iter().cloned());
            objects.extend(
                rendered
                    .roles()
                    .filter(|role| !is_documented(role))
                    .map(str::to_owned),
            );
        }
        Beyond {
            objects: objects.into_iter().collect(),
            values: beyond_readme(&self.trees.own),
        }
    }

    async fn render_every_combination(&self) -> Vec<Vec<Value>> {
        let combinations = Mode::ALL
            .into_iter()
            .flat_map(|mode| Variant::ALL.map(|variant| self.combination(mode, variant)));
        let rendering = combinations.map(|defaults| async move {
            let wanted = self.settled(&defaults);
            self.objects(RELEASE.0, RELEASE.1, &defaults, &wanted).await.ok()
        });
        let rendered = futures::future::join_all(rendering).await;
        rendered.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_of_what_there_is() {
        let mut beyond = Beyond::default();
        assert_eq!(beyond.words(), None);
        beyond.values = vec!["metrics".to_owned(), "auth.usePasswordFiles".to_owned()];
        assert_eq!(beyond.words().unwrap(), "values metrics, auth.usePasswordFiles");
        beyond.objects = vec!["NetworkPolicy/vk".to_owned()];
        assert_eq!(
            beyond.words().unwrap(),
            "objects NetworkPolicy/vk; values metrics, auth.usePasswordFiles"
        );
    }
}
