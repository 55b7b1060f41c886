//! The two watches (Services, EndpointSlices) that keep cluster DNS and the ClusterIP proxies up to date.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::NetworkConfig;
use super::dns::{DnsServer, Zone};
use super::error::NetworkError;
use super::proxy::{self, Proxies};
use crate::controllers::EventRecorder;

/// Serves DNS and the proxies from watches, until cancelled.
pub(crate) async fn run(
    config: &NetworkConfig,
    client: Client,
    cancel: CancellationToken,
) -> Result<(), NetworkError> {
    let (zone, zone_reader) = watch::channel(Arc::new(Zone::default()));
    let dns = DnsServer::start(config.dns, &config.cluster_domain, zone_reader).await?;
    let (services, service_writer) = reflector::store();
    let (slices, slice_writer) = reflector::store();
    let service_changes = watcher(Api::<Service>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(service_writer)
        .map(drop);
    let slice_changes = watcher(
        Api::<EndpointSlice>::all(client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .reflect(slice_writer)
    .map(drop);
    let mut changes = futures::stream::select(service_changes.boxed(), slice_changes.boxed());
    let mut view = View {
        dns_address: config.dns,
        services,
        slices,
        zone,
        proxies: Proxies::default(),
        refusals: BTreeSet::new(),
        events: EventRecorder::new(client, "embedded-proxy"),
    };
    while let Some(Some(())) = cancel.run_until_cancelled(changes.next()).await {
        view.refresh().await;
    }
    dns.stop().await;
    Ok(())
}

struct View {
    dns_address: std::net::Ipv4Addr,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    zone: watch::Sender<Arc<Zone>>,
    proxies: Proxies,
    /// (Service UID, text) of the warnings already published.
    refusals: BTreeSet<(String, String)>,
    events: EventRecorder,
}

impl View {
    async fn refresh(&mut self) {
        let services = self.services.state();
        let slices = self.slices.state();
        let zone = Zone::build(
            services.iter().map(AsRef::as_ref),
            slices.iter().map(AsRef::as_ref),
        );
        // Only a change is published: every endpoint's heartbeat would otherwise wake readers for nothing.
        self.zone.send_if_modified(|current| {
            let changed = **current != zone;
            if changed {
                *current = Arc::new(zone);
            }
            changed
        });
        let mut plan = proxy::plan(services.iter().map(AsRef::as_ref), &slices);
        // That address is our own name server's, whatever Service describes it.
        plan.retain(|address, _| *address.ip() != self.dns_address);
        self.proxies.apply(&plan).await;
        for service in &services {
            self.refuse_unsupported(service).await;
        }
    }

    async fn refuse_unsupported(&mut self, service: &Service) {
        for text in proxy::unsupported(service) {
            if self
                .refusals
                .insert((service.uid().unwrap_or_default(), text.clone()))
            {
                self.events
                    .warning(service, "UnsupportedByEmbeddedCluster", &text)
                    .await;
            }
        }
    }
}
