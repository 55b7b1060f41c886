//! A container's configuration at the moment it starts: environment, command, identity and mounts.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service, VolumeMount};
use kube::Api;
use kube::api::ListParams;
use nix::sys::signal::Signal;
use oci_spec::runtime::Spec;

use super::PodContext;
use crate::images::Image;
use crate::node::env::{self, Environment, Sources};
use crate::node::helper::DEFAULT_PATH;
use crate::node::spec::{Bind, ContainerPlan};
use crate::node::volumes::{IMAGE_VOLUMES, SubPath};
use crate::node::{etc, security, spec};
use crate::quantity;

/// Kubernetes' default for `terminationMessagePath`.
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// The settings of a container instance.
pub(super) struct Configuration {
    pub(super) spec: Spec,
    pub(super) sub_paths: Vec<SubPath>,
    pub(super) image_volumes: Vec<PathBuf>,
    pub(super) uid: u32,
    pub(super) memory_limit: Option<u64>,
    pub(super) stop_signal: Signal,
}

/// Builds the configuration of a container instance. Reads everything at the start and not at
/// admission: a restarted container sees a Secret's new value.
///
/// # Errors
/// Fails with the kubelet's text for `CreateContainerConfigError`.
pub(super) async fn configure(
    context: &PodContext,
    container: &Container,
    image: &Image,
    bundle: &Path,
    message_file: &Path,
) -> Result<Configuration, String> {
    let pod = context.pod_with_addresses();
    let sources = sources(context, &pod, container).await?;
    let config = image.config.config().clone().unwrap_or_default();
    let declared = env::resolve(&pod, container, &sources)?;
    let user = config.user().clone().unwrap_or_default();
    let identity = security::identity(&pod, container, &user, &image.rootfs)?;
    let environment = environment(
        config.env().as_deref().unwrap_or_default(),
        &declared,
        &pod,
        &identity.home,
    );
    let args = command(container, &config, &declared)?;
    let expand = |text: &str| env::expand(text, |name| declared.get(name).map(str::to_owned));
    let mut binds = system_binds(context, container, identity.read_only_root, message_file);
    let mounts = context.volumes().mounts(container, bundle, expand)?;
    let image_volumes = image_volumes(config.volumes().as_deref().unwrap_or_default(), container)?;
    let of_image = image_volumes.iter().enumerate().map(|(index, path)| Bind {
        source: bundle.join(IMAGE_VOLUMES).join(index.to_string()),
        destination: path.clone(),
        read_only: false,
    });
    let mut volumes: Vec<Bind> = of_image.chain(mounts.binds).collect();
    // A mount inside another's path must come after it.
    volumes.sort_by_key(|bind| bind.destination.components().count());
    binds.extend(volumes);
    let namespaces = context.namespaces().ok_or("the pod's sandbox is gone")?;
    let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
    let plan = ContainerPlan {
        args,
        env: environment.to_entries(),
        cwd: working_dir
            .or_else(|| config.working_dir().clone())
            .unwrap_or_default(),
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        capabilities: identity.capabilities,
        no_new_privileges: identity.no_new_privileges,
        read_only_root: identity.read_only_root,
        namespaces,
        binds,
    };
    let limits = container
        .resources
        .as_ref()
        .and_then(|resources| resources.limits.as_ref());
    Ok(Configuration {
        spec: spec::build(&plan).map_err(|error| error.to_string())?,
        sub_paths: mounts.sub_paths,
        image_volumes,
        uid: plan.uid,
        memory_limit: limits
            .and_then(|limits| limits.get("memory"))
            .and_then(|limit| quantity::units(&limit.0)),
        stop_signal: stop_signal(container, &image.config),
    })
}

async fn sources(context: &PodContext, pod: &Pod, container: &Container) -> Result<Sources, String> {
    let client = &context.node.client;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (config_maps, secrets) = env::references(container);
    let mut sources = Sources::default();
    for name in config_maps {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        if let Some(object) = api.get_opt(&name).await.map_err(|error| error.to_string())? {
            sources.config_maps.insert(name, object);
        }
    }
    for name in secrets {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        if let Some(object) = api.get_opt(&name).await.map_err(|error| error.to_string())? {
            sources.secrets.insert(name, object);
        }
    }
    let own: Api<Service> = Api::namespaced(client.clone(), namespace);
    sources.services = own
        .list(&ListParams::default())
        .await
        .map_err(|error| error.to_string())?
        .items;
    if namespace != "default" {
        let default: Api<Service> = Api::namespaced(client.clone(), "default");
        sources.services.extend(
            default
                .get_opt("kubernetes")
                .await
                .map_err(|error| error.to_string())?,
        );
    }
    Ok(sources)
}

/// Returns the paths for which the image declares a volume (`VOLUME`) and the pod has none. Each
/// gets a volume of this instance only, writable even if the root file system is read-only.
fn image_volumes(declared: &[String], container: &Container) -> Result<Vec<PathBuf>, String> {
    let mut volumes = Vec::new();
    for text in declared {
        let path: PathBuf = Path::new(text).components().collect();
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(format!("the image's volume {text:?} is not an absolute path"));
        }
        let mounted = container.volume_mounts.iter().flatten();
        let covered = |mount: &VolumeMount| Path::new(&mount.mount_path).components().eq(path.components());
        if path != Path::new("/") && !mounted.into_iter().any(covered) && !volumes.contains(&path) {
            volumes.push(path);
        }
    }
    Ok(volumes)
}

