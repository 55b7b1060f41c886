//! Reaching a pod's Valkey through the Kubernetes API, so that no provider needs routable pod addresses.

use std::io;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::valkey::dialer::{BoxedStream, Dialer};

/// Opens streams with `pods/portforward`.
#[derive(Clone)]
pub struct PortForward {
    pods: Api<Pod>,
    port: u16,
}

impl PortForward {
    /// Streams to `port` of pods in `namespace`.
    pub fn new(client: kube::Client, namespace: &str, port: u16) -> Self {
        Self {
            pods: Api::namespaced(client, namespace),
            port,
        }
    }
}

impl Dialer for PortForward {
    fn dial<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, io::Result<BoxedStream>> {
        Box::pin(async move {
            let mut forwarder = self.pods.portforward(pod, &[self.port]).await.map_err(io_error)?;
            let stream = forwarder.take_stream(self.port).ok_or_else(|| {
                io::Error::other(format!(
                    "the port-forward to pod {pod} has no stream for port {}",
                    self.port
                ))
            })?;
            // The forwarder's task lives as long as the stream: dropping the handle does not end it.
            Ok(Box::new(stream) as BoxedStream)
        })
    }
}

fn io_error(error: kube::Error) -> io::Error {
    let kind = match &error {
        kube::Error::Api(status) if status.code == 404 => io::ErrorKind::NotFound,
        kube::Error::Api(status) if status.code == 400 => io::ErrorKind::ConnectionRefused,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
