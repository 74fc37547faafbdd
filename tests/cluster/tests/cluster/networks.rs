//! Networks that partition, delay and cut connections, between real servers and the services.

use std::{thread, time::Duration};

use forge_harness::{FaultyProxy, NatsCluster, S3Server};

use crate::{
    bus_observer::BusObserver,
    job_mix::{
        assert_all_complete, eta_envelope, job_id, mixed_jobs, spawn_slow_services, submit_all,
        wait_for_shards,
    },
    support::{Cluster, TestStore, insurance_envelope},
};

/// Time for which a server or a network is away.
const OUTAGE: Duration = Duration::from_secs(4);

/// Starts the services on these of three NATS servers.
fn start_on(urls: String) -> Cluster {
    let mut cluster = Cluster::empty(TestStore::Directory);
    cluster.environment.push(("FORGE_REPLICAS".to_owned(), "3".to_owned()));
    use_servers(&mut cluster, urls);
    spawn_slow_services(&mut cluster);
    cluster
}

/// Lets the processes that are started from now on connect to these servers.
fn use_servers(cluster: &mut Cluster, urls: String) {
    cluster.environment.retain(|(name, _)| name != "FORGE_NATS_URL");
    cluster.environment.push(("FORGE_NATS_URL".to_owned(), urls));
}

/// Each of three servers is separated from the others in turn, so that the leaders are among them.
/// Services stay connected to a server that cannot store anything.
#[test]
fn jobs_survive_the_isolation_of_each_nats_server() {
    let servers = NatsCluster::start("");
    let mut cluster = start_on(servers.urls());
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs("isolated");
    submit_all(&cluster, &envelopes);
    for (server, shards) in [20, 60, 100].into_iter().enumerate() {
        wait_for_shards(&cluster, job_id(&envelopes[0]), shards);
        servers.isolate(server);
        thread::sleep(OUTAGE);
        servers.heal();
    }
    let late = eta_envelope("late", 5);
    cluster.submit(&late);
    assert_all_complete(&cluster, &observer, &envelopes);
    assert_all_complete(&cluster, &observer, &[late]);
    cluster.assert_services_run();
    observer.assert_drained_by_janitor();
}

/// Each of three servers, one of which leads, is killed in turn, both with the default of
/// `sync_interval`, two minutes, and with the durable setting.
#[test]
fn jobs_survive_the_kill_of_each_nats_server() {
    for jetstream in ["", "sync_interval: always"] {
        let mut servers = NatsCluster::start(jetstream);
        let mut cluster = start_on(servers.urls());
        let observer = BusObserver::connect(&cluster);
        let envelopes = mixed_jobs("killed");
        submit_all(&cluster, &envelopes);
        for (server, shards) in [20, 60, 100].into_iter().enumerate() {
            wait_for_shards(&cluster, job_id(&envelopes[0]), shards);
            servers.servers[server].kill();
            thread::sleep(OUTAGE);
            servers.servers[server].restart();
        }
        assert_all_complete(&cluster, &observer, &envelopes);
        cluster.assert_services_run();
        observer.assert_drained_by_janitor();
    }
}

#[test]
fn jobs_survive_slow_cut_and_silent_connections_to_nats() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let proxy = FaultyProxy::start(cluster.nats.port());
    use_servers(&mut cluster, format!("nats://127.0.0.1:{}", proxy.port()));
    spawn_slow_services(&mut cluster);
    let observer = BusObserver::connect(&cluster);
    let envelopes = mixed_jobs("network");
    submit_all(&cluster, &envelopes);
    let first = job_id(&envelopes[0]);
    wait_for_shards(&cluster, first, 10);
    proxy.set_delay(Duration::from_millis(150));
    wait_for_shards(&cluster, first, 30);
    proxy.set_delay(Duration::ZERO);
    for shards in [40, 50, 60, 70] {
        proxy.cut();
        wait_for_shards(&cluster, first, shards);
    }
    for shards in [80, 90, 100, 110] {
        proxy.cut_in_half(2);
        wait_for_shards(&cluster, first, shards);
    }
    proxy.partition();
    thread::sleep(OUTAGE);
    proxy.heal();
    assert_all_complete(&cluster, &observer, &envelopes);
    cluster.assert_services_run();
    observer.assert_drained_by_janitor();
}

#[test]
fn artifacts_survive_slow_cut_and_silent_connections_to_the_store() {
    let server = S3Server::shared();
    let proxy = FaultyProxy::start(server.port());
    let mut cluster = Cluster::empty(TestStore::S3(server));
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    cluster.environment.push(("AWS_ENDPOINT_URL".to_owned(), endpoint));
    spawn_slow_services(&mut cluster);
    let observer = BusObserver::connect(&cluster);
    for disturbance in ["delay", "cut", "half", "silence"] {
        let envelopes = [insurance_envelope(disturbance, 4), eta_envelope(&format!("{disturbance}-too"), 4)];
        match disturbance {
            "delay" => proxy.set_delay(Duration::from_millis(200)),
            "half" => proxy.cut_in_half(3),
            "silence" => proxy.partition(),
            _ => {}
        }
        submit_all(&cluster, &envelopes);
        if disturbance == "cut" {
            for _ in 0..20 {
                proxy.cut();
                thread::sleep(Duration::from_millis(50));
            }
        }
        if disturbance == "silence" {
            thread::sleep(OUTAGE);
            proxy.heal();
        }
        assert_all_complete(&cluster, &observer, &envelopes);
        proxy.set_delay(Duration::ZERO);
    }
    cluster.assert_services_run();
    observer.assert_drained_by_janitor();
}

/// A server that stays cut off from the others accepts connections and serves nothing. Services
/// that are connected to it go to another one, although they were given only this one.
#[test]
fn services_leave_a_nats_server_that_stays_isolated() {
    let servers = NatsCluster::start("");
    let mut cluster = start_on(servers.servers[0].url());
    let before = eta_envelope("before", 2);
    cluster.submit(&before);
    cluster.assert_completes(&before);
    servers.isolate(0);
    use_servers(&mut cluster, servers.servers[1].url());
    let during = insurance_envelope("during", 20);
    cluster.submit(&during);
    cluster.assert_completes(&during);
    cluster.assert_services_run();
}