/// Merges the environment: the image's variables, overridden by the pod's, plus those that every
/// process expects.
fn environment(image: &[String], declared: &Environment, pod: &Pod, home: &str) -> Environment {
    let mut all = Environment::default();
    all.set("PATH", DEFAULT_PATH.to_owned());
    all.set("HOSTNAME", etc::hostname(pod));
    let declared = declared.to_entries();
    for (name, value) in image
        .iter()
        .chain(&declared)
        .filter_map(|entry| entry.split_once('='))
    {
        all.set(name, value.to_owned());
    }
    if all.get("HOME").is_none() {
        all.set("HOME", home.to_owned());
    }
    all
}

fn command(
    container: &Container,
    image: &oci_spec::image::Config,
    env: &Environment,
) -> Result<Vec<String>, String> {
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        let expand = |text: &String| env::expand(text, |name| env.get(name).map(str::to_owned));
        list.iter().flatten().map(expand).collect()
    };
    let (command, args) = (expand(&container.command), expand(&container.args));
    // A command replaces the image's entrypoint and its arguments. Arguments alone replace only the
    // image's arguments.
    let entrypoint = || image.entrypoint().clone().unwrap_or_default();
    let all = match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [entrypoint(), args].concat(),
        (true, true) => [entrypoint(), image.cmd().clone().unwrap_or_default()].concat(),
    };
    if all.is_empty() {
        Err("no command specified".to_owned())
    } else {
        Ok(all)
    }
}

fn system_binds(
    context: &PodContext,
    container: &Container,
    read_only: bool,
    message_file: &Path,
) -> Vec<Bind> {
    let mounted = |path: &Path| {
        container
            .volume_mounts
            .iter()
            .flatten()
            .any(|mount| Path::new(mount.mount_path.trim_end_matches('/')) == path)
    };
    let path = container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty());
    let message = Bind {
        source: message_file.to_owned(),
        destination: path.unwrap_or(TERMINATION_MESSAGE_PATH).into(),
        read_only: false,
    };
    let shm = Bind {
        source: context.dir.join("shm"),
        destination: "/dev/shm".into(),
        read_only: false,
    };
    let etc = etc::binds(&context.dir.join("etc"), read_only);
    [shm, message]
        .into_iter()
        .chain(etc)
        .filter(|bind| !mounted(&bind.destination))
        .collect()
}

/// Returns the stop signal of the pod, else of the image, else SIGTERM.
fn stop_signal(container: &Container, image: &oci_spec::image::ImageConfiguration) -> Signal {
    let wanted = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.stop_signal.clone());
    let wanted = wanted.or_else(|| {
        image
            .config()
            .as_ref()
            .and_then(|config| config.stop_signal().clone())
    });
    wanted
        .as_deref()
        .and_then(parse_signal)
        .unwrap_or(Signal::SIGTERM)
}

fn parse_signal(name: &str) -> Option<Signal> {
    if let Ok(number) = name.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let name = name.to_uppercase();
    if name.starts_with("SIG") {
        name.parse().ok()
    } else {
        format!("SIG{name}").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ConfigBuilder;
    use serde_json::json;

    use super::*;

    #[test]
    fn command_and_args_replace_what_kubernetes_says_they_replace() {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let image = ConfigBuilder::default()
            .entrypoint(strings(&["entry"]))
            .cmd(strings(&["cmd"]))
            .build()
            .unwrap();
        let of = |fields: serde_json::Value| {
            let mut container = json!({"name": "c"});
            container
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            command(
                &serde_json::from_value(container).unwrap(),
                &image,
                &Environment::default(),
            )
            .unwrap()
        };
        assert_eq!(of(json!({})), ["entry", "cmd"]);
        assert_eq!(of(json!({"args": ["a"]})), ["entry", "a"]);
        assert_eq!(of(json!({"command": ["b"]})), ["b"]);
        assert_eq!(of(json!({"command": ["b"], "args": ["$(X)"]})), ["b", "$(X)"]);
    }

    #[test]
    fn the_image_has_volumes_where_the_pod_has_none() {
        let container = json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/data/"}]});
        let container = serde_json::from_value(container).unwrap();
        let of = |declared: &[&str]| {
            let declared: Vec<String> = declared.iter().map(|path| (*path).to_owned()).collect();
            image_volumes(&declared, &container)
        };
        let volumes = of(&["/data", "/var/lib/x/", "/data/inner", "/var/lib/x"]).unwrap();
        assert_eq!(volumes, [Path::new("/var/lib/x"), Path::new("/data/inner")]);
        for wrong in ["data", "/a/../../etc"] {
            assert!(of(&[wrong]).unwrap_err().contains(wrong));
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for name in ["15", "SIGTERM", "term"] {
            assert_eq!(parse_signal(name), Some(Signal::SIGTERM));
        }
        assert_eq!(parse_signal("nonsense"), None);
    }
}
