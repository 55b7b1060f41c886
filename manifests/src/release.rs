//! Helm's facts about a release, and the names and labels that the chart's helpers make from it.

use std::collections::BTreeMap;

use crate::password::Password;
use crate::values::{Mode, Values, is_label_value};

/// The chart's name, also the default `app.kubernetes.io/name`.
pub const CHART_NAME: &str = "percona-valkey";
/// The chart's own version, part of the `helm.sh/chart` label.
pub const CHART_VERSION: &str = "0.1.0";
/// The version of Valkey that the chart ships: the default image tag and
/// `app.kubernetes.io/version`.
pub const APP_VERSION: &str = "9.0.3";
/// The key of the password in the Secret; it is fixed, also in an existing Secret.
pub const PASSWORD_KEY: &str = "valkey-password";
/// Valkey's client port in the pod. The chart's `valkey.conf` fixes it, whatever `service.port` is.
pub const CLIENT_PORT: u16 = 6379;
/// The label that distinguishes servers from tools. Services, PDB and StatefulSet select by it, and
/// Job pods have another value.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The value of [`COMPONENT_LABEL`] on the StatefulSet's pods.
pub const SERVER_COMPONENT: &str = "server";

/// Kubernetes' limit for label values and DNS labels, and the chart's limit for its names.
const LABEL_LIMIT: usize = 63;

/// Labels or annotations, in a stable order.
pub type StringMap = BTreeMap<String, String>;

/// One revision of a release, as Helm would hand it to the templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The release's name (`helm install NAME`).
    pub name: String,
    /// The namespace that every object goes to.
    pub namespace: String,
    /// The program that rendered the chart. It is `Helm` for our rendering too, which replaces
    /// Helm's.
    pub service: String,
    /// 1 on install; each upgrade or rollback adds 1.
    pub revision: u32,
    /// The password for the Secret when `auth.password` is empty. It is the one in the release's
    /// existing Secret, or else a generated one. The caller provides it, because rendering is pure.
    pub password: Option<Password>,
}

impl Release {
    /// Returns the first revision of `name` in `namespace`, without a password from outside.
    #[must_use]
    pub fn install(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            service: "Helm".to_owned(),
            revision: 1,
            password: None,
        }
    }

    /// Returns the next revision.
    #[must_use]
    pub fn upgraded(&self) -> Self {
        Self {
            revision: self.revision + 1,
            ..self.clone()
        }
    }

    /// Returns this revision with the password that was found or generated.
    #[must_use]
    pub fn with_password(mut self, password: Password) -> Self {
        self.password = Some(password);
        self
    }

    /// Returns the chart's `name` helper: `nameOverride` or the chart's name, cut to 63 characters.
    #[must_use]
    pub fn chart_name(&self, values: &Values) -> String {
        let given = if values.name_override.is_empty() {
            CHART_NAME
        } else {
            &values.name_override
        };
        cut(given)
    }

    /// Returns the chart's `fullname` helper: the name of the StatefulSet, the client Service and
    /// most other objects.
    #[must_use]
    pub fn fullname(&self, values: &Values) -> String {
        if !values.fullname_override.is_empty() {
            return cut(&values.fullname_override);
        }
        let name = if values.name_override.is_empty() {
            CHART_NAME
        } else {
            &values.name_override
        };
        if self.name.contains(name) {
            cut(&self.name)
        } else {
            cut(&format!("{}-{name}", self.name))
        }
    }

    /// Returns the name of the headless Service, which gives each pod its DNS name.
    #[must_use]
    pub fn headless_name(&self, values: &Values) -> String {
        format!("{}-headless", self.fullname(values))
    }

    /// Returns the name of the pod with this ordinal.
    #[must_use]
    pub fn pod_name(&self, values: &Values, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.fullname(values))
    }

    /// Returns a pod's DNS name after the pod's own name, with the leading dot. The cluster domain
    /// is fixed, as in the chart.
    #[must_use]
    pub fn pod_dns_suffix(&self, values: &Values) -> String {
        format!(
            ".{}.{}.svc.cluster.local",
            self.headless_name(values),
            self.namespace
        )
    }

    /// Returns the name of the Secret with the password: the user's or the release's own.
    #[must_use]
    pub fn secret_name(&self, values: &Values) -> String {
        if values.auth.existing_secret.is_empty() {
            self.fullname(values)
        } else {
            values.auth.existing_secret.clone()
        }
    }

    /// Returns the name of the ServiceAccount of every pod of the release.
    #[must_use]
    pub fn service_account_name(&self, values: &Values) -> String {
        match (
            values.service_account.name.as_str(),
            values.service_account.create,
        ) {
            ("", true) => self.fullname(values),
            ("", false) => "default".to_owned(),
            (name, _) => name.to_owned(),
        }
    }

    /// Returns the labels that select all objects of the release, tools included: name and
    /// instance.
    #[must_use]
    pub fn selector_labels(&self, values: &Values) -> StringMap {
        StringMap::from([
            ("app.kubernetes.io/name".to_owned(), self.chart_name(values)),
            ("app.kubernetes.io/instance".to_owned(), self.name.clone()),
        ])
    }

    /// Returns the selector labels of a pod with a role, such as `server` or `cluster-init`.
    #[must_use]
    pub fn component_labels(&self, values: &Values, component: &str) -> StringMap {
        let mut labels = self.selector_labels(values);
        labels.insert(COMPONENT_LABEL.to_owned(), component.to_owned());
        labels
    }

    /// Returns the labels that every object carries.
    #[must_use]
    pub fn common_labels(&self, values: &Values) -> StringMap {
        let mut labels = self.selector_labels(values);
        let chart = cut(&format!("{CHART_NAME}-{CHART_VERSION}").replace('+', "_"));
        labels.insert("helm.sh/chart".to_owned(), chart);
        labels.insert("app.kubernetes.io/version".to_owned(), APP_VERSION.to_owned());
        labels.insert("app.kubernetes.io/managed-by".to_owned(), self.service.clone());
        labels
    }

    /// Returns derived names and labels that Kubernetes would refuse: the purpose, the name and the
    /// reason.
    ///
    /// The chart cuts its full name to 63 characters before it adds suffixes. A long release name
    /// can therefore make the API server refuse a Service. The limits:
    /// - A Service name is a DNS label that begins with a letter (RFC 1035).
    /// - A Job's name becomes a label value, and so does a StatefulSet's name with its revision
    ///   hash.
    /// - A pod's name becomes its host name.
    /// - A cut removes only one trailing dash.
    pub(crate) fn refused_names(&self, values: &Values) -> Vec<(&'static str, String, &'static str)> {
        let fullname = self.fullname(values);
        let last_pod = self.pod_name(values, values.replicas().saturating_sub(1));
        let mut names = vec![
            ("headless Service", self.headless_name(values)),
            ("StatefulSet revision", format!("{fullname}-0123456789")),
            ("pod", last_pod),
        ];
        if values.mode == Mode::Cluster {
            names.push(("init Job", format!("{fullname}-cluster-init")));
            names.push(("scale Job", format!("{fullname}-cluster-scale")));
        }
        let refused = |(what, name): (&'static str, String)| {
            let why = if name.len() > LABEL_LIMIT {
                "is longer than 63 characters"
            } else if name.starts_with(|c: char| c.is_ascii_digit()) {
                "begins with a digit"
            } else {
                return None;
            };
            Some((what, name, why))
        };
        let mut refused: Vec<_> = names.into_iter().filter_map(refused).collect();
        let label = self.chart_name(values);
        if !is_label_value(&label) {
            refused.push((
                "name label",
                label,
                "ends with a dash after the cut to 63 characters",
            ));
        }
        refused
    }
}

