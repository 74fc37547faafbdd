//! Who may connect to a server, and what they may do there: users, passwords, certificates and
//! permissions.

use std::time::Duration;

use forge_bus::{
    Bus, BusError, JetStreamBus, Message,
    jetstream::{JetStreamOptions, NatsCredentials, Secret, TlsOptions},
    topology::{self, Bucket, JobLength, Queue, SUBMIT_SUBJECT},
};
use forge_contract::{
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use forge_harness::{Certificates, NatsConfig, NatsServer};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::{assert_unusable, options, password};

/// Users of one account: a planner without restrictions, and a worker with the permissions of its
/// role.
pub(super) const WORKER_PERMISSIONS: &str = r#"
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
