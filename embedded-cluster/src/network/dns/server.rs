//! The DNS server: answers from the current [`Zone`], over UDP and TCP on one address.
//!
//! Authoritative for the cluster's domain only. Every other name gets NXDOMAIN, since the cluster
//! has no route out. Resolvers stop at once on that answer; REFUSED would make them retry.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, CNAME, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::zone::Zone;
use crate::network::NetworkError;

/// CoreDNS's default TTL for cluster records and for negative answers. It is short, so that a new
/// pod's name is found soon after it exists.
const TTL_SECONDS: u32 = 5;
/// The time after which an idle DNS-over-TCP connection is closed, as in CoreDNS.
const TCP_IDLE: Duration = Duration::from_secs(8);
/// Number of responses queued per TCP connection; a resolver pipelines two.
const TCP_RESPONSE_BUFFER: usize = 16;
/// The standard port of DNS.
const PORT: u16 = 53;

/// The running DNS server.
pub(crate) struct DnsServer {
    server: Server<Handler>,
}

impl DnsServer {
    /// Binds UDP and TCP and starts answering.
    pub(crate) async fn start(
        address: Ipv4Addr,
        domain: &str,
        zone: watch::Receiver<Arc<Zone>>,
    ) -> Result<Self, NetworkError> {
        let address = SocketAddr::from((address, PORT));
        let failed = |source| NetworkError::Dns { address, source };
        let domain = Name::from_ascii(format!("{domain}."))
            .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
        let mut server = Server::new(Handler { domain, zone });
        server.register_socket(UdpSocket::bind(address).await.map_err(failed)?);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        server.register_listener(listener, TCP_IDLE, TCP_RESPONSE_BUFFER);
        Ok(Self { server })
    }

    /// Stops answering.
    pub(crate) async fn stop(mut self) {
        if let Err(error) = self.server.shutdown_gracefully().await {
            tracing::debug!(%error, "cluster DNS ended with an error");
        }
    }
}

struct Handler {
    domain: Name,
    zone: watch::Receiver<Arc<Zone>>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let answer = self.answer(request);
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().max(512));
            edns
        });
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = answer.authoritative;
        metadata.recursion_available = true;
        metadata.response_code = answer.code;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, &answer.records, [], &answer.soa, []);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "failed to send a DNS response");
                let mut failed = Metadata::response_from_request(&request.metadata);
                failed.response_code = ResponseCode::ServFail;
                hickory_server::proto::op::Header {
                    metadata: failed,
                    counts: Default::default(),
                }
                .into()
            }
        }
    }
}

/// The answer to one request.
struct Answer {
    code: ResponseCode,
    authoritative: bool,
    records: Vec<Record>,
    soa: Option<Record>,
}

impl Answer {
    fn refusal(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            records: Vec::new(),
            soa: None,
        }
    }
}

impl Handler {
    fn answer(&self, request: &Request) -> Answer {
        if request.metadata.op_code != OpCode::Query {
            return Answer::refusal(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else {
            return Answer::refusal(ResponseCode::FormErr);
        };
        let name = Name::from(info.query.name().clone());
        if !self.domain.zone_of(&name) {
            return Answer::refusal(ResponseCode::NXDomain);
        }
        let owner = info.query.original().name().clone();
        self.answer_in_zone(&owner, &self.relative(&name), info.query.query_type())
    }

    fn answer_in_zone(&self, owner: &Name, relative: &str, record_type: RecordType) -> Answer {
        let zone = self.zone.borrow().clone();
        let is_apex = relative.is_empty();
        let found = zone.get(relative);
        let mut records = Vec::new();
        let record = |data| Record::from_rdata(owner.clone(), TTL_SECONDS, data);
        if is_apex && record_type == RecordType::SOA {
            records.push(self.soa());
        }
        if let Some(found) = found {
            if let Some(cname) = found
                .cname
                .as_deref()
                .and_then(|name| Name::from_ascii(name).ok())
            {
                records.push(record(RData::CNAME(CNAME(absolute(cname)))));
            } else if record_type == RecordType::A {
                records.extend(found.a.iter().map(|ip| record(RData::A(A(*ip)))));
            } else if record_type == RecordType::SRV {
                records.extend(found.srv.iter().filter_map(|(port, target)| {
                    let target = Name::from_ascii(target).ok()?.append_domain(&self.domain).ok()?;
                    Some(record(RData::SRV(SRV::new(0, 100, *port, target))))
                }));
            }
        }
        let exists = is_apex || found.is_some();
        let code = if exists {
            ResponseCode::NoError
        } else {
            ResponseCode::NXDomain
        };
        let soa = records.is_empty().then(|| self.soa());
        Answer {
            code,
            authoritative: true,
            records,
            soa,
        }
    }

    /// Returns the name without the cluster's domain, in lower case and without a trailing dot.
    fn relative(&self, name: &Name) -> String {
        let labels = usize::from(name.num_labels() - self.domain.num_labels());
        let labels: Vec<_> = name
            .iter()
            .take(labels)
            .map(|label| String::from_utf8_lossy(label).to_lowercase())
            .collect();
        labels.join(".")
    }

    fn soa(&self) -> Record {
        let server = Name::from_ascii("ns.dns")
            .ok()
            .and_then(|name| name.append_domain(&self.domain).ok());
        let contact = Name::from_ascii("hostmaster")
            .ok()
            .and_then(|name| name.append_domain(&self.domain).ok());
        let soa = SOA::new(
            server.unwrap_or_else(|| self.domain.clone()),
            contact.unwrap_or_else(|| self.domain.clone()),
            1,
            7200,
            1800,
            86400,
            TTL_SECONDS,
        );
        Record::from_rdata(self.domain.clone(), TTL_SECONDS, RData::SOA(soa))
    }
}

fn absolute(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}
