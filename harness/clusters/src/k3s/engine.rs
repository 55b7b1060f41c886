//! The container engine: its availability, its error messages, and the containers of runs.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use kube::config::KubeconfigError;
use testcontainers::TestcontainersError;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as DockerError;
use testcontainers::bollard::models::SystemInfoCgroupVersionEnum;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::error::ClientError;

use super::container::Reach;
use crate::versions::{KubeVersion, NEEDS_CGROUP_V2};
use settings::RUN_LABEL;

/// Time that the engine may take to report its version. The limit tells a hanging engine from one
/// that pulls an image.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Reasons why there is no k3s cluster. Each is the machine's fault, and its message names the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum K3sError {
    /// No engine, or none for this user.
    #[error("no Docker engine answers (is it installed and running, and may this user use it?): {said}")]
    NoEngine {
        /// The engine's message.
        said: String,
    },
    /// The machine is too old for the version.
    #[error(
        "this machine has cgroup v1, and the kubelet of Kubernetes {version} refuses to run on it: start with \
         --kube-version v1.{}, or boot with systemd.unified_cgroup_hierarchy=1", NEEDS_CGROUP_V2 - 1
    )]
    CgroupV1 {
        /// The version that was asked for.
        version: KubeVersion,
    },
    /// The image is not there and cannot be pulled.
    #[error(
        "the image {image} is missing and cannot be pulled: {said}\nwithout a registry: `docker save` it on another \
         machine and `docker load` it here, or use --cluster embedded"
    )]
    Image {
        /// The image.
        image: String,
        /// The engine's message.
        said: String,
    },
    /// The disk of the engine is full.
    #[error("the disk is full: `docker system df` shows its use, `docker system prune` frees space: {said}")]
    DiskFull {
        /// The engine's message.
        said: String,
    },
    /// The run's images could not be imported.
    #[error("the run's images could not be imported into k3s: {said}")]
    Import {
        /// The engine's message.
        said: String,
    },
    /// The kubeconfig is not what k3s is known to write.
    #[error("k3s wrote a kubeconfig that does not have exactly one cluster, user and context; {written}")]
    Unexpected {
        /// The addresses in it.
        written: String,
    },
    /// The kubeconfig cannot be read.
    #[error("failed to read the kubeconfig that k3s wrote")]
    Kubeconfig(#[from] KubeconfigError),
    /// The engine refused something else.
    #[error("the container engine failed")]
    Container(#[from] TestcontainersError),
    /// The engine refused a question.
    #[error("failed to query the container engine")]
    Engine(#[from] DockerError),
}

impl K3sError {
    /// Returns the command that mends the failure, where there is one.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoEngine { said } if said.contains("denied") => {
                "sudo usermod --append --groups docker \"$USER\"".to_owned()
            }
            Self::NoEngine { .. } => {
                "sudo apt-get install docker.io && sudo systemctl start docker".to_owned()
            }
            Self::CgroupV1 { .. } => format!(
                "{} e2e --cluster k3s --kube-version v1.{}",
                settings::program(),
                NEEDS_CGROUP_V2 - 1
            ),
            Self::DiskFull { .. } => "docker system prune".to_owned(),
            Self::Image { image, .. } => format!("docker pull {image}"),
            _ => "docker info".to_owned(),
        }
    }
}

/// A container that a run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct K3sContainer {
    /// The run, which is also its name.
    pub run: String,
    id: String,
}

/// A container engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    /// Name and version, for the report.
    pub version: String,
    cgroup_v1: bool,
}

impl Engine {
    /// Finds the engine that `DOCKER_HOST` names, or the default one, and asks for its version.
    ///
    /// # Errors
    /// When it does not answer soon.
    pub async fn find() -> Result<Self, K3sError> {
        let docker = docker_client_instance()
            .await
            .map_err(|error| K3sError::NoEngine {
                said: error_text::chain(&error),
            })?;
        let info = answer(docker.info()).await?;
        Ok(Self {
            docker,
            version: info
                .server_version
                .unwrap_or_else(|| "of unknown version".to_owned()),
            cgroup_v1: info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_1),
        })
    }

    /// Checks that the engine's machine can run `version`.
    ///
    /// # Errors
    /// When it cannot; the error says why.
    pub fn check(&self, version: &KubeVersion) -> Result<(), K3sError> {
        if self.cgroup_v1 && version.needs_cgroup_v2() {
            return Err(K3sError::CgroupV1 {
                version: version.clone(),
            });
        }
        Ok(())
    }

    /// Returns true if the engine has the image.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn has(&self, image: &str) -> Result<bool, K3sError> {
        match self.docker.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the network position from which containers of this engine are reached.
    pub(super) fn reach(&self) -> Reach {
        let docker_host = std::env::var("DOCKER_HOST").ok();
        Reach::of(docker_host.as_deref(), Path::new("/.dockerenv").exists())
    }

    /// Lists the containers of all runs, including stopped ones.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn containers(&self) -> Result<Vec<K3sContainer>, K3sError> {
        let labelled = HashMap::from([("label", vec![RUN_LABEL])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&labelled)
            .build();
        let listed = answer(self.docker.list_containers(Some(options))).await?;
        let ours = listed.into_iter().filter_map(|container| {
            Some(K3sContainer {
                run: container.labels?.remove(RUN_LABEL)?,
                id: container.id?,
            })
        });
        Ok(ours.collect())
    }

    /// Removes a container and its volumes. A container that is already gone is a success.
    ///
    /// # Errors
    /// When the container cannot be removed.
    pub async fn remove(&self, container: &K3sContainer) -> Result<(), K3sError> {
        remove(&self.docker, &container.id).await.map_err(K3sError::from)
    }
}

