//! Settings that change while the broker runs, and stay across a restart.

use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::protocol::StrBytes;
use ringlog_tests::broker::{Broker, Start, folder};
use ringlog_tests::client::Client;

const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Changes a setting of one broker, or of all where the name is empty.
fn alter(client: &mut Client, broker: &str, name: &str, value: Option<&str>) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let config = AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(if value.is_some() { SET } else { DELETE })
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(broker))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(&request, 1);
    let codes: Vec<_> = response.responses.iter().map(|response| response.error_code).collect();
    assert_eq!(codes, [0]);
}

/// Clients until one is refused, at most `most`.
fn clients(broker: &Broker, most: usize) -> Vec<Client> {
    let ping = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let mut clients = Vec::new();
    while clients.len() < most {
        let mut client = broker.client();
        if client.send_raw(&ping).is_err() || client.is_closed() {
            break;
        }
        // The answer is begun and not read: the connection is of no use but to be there.
        clients.push(client);
    }
    clients
}

#[test]
fn limits_of_connections_change_without_a_restart() {
    for name in ["max.connections", "max.connections.per.ip"] {
        let data = folder();
        let start = || Start::new(data.path()).set(name, 20);
        let broker = start().ready();
        let mut admin = broker.client();
        admin.ping();
        assert_eq!(clients(&broker, 10).len(), 10, "{name}: nothing is in the way yet");
        drop(broker);
        let broker = start().ready();
        let mut admin = broker.client();
        alter(&mut admin, "", name, Some("4"));
        let there = clients(&broker, 10);
        assert_eq!(there.len(), 3, "{name}: four with the one that asked for it");
        // The broker's own setting wins over that of all brokers.
        alter(&mut admin, "1", name, Some("6"));
        let more = clients(&broker, 10);
        assert_eq!(more.len(), 2, "{name}");
        admin.ping();
        drop((there, more));
        broker.stop();
        let broker = start().ready();
        assert_eq!(clients(&broker, 10).len(), 6, "{name}: after a restart");
        drop(broker);
        let broker = start().ready();
        let mut admin = broker.client();
        alter(&mut admin, "1", name, None);
        alter(&mut admin, "", name, None);
        assert_eq!(clients(&broker, 10).len(), 10, "{name}: what the broker was started with counts again");
    }
}
