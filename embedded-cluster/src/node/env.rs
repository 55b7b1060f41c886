//! A container's environment, as the kubelet builds it: `envFrom`, then `env` in order with
//! `$(NAME)` expanded, then the Services' variables. Pure: the caller reads the API objects and
//! passes them as [`Sources`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use super::downward;

/// Objects of the pod's namespace that its environment may refer to.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Services of the pod's namespace, and `default/kubernetes`.
    pub(crate) services: Vec<Service>,
}

/// An environment in order of definition, without duplicates.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Sets a variable; an existing variable keeps its place.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn to_entries(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}

/// Returns the names to which a container's environment refers: (config maps, secrets).
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|var| var.value_from.as_ref())
    {
        config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (config_maps, secrets)
}

/// Resolves the environment that the pod declares for a container (without the image's).
///
/// # Errors
/// Fails with the kubelet's text for `CreateContainerConfigError`.
pub(crate) fn resolve(pod: &Pod, container: &Container, sources: &Sources) -> Result<Environment, String> {
    let mut env = from_whole_objects(container, sources)?;
    let links = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let services = service_variables(&sources.services, namespace, links);
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) if !value.is_empty() => expand(value, |name| {
                env.get(name)
                    .map(str::to_owned)
                    .or_else(|| services.get(name).cloned())
            }),
            (_, Some(source)) => match one_value(pod, container, source, sources)? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        env.set(&var.name, value);
    }
    for (name, value) in services {
        if env.get(&name).is_none() {
            env.set(&name, value);
        }
    }
    Ok(env)
}

fn from_whole_objects(container: &Container, sources: &Sources) -> Result<Environment, String> {
    let mut env = Environment::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        env.set(&format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        env.set(
                            &format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", reference.name)),
            }
        }
    }
    Ok(env)
}

/// Resolves one variable. Returns `None` for a missing optional source: the variable is then left
/// out.
fn one_value(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return downward::field(pod, &field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return downward::resource(pod, container, resource).map(Some);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = sources.config_maps.get(&reference.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("configmap {:?} not found", reference.name))
            };
        };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                reference.key, reference.name
            )),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = sources.secrets.get(&reference.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("secret {:?} not found", reference.name))
            };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                reference.key, reference.name
            )),
        };
    }
    Err("environment variable source is not supported by the embedded cluster".to_owned())
}

/// Expands Kubernetes' `$(NAME)` syntax. `$$` is a literal `$`, and undefined names stay unchanged.
pub(crate) fn expand(input: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(position) = rest.find('$') {
        output.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            output.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => output.push_str(&value),
                None => {
                    output.push_str("$(");
                    output.push_str(name);
                    output.push(')');
                }
            }
            rest = after;
        } else {
            output.push('$');
        }
    }
    output.push_str(rest);
    output
}

/// Returns the Docker-link style variables of every Service with a cluster address.
fn service_variables(services: &[Service], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let own = service.metadata.namespace.as_deref() == Some(namespace);
        let kubernetes = name == "kubernetes" && service.metadata.namespace.as_deref() == Some("default");
        if !(kubernetes || links && own) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec
            .cluster_ip
            .as_deref()
            .filter(|ip| !ip.is_empty() && *ip != "None")
        else {
            continue;
        };
        let prefix = name.to_uppercase().replace('-', "_");
        let Some(first) = spec.ports.iter().flatten().next() else {
            continue;
        };
        variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        let url = |port: i32, protocol: &str| format!("{}://{ip}:{port}", protocol.to_lowercase());
        variables.insert(
            format!("{prefix}_PORT"),
            url(first.port, first.protocol.as_deref().unwrap_or("TCP")),
        );
        for port in spec.ports.iter().flatten() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let name = name.to_uppercase().replace('-', "_");
                variables.insert(format!("{prefix}_SERVICE_PORT_{name}"), port.port.to_string());
            }
            let base = format!("{prefix}_PORT_{}_{protocol}", port.port);
            variables.insert(base.clone(), url(port.port, protocol));
            variables.insert(format!("{base}_PROTO"), protocol.to_lowercase());
            variables.insert(format!("{base}_PORT"), port.port.to_string());
            variables.insert(format!("{base}_ADDR"), ip.to_owned());
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn expansion_is_that_of_kubernetes() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (input, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
            ("", ""),
        ] {
            assert_eq!(expand(input, lookup), expected, "{input}");
        }
    }

    #[test]
    fn a_variable_sees_those_before_it_only() {
        let container: Container = parse(json!({"name": "c", "env": [
            {"name": "LATE", "value": "$(POD_IP)"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "FLAGS", "value": " --cluster-announce-ip $(POD_IP)"}]}));
        let pod: Pod =
            parse(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"podIP": "10.244.0.7"}}));
        let env = resolve(&pod, &container, &Sources::default()).unwrap();
        assert_eq!(
            env.to_entries(),
            [
                "LATE=$(POD_IP)",
                "POD_IP=10.244.0.7",
                "FLAGS= --cluster-announce-ip 10.244.0.7"
            ]
        );
    }

    #[test]
    fn missing_keys_and_secrets_have_the_kubelets_texts() {
        let container: Container = parse(json!({"name": "c", "env": [
            {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}));
        let pod: Pod = parse(json!({"metadata": {"name": "p", "namespace": "n"}}));
        let mut sources = Sources::default();
        assert_eq!(
            resolve(&pod, &container, &sources).unwrap_err(),
            "secret \"s\" not found"
        );
        sources.secrets.insert("s".to_owned(), Secret::default());
        assert_eq!(
            resolve(&pod, &container, &sources).unwrap_err(),
            "couldn't find key k in Secret n/s"
        );
    }

    #[test]
    fn env_overrides_env_from_and_optional_sources_may_be_missing() {
        let container: Container = parse(json!({"name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [{"name": "P_A", "value": "mine"}, {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "x", "optional": true}}}]}));
        let pod: Pod = parse(json!({"metadata": {"name": "p", "namespace": "n"}}));
        let mut sources = Sources::default();
        sources
            .config_maps
            .insert("m".to_owned(), parse(json!({"data": {"A": "theirs", "B": "b"}})));
        assert_eq!(
            resolve(&pod, &container, &sources).unwrap().to_entries(),
            ["P_A=mine", "P_B=b"]
        );
    }

    #[test]
    fn services_show_unless_links_are_off_or_they_are_headless() {
        let service = |name: &str, ip: &str| -> Service {
            parse(
                json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"clusterIP": ip, "ports": [{"name": "valkey", "port": 6379}]}}),
            )
        };
        let services = [service("my-db", "10.96.1.1"), service("headless", "None")];
        let variables = service_variables(&services, "n", true);
        assert_eq!(variables["MY_DB_SERVICE_HOST"], "10.96.1.1");
        assert_eq!(variables["MY_DB_SERVICE_PORT_VALKEY"], "6379");
        assert_eq!(variables["MY_DB_PORT_6379_TCP"], "tcp://10.96.1.1:6379");
        assert!(!variables.keys().any(|name| name.starts_with("HEADLESS")));
        assert!(service_variables(&services, "n", false).is_empty());
    }
}
