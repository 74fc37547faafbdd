//! Errors for wrong configurations and missing permissions, and the view of other NATS clients.

use std::time::Duration;

use forge_bus::{
    Bus, BusError, JetStreamBus, Message,
    jetstream::{JetStreamOptions, NatsCredentials, Secret, TlsOptions},
    testing::conformance,
    topology::{self, Bucket, JobLength, Queue, SUBMIT_SUBJECT, Stream, TopologySettings},
};
use forge_contract::{
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use forge_harness::{Certificates, FaultyProxy, NatsConfig, NatsServer};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

/// Users of one account: a planner without restrictions, and a worker with the permissions of its
/// role.
const WORKER_PERMISSIONS: &str = r#"
authorization {
  users = [
    { user: "planner", password: "p" }
    { user: "worker", password: "w", permissions {
      publish: [
        "$JS.API.CONSUMER.INFO.FORGE_SHARDS.workers-cpu", "$JS.API.CONSUMER.MSG.NEXT.FORGE_SHARDS.workers-cpu",
        "$JS.ACK.FORGE_SHARDS.workers-cpu.>", "$JS.ACK.*.*.FORGE_SHARDS.workers-cpu.>", "forge.v1.results.default.>",
        "$KV.forge_workers.default.*", "$JS.API.DIRECT.GET.KV_forge_programs.>",
        "$JS.API.STREAM.INFO.KV_jobs", "$JS.API.CONSUMER.CREATE.KV_jobs.*.$KV.jobs.>",
        "$JS.API.CONSUMER.MSG.NEXT.KV_jobs.*", "$JS.API.CONSUMER.DELETE.KV_jobs.*"
      ]
      subscribe: ["_INBOX_worker.>", "forge.v1.ended.*"]
    } }
  ]
}"#;

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
async fn worker_permissions_allow_its_work_and_nothing_else() {
    let server =
        NatsServer::start(&NatsConfig { extra: WORKER_PERMISSIONS.to_owned(), ..NatsConfig::default() });
    let wrong = JetStreamOptions { credentials: password("worker", "x"), ..options(&server) };
    assert_unusable(JetStreamBus::connect(wrong).await, "does not accept these credentials");
    let planner = JetStreamOptions { credentials: password("planner", "p"), ..options(&server) };
    let planner = JetStreamBus::connect(planner).await.unwrap();
    let worker = JetStreamOptions {
        credentials: password("worker", "w"),
        inbox_prefix: Some("_INBOX_worker".to_owned()),
        manage_topology: false,
        required_queues: vec![Queue::Shards(Target::Cpu, JobLength::Short)],
        ..options(&server)
    };
    let worker = JetStreamBus::connect(worker).await.unwrap();
    let unprepared = worker.prepare().await;
    assert!(matches!(unprepared, Err(BusError::Missing(_))), "{unprepared:?}");
    planner.prepare().await.unwrap();
    worker.prepare().await.unwrap();

    let (job, id) = (JobUid([1; 16]), ShardId { height: 0, index: 0 });
    let shard = topology::shard_subject(Target::Cpu, JobLength::Short, job, id);
    planner.put(&Bucket::Programs, "a", "program".into()).await.unwrap();
    planner.put(&Bucket::default_jobs(), "j", "record".into()).await.unwrap();
    planner.publish(Message::new(&shard, "work"), "1").await.unwrap();
    let mut receiver = worker.open_queue(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap();
    let mut ended = worker.subscribe(topology::JOB_ENDED_FILTER).await.unwrap();
    let delivery = receiver.fetch(4).await.unwrap().remove(0);
    delivery.lease.renew().await;
    assert!(worker.get(&Bucket::Programs, "a").await.unwrap().is_some());
    worker.put(&Bucket::Workers, "default.w", "here".into()).await.unwrap();
    worker
        .publish(Message::new(topology::result_subject(&PoolName::default(), job, id), "done"), "2")
        .await
        .unwrap();
    delivery.lease.ack().await;
    assert!(worker.watch(&Bucket::default_jobs(), ">").await.unwrap().next().await.is_some());
    planner.broadcast(Message::new(topology::job_ended_subject(job), "")).await.unwrap();
    assert!(timeout(Duration::from_secs(5), ended.next()).await.is_ok());

    let start = Instant::now();
    assert_unusable(worker.publish(Message::new(&shard, ""), "3").await, &format!("publish to {shard}"));
    assert_unusable(
        worker.publish_all(vec![(Message::new(SUBMIT_SUBJECT, ""), "4".to_owned())]).await,
        SUBMIT_SUBJECT,
    );
    assert_unusable(
        worker.open_queue(Queue::Shards(Target::Gpu, JobLength::Short)).await.map(drop),
        "workers-gpu",
    );
    assert_unusable(worker.get(&Bucket::Secrets, "key").await, "KV_forge_secrets");
    assert_unusable(
        worker.put(&Bucket::Agents, "quarantine.w", "".into()).await,
        "$KV.forge_agents.quarantine.w",
    );
    assert_unusable(worker.watch(&Bucket::Secrets, ">").await.map(drop), "KV_forge_secrets");
    let request =
        worker.request(Message::new(topology::API_CANCEL_SUBJECT, ""), Duration::from_secs(5)).await;
    assert_unusable(request, topology::API_CANCEL_SUBJECT);
    assert!(start.elapsed() < Duration::from_secs(2), "denied requests fail without waiting for a timeout");
}

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
    let server =
        NatsServer::start(&NatsConfig { extra: WORKER_PERMISSIONS.to_owned(), ..NatsConfig::default() });
    let worker = JetStreamOptions {
        credentials: password("worker", "w"),
        inbox_prefix: Some("_INBOX_worker".to_owned()),
        manage_topology: false,
        ..options(&server)
    };
    assert_eq!(JetStreamBus::connect(worker).await.unwrap().syncs_always().await, None);
}

#[tokio::test]
async fn denied_reply_inbox_is_named() {
    let server =
        NatsServer::start(&NatsConfig { extra: WORKER_PERMISSIONS.to_owned(), ..NatsConfig::default() });
    let worker =
        JetStreamOptions { credentials: password("worker", "w"), manage_topology: false, ..options(&server) };
    let worker = JetStreamBus::connect(worker).await.unwrap();
    assert_unusable(
        worker.open_queue(Queue::Shards(Target::Cpu, JobLength::Short)).await.map(drop),
        "subscribe to _INBOX",
    );
}

#[tokio::test]
async fn user_and_password_or_token_of_the_url_are_sent() {
    let extra = "authorization { user: bob, password: \"s/3cr@t\" }".to_owned();
    let server = NatsServer::start(&NatsConfig { extra, ..NatsConfig::default() });
    let url = |user: &str| server.url().replacen("://", &format!("://{user}@"), 1);
    let connect = async |url: String| JetStreamBus::connect(JetStreamOptions::new(url)).await;
    connect(url("bob:s%2F3cr%40t")).await.unwrap();
    assert_unusable(connect(url("bob:wrong")).await, "does not accept these credentials");
    let twice = JetStreamOptions { credentials: password("bob", "x"), ..JetStreamOptions::new(url("bob:x")) };
    assert_unusable(JetStreamBus::connect(twice).await, "both in the URL");

    let extra = "authorization { token: t0ken }".to_owned();
    let server = NatsServer::start(&NatsConfig { extra, ..NatsConfig::default() });
    let url = server.url().replacen("://", "://t0ken@", 1);
    connect(url).await.unwrap();
}

#[tokio::test]
async fn a_renewed_password_is_read_at_the_next_connection() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let config = folder.path().join("nats.conf");
    let write_config = |password: &str| {
        let store = folder.path().join("store");
        let user = format!("authorization {{ user: bob, password: {password} }}");
        std::fs::write(&config, format!("jetstream {{ store_dir: {store:?} }}\n{user}\n")).unwrap();
    };
    write_config("old");
    std::fs::write(&file, "old\n").unwrap();
    let mut server = NatsServer::start(&NatsConfig { file: Some(config.clone()), ..NatsConfig::default() });
    let credentials =
        NatsCredentials::Password { user: "bob".to_owned(), password: Secret::File(file.clone()) };
    let bus = JetStreamBus::connect(JetStreamOptions { credentials, ..options(&server) }).await.unwrap();
    bus.prepare().await.unwrap();
    write_config("new");
    std::fs::write(&file, "new\n").unwrap();
    server.restart();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Err(error) = bus.publish(Message::new(SUBMIT_SUBJECT, ""), "1").await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
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
async fn tls_requires_valid_certificates_on_both_sides() {
    let certificates = Certificates::new();
    let (server, key) = certificates.server();
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        server,
        key,
        certificates.authority()
    );
    let server = NatsServer::start(&NatsConfig { extra: tls, ..NatsConfig::default() });
    let (authority, own) = (Some(certificates.authority()), Some(certificates.client()));
    let with = |tls: TlsOptions| JetStreamOptions { tls, ..options(&server) };
    let encrypted = || TlsOptions { required: true, ..TlsOptions::default() };
    assert_unusable(JetStreamBus::connect(with(encrypted())).await, "no encrypted connection");
    let without_certificate = TlsOptions { ca_file: authority.clone(), ..encrypted() };
    assert!(
        JetStreamBus::connect(with(without_certificate)).await.is_err(),
        "the server requires a certificate"
    );
    let wrong_authority = TlsOptions {
        ca_file: Some(Certificates::new().authority()),
        client_certificate: own.clone(),
        ..encrypted()
    };
    assert_unusable(JetStreamBus::connect(with(wrong_authority)).await, "no encrypted connection");

    let mut trusted = with(TlsOptions { ca_file: authority, client_certificate: own, ..encrypted() });
    trusted.urls = vec![server.url().replace("nats://", "tls://")];
    let bus = JetStreamBus::connect(trusted).await.unwrap();
    bus.prepare().await.unwrap();
    bus.put(&Bucket::default_jobs(), "j", "record".into()).await.unwrap();
    assert!(bus.get(&Bucket::default_jobs(), "j").await.unwrap().is_some());
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

/// A replica that lags behind may answer `DIRECT.GET`; only the leader answers `STREAM.MSG.GET`.
#[tokio::test]
async fn services_read_every_entry_but_programs_from_the_leader() {
    let extra = r#"authorization {
      users = [
        { user: "service", password: "s", permissions { publish: { allow: ">", deny: "$JS.API.DIRECT.GET.>" } } }
      ]
    }"#;
    let server = NatsServer::start(&NatsConfig { extra: extra.to_owned(), ..NatsConfig::default() });
    let credentials = password("service", "s");
    let bus = JetStreamBus::connect(JetStreamOptions { credentials, ..options(&server) }).await.unwrap();
    bus.prepare().await.unwrap();
    let buckets = [Bucket::default_jobs(), Bucket::Agents, Bucket::Workers, Bucket::Quotas, Bucket::Secrets];
    for bucket in buckets {
        let revision = bus.put(&bucket, "a", "1".into()).await.unwrap();
        assert_eq!(bus.get(&bucket, "a").await.unwrap().unwrap().value, Some("1".into()));
        assert_eq!(bus.compare_and_set(&bucket, "a", "2".into(), Some(revision + 1)).await, Ok(None));
        bus.delete(&bucket, "a").await.unwrap();
        assert_eq!(bus.get(&bucket, "a").await, Ok(None));
    }
    // A program is immutable, so any replica may return it.
    assert_unusable(bus.get(&Bucket::Programs, "a").await.map(drop), "DIRECT.GET");
}
