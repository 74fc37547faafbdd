//! Errors for wrong configurations, limits and outages of a server, and the view of other NATS
//! clients. Credentials and permissions are in [`access`].

mod access;

use std::time::Duration;

use forge_bus::{
    Bus, BusError, JetStreamBus, Message,
    jetstream::{JetStreamOptions, NatsCredentials, Secret},
    testing::conformance,
    topology::{self, Bucket, Queue, SUBMIT_SUBJECT, Stream, TopologySettings},
};
use forge_harness::{FaultyProxy, NatsConfig, NatsServer};
use tokio::time::{Instant, sleep, timeout};

/// Accounts in which the services import the servers' reports, as in
/// `deploy/nats/nats-server.conf`.
const ACCOUNTS_WITH_REPORTS: &str = r#"
accounts {
  SYS {
    exports: [{ service: "$SYS.REQ.SERVER.PING.JSZ", response_type: stream, accounts: [FORGE] }]
  }
  FORGE {
    jetstream: enabled
    users: [{ user: planner, password: p }]
    imports: [{ service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" }, to: "forge.v1.nats.jetstream" }]
  }
}
system_account: SYS
"#;

fn options(server: &NatsServer) -> JetStreamOptions {
    JetStreamOptions { topology: conformance::settings(), ..JetStreamOptions::new(server.url()) }
}

fn password(user: &str, password: &str) -> NatsCredentials {
    NatsCredentials::Password { user: user.to_owned(), password: Secret::Text(password.to_owned()) }
}

fn assert_unusable<T>(result: Result<T, BusError>, part: &str) {
    match result {
        Err(BusError::Unusable(text)) => assert!(text.contains(part), "{text}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("expected an error with {part:?}"),
    }
}

#[tokio::test]
async fn servers_report_whether_they_sync() {
    for (jetstream, expected) in [("", false), ("sync_interval: always", true), ("sync_interval: 1s", false)]
    {
        let config = NatsConfig {
            extra: ACCOUNTS_WITH_REPORTS.to_owned(),
            jetstream: jetstream.to_owned(),
            ..NatsConfig::default()
        };
        let server = NatsServer::start(&config);
        let bus = JetStreamBus::connect(JetStreamOptions {
            credentials: password("planner", "p"),
            ..options(&server)
        });
        assert_eq!(bus.await.unwrap().syncs_always().await, Some(expected), "{jetstream}");
    }
    let server = NatsServer::start(&NatsConfig::default());
    assert_eq!(JetStreamBus::connect(options(&server)).await.unwrap().syncs_always().await, None);
    let server = NatsServer::start(&NatsConfig {
        extra: access::WORKER_PERMISSIONS.to_owned(),
        ..NatsConfig::default()
    });
    let worker = JetStreamOptions {
        credentials: password("worker", "w"),
        inbox_prefix: Some("_INBOX_worker".to_owned()),
        manage_topology: false,
        ..options(&server)
    };
    assert_eq!(JetStreamBus::connect(worker).await.unwrap().syncs_always().await, None);
}

#[tokio::test]
async fn a_server_that_acknowledges_nothing_is_reported_while_messages_are_retried() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = JetStreamBus::connect(options(&server)).await.unwrap();
    bus.prepare().await.unwrap();
    assert_eq!(bus.storage_refusal(), None);
    // As a server whose disk is full.
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let name = Stream::for_subject(SUBMIT_SUBJECT).unwrap().name();
    let mut config = context.get_stream(name).await.unwrap().cached_info().config.clone();
    config.no_ack = true;
    context.update_stream(&config).await.unwrap();
    let publishing = bus.clone();
    tokio::spawn(async move { publishing.publish(Message::new(SUBMIT_SUBJECT, ""), "1").await });
    let deadline = Instant::now() + Duration::from_secs(30);
    let reason = loop {
        if let Some(reason) = bus.storage_refusal() {
            break reason;
        }
        assert!(Instant::now() < deadline, "nothing is reported");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(reason.contains(name), "{reason}");
}

#[tokio::test]
async fn a_subscription_beyond_the_limit_is_reported_until_a_connection_has_all() {
    let extra = "max_subscriptions: 2".to_owned();
    let server = NatsServer::start(&NatsConfig { extra, ..NatsConfig::default() });
    let bus = JetStreamBus::connect(options(&server)).await.unwrap();
    let wait_until = async |is_denied: bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while bus.has_denied_subscription() != is_denied {
            assert!(Instant::now() < deadline, "a subscription is denied: {}", !is_denied);
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(!bus.has_denied_subscription());
    let mut subscriptions = Vec::new();
    for subject in ["forge.v1.ended.a", "forge.v1.ended.b", "forge.v1.ended.c"] {
        subscriptions.push(bus.subscribe(subject).await.unwrap());
    }
    wait_until(true).await;
    subscriptions.clear();
    sleep(Duration::from_millis(100)).await;
    bus.reconnect().await;
    wait_until(false).await;
}

/// After an interruption, connections are up again one after the other. A planner that waits for
/// that of its API answers no client.
#[tokio::test]
async fn a_bus_is_connected_when_all_of_its_connections_are() {
    let server = NatsServer::start(&NatsConfig::default());
    let proxy = FaultyProxy::start(server.port());
    let url = format!("nats://127.0.0.1:{}", proxy.port());
    let options = JetStreamOptions { topology: conformance::settings(), ..JetStreamOptions::new(url) };
    let bus = JetStreamBus::connect(options).await.unwrap();
    bus.prepare().await.unwrap();
    let _calls = bus.serve().await.unwrap();
    let _queue = bus.open_queue(Queue::Jobs).await.unwrap();
    let _watch = bus.watch(&Bucket::Workers, ">").await.unwrap();
    let wait_until = async |connected: bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while bus.is_connected() != connected {
            assert!(Instant::now() < deadline, "connected: {}", !connected);
            sleep(Duration::from_millis(5)).await;
        }
    };
    wait_until(true).await;
    for connections in [1, 2, 3] {
        proxy.admit_only(connections);
        proxy.cut();
        wait_until(false).await;
        for _ in 0..100 {
            assert!(!bus.is_connected(), "with {connections} of 4 connections");
            sleep(Duration::from_millis(5)).await;
        }
        proxy.admit_all();
        wait_until(true).await;
    }
}

#[tokio::test]
async fn unreachable_servers_and_servers_without_jetstream_are_rejected() {
    let unreachable = JetStreamBus::connect(JetStreamOptions::new("nats://127.0.0.1:1")).await;
    assert!(matches!(unreachable, Err(BusError::Unavailable(text)) if text.contains("127.0.0.1:1")));
    assert_unusable(JetStreamBus::connect(JetStreamOptions::new("nats://[")).await, "not the URL");
    let extra = "accounts { A { users: [{ user: a, password: a }] } }".to_owned();
    let server = NatsServer::start(&NatsConfig { extra, ..NatsConfig::default() });
    let without_jetstream = JetStreamOptions { credentials: password("a", "a"), ..options(&server) };
    assert_unusable(JetStreamBus::connect(without_jetstream).await, "JetStream is disabled");
    let file = JetStreamOptions { credentials: NatsCredentials::File("/missing".into()), ..options(&server) };
    assert_unusable(JetStreamBus::connect(file).await, "/missing");
}

#[tokio::test]
async fn preparing_updates_what_can_change_and_reports_what_cannot() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = JetStreamBus::connect(options(&server)).await.unwrap();
    assert!(matches!(bus.open_queue(Queue::Jobs).await.map(drop), Err(BusError::Missing(_))));
    assert!(matches!(bus.get(&Bucket::default_jobs(), "a").await, Err(BusError::Missing(_))));
    let missing = bus.publish(Message::new(SUBMIT_SUBJECT, ""), "1").await;
    assert!(matches!(missing, Err(BusError::Missing(_))), "{missing:?}");
    bus.prepare().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let lease = async || {
        let stream = context.get_stream("FORGE_SHARDS").await.unwrap();
        stream.consumer_info("workers-gpu").await.unwrap().config.ack_wait
    };
    assert_eq!(lease().await, conformance::LEASE);
    let longer_lease = TopologySettings { lease: Duration::from_secs(7), ..TopologySettings::default() };
    let second =
        JetStreamBus::connect(JetStreamOptions { topology: longer_lease, ..options(&server) }).await.unwrap();
    second.prepare().await.unwrap();
    assert_eq!(lease().await, longer_lease.lease);

    let more_replicas = TopologySettings { replicas: 3, ..longer_lease };
    let third = JetStreamBus::connect(JetStreamOptions { topology: more_replicas, ..options(&server) })
        .await
        .unwrap();
    assert_unusable(third.prepare().await, "FORGE_RESULTS");
    context.delete_stream("FORGE_REDUCE").await.unwrap();
    let other = async_nats::jetstream::stream::Config {
        name: "FORGE_REDUCE".to_owned(),
        subjects: vec!["forge.v1.reduce.>".to_owned()],
        ..Default::default()
    };
    context.create_stream(other).await.unwrap();
    assert_unusable(
        second.prepare().await,
        "FORGE_REDUCE cannot be used: its retention is Limits and should be WorkQueue",
    );
}

#[tokio::test]
async fn storage_is_limited_and_a_lack_of_it_is_explained() {
    let server = NatsServer::start(&NatsConfig {
        jetstream: "max_file_store: 1GB".to_owned(),
        extra: r#"accounts { A { jetstream: enabled, users: [{ user: a, password: p }] }
                           B { jetstream: { max_file: 100MB }, users: [{ user: b, password: p }] } }"#
            .to_owned(),
        ..NatsConfig::default()
    });
    let prepare = async |user, storage_mib: u64| {
        let topology = TopologySettings { storage_bytes: storage_mib << 20, ..TopologySettings::default() };
        let options = JetStreamOptions { topology, credentials: password(user, "p"), ..options(&server) };
        JetStreamBus::connect(options).await.unwrap().prepare().await
    };
    assert_unusable(prepare("a", 4096).await, "FORGE_STORAGE_MIB");
    assert_unusable(prepare("b", 512).await, "this NATS account is limited to 100 MiB");
    prepare("a", 300).await.unwrap();
    let client = async_nats::ConnectOptions::with_user_and_password("a".to_owned(), "p".to_owned());
    let context = async_nats::jetstream::new(client.connect(server.url()).await.unwrap());
    for storage_mib in [300, 600, 256] {
        prepare("a", storage_mib).await.unwrap();
        let config = context.get_stream("FORGE_RESULTS").await.unwrap().cached_info().config.clone();
        assert_eq!(config.max_bytes, (storage_mib << 20) as i64 / 1024 * 448);
        assert!(config.max_message_size > 0 && config.discard_new_per_subject, "{config:?}");
        let config = context.get_stream("KV_jobs").await.unwrap().cached_info().config.clone();
        assert_eq!(config.max_bytes, (storage_mib << 20) as i64 / 1024 * 150);
        assert!(!config.discard_new_per_subject, "a value replaces the former one");
    }
}

/// Each finds the storage used up by the other, which has not given it back yet.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_start_together_share_the_little_storage_of_a_server() {
    for _ in 0..8 {
        let server = NatsServer::start(&NatsConfig {
            jetstream: "max_file_store: 8MB".to_owned(),
            ..NatsConfig::default()
        });
        let prepare = async |options| JetStreamBus::connect(options).await.unwrap().prepare().await;
        let services: Vec<_> = (0..4)
            .map(|_| {
                let topology = TopologySettings { may_use_less_storage: true, ..conformance::settings() };
                tokio::spawn(prepare(JetStreamOptions { topology, ..options(&server) }))
            })
            .collect();
        for service in services {
            service.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn other_clients_can_use_the_service_and_the_buckets() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = JetStreamBus::connect(options(&server)).await.unwrap();
    bus.prepare().await.unwrap();
    let calls = bus.serve().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let info = client.request("$SRV.INFO.forge", "".into()).await.unwrap();
    let info = String::from_utf8(info.payload.to_vec()).unwrap();
    for part in [
        "\"name\":\"forge\"",
        env!("CARGO_PKG_VERSION"),
        topology::API_SUBMIT_SUBJECT,
        topology::API_CANCEL_SUBJECT,
    ] {
        assert!(info.contains(part), "{part}: {info}");
    }
    drop(calls);
    let request = || async_nats::Request::new().timeout(Some(Duration::from_millis(100)));
    let has_no_responder =
        |error: async_nats::RequestError| error.kind() == async_nats::RequestErrorKind::NoResponders;
    let gone = async {
        while !client.send_request("$SRV.INFO.forge", request()).await.is_err_and(has_no_responder) {}
    };
    timeout(Duration::from_secs(5), gone).await.expect("dropping the stream stops the service");

    let context = async_nats::jetstream::new(client);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let sequence = bus.put(&Bucket::default_jobs(), "id", "1".into()).await.unwrap();
        let message = context.get_stream("KV_jobs").await.unwrap().get_raw_message(sequence).await.unwrap();
        ids.push(message.headers.get("Nats-Msg-Id").unwrap().to_string());
    }
    let is_random = |id: &String| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
    assert!(ids.iter().all(is_random) && ids[0][..16] != ids[1][..16], "unpredictable ids: {ids:?}");
    let store = context.get_key_value("jobs").await.unwrap();
    store.put("foreign", "1".into()).await.unwrap();
    assert_eq!(bus.get(&Bucket::default_jobs(), "foreign").await.unwrap().unwrap().value, Some("1".into()));
    bus.put(&Bucket::default_jobs(), "own", "2".into()).await.unwrap();
    bus.delete(&Bucket::default_jobs(), "foreign").await.unwrap();
    assert_eq!(store.get("own").await.unwrap(), Some("2".into()));
    assert_eq!(store.get("foreign").await.unwrap(), None);
}

#[tokio::test]
async fn messages_that_arrive_without_a_fetch_can_be_taken() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = JetStreamBus::connect(options(&server)).await.unwrap();
    bus.prepare().await.unwrap();
    let mut jobs = bus.open_queue(Queue::Jobs).await.unwrap();
    assert!(timeout(Duration::from_millis(300), jobs.fetch(4)).await.is_err());
    assert!(jobs.take_arrived().is_empty());
    // The request of the dropped future is still open, and the lease of its response has begun.
    bus.publish(Message::new(SUBMIT_SUBJECT, "a"), "a").await.unwrap();
    let take = async {
        loop {
            if let Some(delivery) = jobs.take_arrived().pop() {
                return delivery;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let delivery = timeout(Duration::from_secs(20), take).await.unwrap();
    assert_eq!((delivery.message.payload.as_ref(), delivery.attempt), (b"a".as_slice(), 1));
    delivery.lease.ack().await;
}
