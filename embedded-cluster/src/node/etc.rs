//! The files of `/etc` that the node and not the image provides: hosts, hostname, resolv.conf. Pure
//! functions build the text.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::spec::Bind;

/// The DNS domain of the cluster: every installer's default.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Returns the pod's hostname: `spec.hostname` or the pod's name, cut to the kernel's limit.
pub(crate) fn hostname(pod: &Pod) -> String {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .or_else(|| pod.metadata.name.clone());
    let name: String = name.unwrap_or_default().chars().take(63).collect();
    name.trim_end_matches(['-', '.']).to_owned()
}

/// Writes the files into `directory`.
pub(crate) fn write(directory: &Path, pod: &Pod, ip: Ipv4Addr, dns: Ipv4Addr) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("hosts"), hosts(pod, ip))?;
    fs::write(directory.join("hostname"), format!("{}\n", hostname(pod)))?;
    fs::write(directory.join("resolv.conf"), resolv_conf(pod, dns))
}

/// Returns the bind mounts through which containers see the files.
pub(crate) fn binds(directory: &Path, read_only: bool) -> [Bind; 3] {
    ["hosts", "hostname", "resolv.conf"].map(|name| Bind {
        source: directory.join(name),
        destination: PathBuf::from("/etc").join(name),
        read_only,
    })
}

fn hosts(pod: &Pod, ip: Ipv4Addr) -> String {
    let hostname = hostname(pod);
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let spec = pod.spec.as_ref();
    let subdomain = spec
        .and_then(|spec| spec.subdomain.as_deref())
        .filter(|subdomain| !subdomain.is_empty());
    match subdomain {
        Some(subdomain) => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            text.push_str(&format!(
                "{ip}\t{hostname}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}\t{hostname}\n"
            ));
        }
        None => text.push_str(&format!("{ip}\t{hostname}\n")),
    }
    let aliases: Vec<_> = spec
        .into_iter()
        .flat_map(|spec| spec.host_aliases.iter().flatten())
        .collect();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!(
            "{}\t{}\n",
            alias.ip,
            alias
                .hostnames
                .iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join("\t")
        ));
    }
    text
}

fn resolv_conf(pod: &Pod, dns: Ipv4Addr) -> String {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (mut servers, mut search, mut options) = (Vec::new(), Vec::new(), Vec::new());
    // `Default` means the node's resolver, which here is cluster DNS as well.
    if spec.dns_policy.as_deref() != Some("None") {
        servers.push(dns.to_string());
    }
    if !matches!(spec.dns_policy.as_deref(), Some("None" | "Default")) {
        search.extend([
            format!("{namespace}.svc.{CLUSTER_DOMAIN}"),
            format!("svc.{CLUSTER_DOMAIN}"),
            CLUSTER_DOMAIN.to_owned(),
        ]);
        options.push(("ndots".to_owned(), Some("5".to_owned())));
    }
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        for domain in config.searches.iter().flatten() {
            if !search.contains(domain) {
                search.push(domain.clone());
            }
        }
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|(known, _)| *known != name);
            options.push((name, option.value.clone()));
        }
    }
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        let options: Vec<String> = options
            .into_iter()
            .map(|(name, value)| {
                value
                    .filter(|v| !v.is_empty())
                    .map_or(name.clone(), |value| format!("{name}:{value}"))
            })
            .collect();
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "json! literals read best as arguments"
    )]
    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "v-0", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    #[test]
    fn resolv_conf_is_the_kubelets() {
        let dns = Ipv4Addr::new(10, 96, 0, 10);
        assert_eq!(
            resolv_conf(&pod(json!({"containers": []})), dns),
            "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
        let custom = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.2.3.4"], "options": [{"name": "edns0"}]}});
        assert_eq!(
            resolv_conf(&pod(custom), dns),
            "nameserver 1.2.3.4\noptions edns0\n"
        );
        let dots = json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}});
        assert!(resolv_conf(&pod(dots), dns).ends_with("options ndots:2\n"));
    }

    #[test]
    fn a_stateful_pod_knows_its_own_name() {
        let text = hosts(
            &pod(json!({"containers": [], "hostname": "v-0", "subdomain": "v-headless"})),
            Ipv4Addr::new(10, 244, 0, 2),
        );
        assert!(text.contains("10.244.0.2\tv-0.v-headless.ns.svc.cluster.local\tv-0\n"));
    }
}