/// Applies Helm's `trunc 63 | trimSuffix "-"`, which removes one trailing dash, not all.
fn cut(name: &str) -> String {
    let end = name
        .char_indices()
        .nth(LABEL_LIMIT)
        .map_or(name.len(), |(index, _)| index);
    let name = &name[..end];
    name.strip_suffix('-').unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, fullname: &str) -> Values {
        Values {
            name_override: name.to_owned(),
            fullname_override: fullname.to_owned(),
            ..Values::default()
        }
    }

    #[test]
    fn fullname_follows_the_helper() {
        for (release, name, fullname, expected) in [
            ("my-valkey", "", "", "my-valkey-percona-valkey"),
            ("percona-valkey", "", "", "percona-valkey"),
            ("prod-percona-valkey-eu", "", "", "prod-percona-valkey-eu"),
            ("my-valkey", "valkey", "", "my-valkey"),
            ("my-valkey", "cache", "", "my-valkey-cache"),
            ("my-valkey", "cache", "exact", "exact"),
        ] {
            let release = Release::install(release, "default");
            assert_eq!(release.fullname(&values(name, fullname)), expected);
        }
    }

    #[test]
    fn names_are_cut_at_sixty_three_and_lose_one_dash() {
        let release = Release::install("r", "default");
        assert_eq!(release.fullname(&values("", &"a".repeat(64))), "a".repeat(63));
        let dashes = format!("{}--tail", "a".repeat(61));
        assert_eq!(
            release.fullname(&values("", &dashes)),
            format!("{}-", "a".repeat(61))
        );
        assert_eq!(release.chart_name(&values(&"b".repeat(70), "")).len(), 63);
    }

    #[test]
    fn derived_names_beyond_the_limit_are_named() {
        let release = Release::install("r", "default");
        let mut long = values("", &"a".repeat(55));
        let kinds = |values: &Values| -> Vec<&str> {
            release
                .refused_names(values)
                .iter()
                .map(|(kind, ..)| *kind)
                .collect()
        };
        assert_eq!(kinds(&long), ["headless Service", "StatefulSet revision"]);
        long.fullname_override = "a".repeat(50);
        assert_eq!(kinds(&long), [""; 0]);
        long.mode = Mode::Cluster;
        assert_eq!(kinds(&long), ["scale Job"]);
        assert_eq!(
            kinds(&values(&format!("{}--b", "a".repeat(61)), "short")),
            ["name label"]
        );
        let digit = Release::install("9lives", "default").refused_names(&Values::default());
        assert_eq!(digit[0].1, "9lives-percona-valkey-headless");
    }

    #[test]
    fn service_account_and_secret_names_follow_the_helpers() {
        let release = Release::install("my", "default");
        let mut values = Values::default();
        assert_eq!(release.service_account_name(&values), "my-percona-valkey");
        values.service_account.create = false;
        assert_eq!(release.service_account_name(&values), "default");
        values.service_account.name = "mine".to_owned();
        assert_eq!(release.service_account_name(&values), "mine");
        assert_eq!(release.secret_name(&values), "my-percona-valkey");
        values.auth.existing_secret = "theirs".to_owned();
        assert_eq!(release.secret_name(&values), "theirs");
    }
}
