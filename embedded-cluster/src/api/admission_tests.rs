//! Tests of what admission allocates.

use std::collections::BTreeSet;

use super::*;
use crate::api::server::ApiConfig;
use crate::api::verbs::create::create_object;

#[test]
fn services_created_at_once_get_different_addresses() {
    let server = ApiServer::new(ApiConfig::default());
    let kind = kinds::find("", "v1", "services").expect("in the table");
    let create = |name: String| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]},
        });
        let stored = create_object(&server, kind, "default", service, false).expect("created");
        let port = stored.value["spec"]["ports"][0]["nodePort"].clone();
        (
            object::text(&stored.value, &["spec", "clusterIP"]).to_owned(),
            port.as_i64(),
        )
    };
    let create = &create;
    let made: Vec<(String, Option<i64>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                scope.spawn(move || {
                    let names = (0..40).map(|number| format!("s-{thread}-{number}"));
                    names.map(create).collect::<Vec<_>>()
                })
            })
            .collect();
        let made = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        made.flatten().collect()
    });
    let addresses: BTreeSet<&String> = made.iter().map(|(address, _)| address).collect();
    let ports: BTreeSet<Option<i64>> = made.iter().map(|(_, port)| *port).collect();
    assert_eq!((addresses.len(), ports.len()), (320, 320));
}