/// Removes a container and its volumes, by its identifier or its name.
pub(super) async fn remove(docker: &Docker, name: &str) -> Result<(), DockerError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(name, Some(options)).await {
        Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        removed => removed,
    }
}

/// Awaits an answer for a limited time.
async fn answer<T>(question: impl Future<Output = Result<T, DockerError>>) -> Result<T, K3sError> {
    let said = match tokio::time::timeout(FIRST_ANSWER, question).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error_text::chain(&error),
        Err(_) => format!("no answer within {} s", FIRST_ANSWER.as_secs()),
    };
    Err(K3sError::NoEngine { said })
}

/// Translates a failed start into an error.
pub(super) fn meaning(image: &str, error: TestcontainersError) -> K3sError {
    let said = error_text::chain(&error);
    if is_disk_full(&said) {
        return K3sError::DiskFull { said };
    }
    match error {
        TestcontainersError::Client(ClientError::PullImage { err, .. }) => K3sError::Image {
            image: image.to_owned(),
            said: error_text::chain(&err),
        },
        other => K3sError::Container(other),
    }
}

/// Returns true if the engine's message is about a full disk.
pub(super) fn is_disk_full(said: &str) -> bool {
    let lower = said.to_lowercase();
    lower.contains("no space left on device") || lower.contains("disk quota exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(cgroup_v1: bool) -> Engine {
        let docker = Docker::connect_with_http(
            "http://127.0.0.1:1",
            1,
            testcontainers::bollard::API_DEFAULT_VERSION,
        );
        Engine {
            docker: docker.expect("nothing is asked yet"),
            version: "28.0.0".to_owned(),
            cgroup_v1,
        }
    }

    #[test]
    fn a_refused_k3s_version_is_answered_with_one_that_runs() {
        let version = |text: &str| text.parse::<KubeVersion>().expect("the test asks for a version");
        assert!(engine(false).check(&version("v1.36")).is_ok());
        assert!(engine(true).check(&version("v1.34")).is_ok());
        let refused = engine(true)
            .check(&version("v1.35.0"))
            .expect_err("its kubelet does not start");
        assert!(
            refused
                .to_string()
                .contains("v1.35.0 refuses to run on it: start with --kube-version v1.34"),
            "{refused}"
        );
    }

    #[test]
    fn a_failed_start_is_told_by_what_the_engine_says() {
        let pull = |message: &str| {
            let err = DockerError::DockerResponseServerError {
                status_code: 500,
                message: message.to_owned(),
            };
            let error = ClientError::PullImage {
                descriptor: "rancher/k3s:v1".to_owned(),
                err,
            };
            meaning("rancher/k3s:v1", error.into())
        };
        let image = pull("dial tcp: lookup registry.example: no such host");
        assert!(matches!(image, K3sError::Image { .. }), "{image:?}");
        assert!(
            image
                .to_string()
                .contains("rancher/k3s:v1 is missing and cannot be pulled"),
            "{image}"
        );
        assert_eq!(image.remedy(), "docker pull rancher/k3s:v1");
        let full = pull("write /var/lib/docker/tmp: no space left on device");
        assert!(matches!(full, K3sError::DiskFull { .. }), "{full:?}");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_told_of_with_the_cause() {
        let refused = answer(engine(false).docker.info())
            .await
            .expect_err("nothing listens on port 1");
        assert!(
            refused.to_string().contains("no Docker engine answers"),
            "{refused}"
        );
        assert!(
            refused.to_string().to_lowercase().contains("refused"),
            "{refused}"
        );
    }
}
