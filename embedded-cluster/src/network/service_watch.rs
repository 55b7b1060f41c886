//! The two watches (Services, EndpointSlices) that keep cluster DNS and the ClusterIP proxies
//! current.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::Store;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::config::NetworkConfig;
use super::dns::{DnsServer, Zone};
use super::error::NetworkError;
use super::proxy::{self, Proxies};
use crate::api::unsupported;
use crate::controllers::EventRecorder;

/// Serves DNS and the proxies from watches until cancelled.
pub(crate) async fn run(
    config: &NetworkConfig,
    client: Client,
    data_plane: Duration,
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
        warned: BTreeSet::new(),
        events: EventRecorder::new(client, "embedded-proxy"),
    };
    let mut pace = Pace::new(data_plane);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            change = changes.next() => match change {
                // Cluster DNS has a separate watch and follows at once.
                Some(()) => {
                    view.refresh_names().await;
                    pace.changed(Instant::now());
                }
                None => break,
            },
            // The data plane follows later than the names, so this waits on the clock.
            () = sleep_until(pace.due.unwrap_or_else(Instant::now)), if pace.due.is_some() => {
                view.refresh_proxies().await;
                pace.followed(Instant::now());
            }
        }
    }
    dns.stop().await;
    Ok(())
}

/// The schedule of proxy updates, as in kube-proxy. A single change is applied soon; many changes
/// are applied together at a limited rate.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            due: None,
        }
    }

    fn changed(&mut self, now: Instant) {
        let soon = now + self.interval / 4;
        let due = self.last.map_or(soon, |last| soon.max(last + self.interval));
        self.due.get_or_insert(due);
    }

    fn followed(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = None;
    }
}

struct View {
    dns_address: std::net::Ipv4Addr,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    zone: watch::Sender<Arc<Zone>>,
    proxies: Proxies,
    /// Warnings already published: (Service UID, text).
    warned: BTreeSet<(String, String)>,
    events: EventRecorder,
}

impl View {
    async fn refresh_names(&mut self) {
        let services = self.services.state();
        let slices = self.slices.state();
        let zone = Zone::build(
            services.iter().map(AsRef::as_ref),
            slices.iter().map(AsRef::as_ref),
        );
        // Publishes only real changes. Otherwise every endpoint's heartbeat would wake readers for
        // nothing.
        self.zone.send_if_modified(|current| {
            let changed = **current != zone;
            if changed {
                *current = Arc::new(zone);
            }
            changed
        });
        for service in &services {
            self.warn_of_unenforced(service).await;
        }
    }

    async fn refresh_proxies(&mut self) {
        let services = self.services.state();
        let slices = self.slices.state();
        let mut plan = proxy::plan(services.iter().map(AsRef::as_ref), &slices);
        // The cluster's name server owns that address, even if a Service also has it.
        plan.retain(|address, _| *address.ip() != self.dns_address);
        self.proxies.apply(&plan).await;
    }

    async fn warn_of_unenforced(&mut self, service: &Service) {
        let json = serde_json::to_value(service).unwrap_or_default();
        for text in unsupported::unenforced_of_service(&json) {
            if self
                .warned
                .insert((service.uid().unwrap_or_default(), text.clone()))
            {
                self.events
                    .warning(service, "UnsupportedByEmbeddedCluster", &text)
                    .await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_plane_follows_late_and_not_too_often() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let mut pace = Pace::new(second);
        pace.changed(now);
        pace.changed(now + second / 10);
        assert_eq!(pace.due, Some(now + second / 4), "the first change decides");
        pace.followed(now + second / 4);
        pace.changed(now + second / 2);
        assert_eq!(pace.due, Some(now + second * 5 / 4), "once a second");
        pace.followed(now + second * 5 / 4);
        pace.changed(now + second * 9);
        assert_eq!(pace.due, Some(now + second * 37 / 4), "a change that comes alone");
    }

    #[test]
    fn without_a_delay_it_follows_at_once() {
        let now = Instant::now();
        let mut pace = Pace::new(Duration::ZERO);
        pace.followed(now);
        pace.changed(now);
        assert_eq!(pace.due, Some(now));
    }
}
