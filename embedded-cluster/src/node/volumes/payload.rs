//! The files of configMap, secret, projected and downwardAPI volumes, built from their source
//! objects. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};

use super::atomic::File;
use crate::node::downward;

/// The default file mode of all these volumes in Kubernetes.
const DEFAULT_MODE: i32 = 0o644;

/// The source objects, from the pod's namespace.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) config_maps: BTreeMap<String, ConfigMap>,
    pub(super) secrets: BTreeMap<String, Secret>,
}

type Files = BTreeMap<String, File>;

/// Returns the names to which the volume refers: (config maps, secrets).
pub(super) fn references(volume: &Volume) -> (Vec<String>, Vec<String>) {
    let projections = || {
        volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
    };
    let config_maps = volume.config_map.iter().map(|source| source.name.clone());
    let projected_maps = projections()
        .filter_map(|p| p.config_map.as_ref())
        .map(|source| source.name.clone());
    let secrets = volume
        .secret
        .iter()
        .filter_map(|source| source.secret_name.clone());
    let projected_secrets = projections()
        .filter_map(|p| p.secret.as_ref())
        .map(|source| source.name.clone());
    (
        config_maps.chain(projected_maps).collect(),
        secrets.chain(projected_secrets).collect(),
    )
}

/// Builds the volume's files.
///
/// # Errors
/// Fails with the kubelet's text for `FailedMount`.
pub(super) fn files(pod: &Pod, volume: &Volume, sources: &Sources) -> Result<Files, String> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let items = source.items.as_deref();
        config_map(
            &mut files,
            sources,
            &source.name,
            items,
            mode,
            source.optional == Some(true),
        )?;
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(
            &mut files,
            sources,
            name,
            source.items.as_deref(),
            mode,
            source.optional == Some(true),
        )?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        downward_api(&mut files, pod, source.items.iter().flatten(), mode)?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            project(&mut files, pod, projection, sources, mode)?;
        }
    } else {
        return Err("volume type is not supported by the embedded cluster".to_owned());
    }
    Ok(files)
}

fn project(
    files: &mut Files,
    pod: &Pod,
    projection: &VolumeProjection,
    sources: &Sources,
    mode: i32,
) -> Result<(), String> {
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        config_map(
            files,
            sources,
            &source.name,
            source.items.as_deref(),
            mode,
            optional,
        )
    } else if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        secret(
            files,
            sources,
            &source.name,
            source.items.as_deref(),
            mode,
            optional,
        )
    } else if let Some(source) = &projection.downward_api {
        downward_api(files, pod, source.items.iter().flatten(), mode)
    } else {
        Err(
            "projected source is not supported by the embedded cluster (it issues no service account tokens)"
                .to_owned(),
        )
    }
}

fn config_map(
    files: &mut Files,
    sources: &Sources,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(object) = sources.config_maps.get(name) else {
        return if optional {
            Ok(())
        } else {
            Err(format!("configmap {name:?} not found"))
        };
    };
    let text = object
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = object
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    select(files, &text.chain(binary).collect(), items, mode, optional)
}

fn secret(
    files: &mut Files,
    sources: &Sources,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(object) = sources.secrets.get(name) else {
        return if optional {
            Ok(())
        } else {
            Err(format!("secret {name:?} not found"))
        };
    };
    let data = object
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect();
    select(files, &data, items, mode, optional)
}

fn select(
    files: &mut Files,
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            files.insert(key.clone(), file(bytes.clone(), mode)?);
        }
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                files.insert(
                    relative(&item.path)?,
                    file(bytes.clone(), item.mode.unwrap_or(mode))?,
                );
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(())
}

fn downward_api<'a>(
    files: &mut Files,
    pod: &Pod,
    items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
    mode: i32,
) -> Result<(), String> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            downward::field(pod, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            downward::resource(pod, &k8s_openapi::api::core::v1::Container::default(), resource)?
        } else {
            return Err(format!("downward API file {:?} has no source", item.path));
        };
        files.insert(
            relative(&item.path)?,
            file(text.into_bytes(), item.mode.unwrap_or(mode))?,
        );
    }
    Ok(())
}

fn file(bytes: Vec<u8>, mode: i32) -> Result<File, String> {
    let mode = u32::try_from(mode).ok().filter(|mode| *mode <= 0o777);
    Ok(File {
        bytes,
        mode: mode.ok_or("a file mode must be between 0 and 0777")?,
    })
}

fn relative(path: &str) -> Result<String, String> {
    let valid = !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "..");
    if valid && !path.starts_with("..") {
        Ok(path.to_owned())
    } else {
        Err(format!("invalid path: {path:?}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sources() -> Sources {
        let map = serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).unwrap();
        Sources {
            config_maps: BTreeMap::from([("m".to_owned(), map)]),
            ..Sources::default()
        }
    }

    fn of(volume: serde_json::Value) -> Result<Files, String> {
        files(
            &Pod::default(),
            &serde_json::from_value(volume).unwrap(),
            &sources(),
        )
    }

    #[test]
    fn items_select_rename_and_set_modes() {
        let all = of(json!({"name": "v", "configMap": {"name": "m", "defaultMode": 0o400}})).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all["a"].mode, 0o400);
        let one = of(json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "x/y", "mode": 0o600}]}})).unwrap();
        assert_eq!(
            (one["x/y"].bytes.as_slice(), one["x/y"].mode),
            (b"1".as_slice(), 0o600)
        );
    }

    #[test]
    fn missing_objects_and_keys_are_named_unless_optional() {
        assert_eq!(
            of(json!({"name": "v", "configMap": {"name": "no"}})).unwrap_err(),
            "configmap \"no\" not found"
        );
        assert_eq!(
            of(json!({"name": "v", "secret": {"secretName": "no"}})).unwrap_err(),
            "secret \"no\" not found"
        );
        assert!(
            of(json!({"name": "v", "configMap": {"name": "no", "optional": true}}))
                .unwrap()
                .is_empty()
        );
        let items = json!([{"key": "z", "path": "z"}]);
        assert_eq!(
            of(json!({"name": "v", "configMap": {"name": "m", "items": items}})).unwrap_err(),
            "references non-existent config key: z"
        );
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        assert!(
            of(json!({"name": "v", "nfs": {"server": "s", "path": "/"}}))
                .unwrap_err()
                .contains("not supported")
        );
        let token =
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
        assert!(of(token).unwrap_err().contains("tokens"));
        assert!(
            of(json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "../x"}]}}))
                .is_err()
        );
    }
}
