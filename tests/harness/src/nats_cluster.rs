//! Three NATS servers that form a cluster, and the network between them.

use crate::{
    nats::{NatsConfig, NatsServer},
    process::free_ports,
    proxy::FaultyProxy,
};

/// Three servers with JetStream. Every route between two of them leads through a proxy.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers, each of which can be killed and restarted.
    pub servers: [NatsServer; 3],
    links: [RouteLink; 3],
}

/// The route between two servers.
#[derive(Debug)]
struct RouteLink {
    ends: [usize; 2],
    proxy: FaultyProxy,
}

impl NatsCluster {
    /// Starts the servers and waits until they accept clients. `jetstream` is as in
    /// [`NatsConfig`].
    ///
    /// # Panics
    /// If a server does not start; the message contains the end of its log.
    pub fn start(jetstream: &str) -> Self {
        let ports: [u16; 3] = free_ports();
        // The first server of a pair opens their route. Each opens one: without any, a server does
        // not join a cluster.
        let links = [[0, 1], [1, 2], [2, 0]]
            .map(|ends| RouteLink { ends, proxy: FaultyProxy::start(ports[ends[1]]) });
        let servers = [0, 1, 2].map(|server| {
            let routes = links.iter().filter(|link| link.ends[0] == server);
            let routes: Vec<_> =
                routes.map(|link| format!("\"nats://127.0.0.1:{}\"", link.proxy.port())).collect();
            // Servers tell each other their addresses. This one leads nowhere, so that no route
            // goes past the proxies.
            let extra = format!(
                "server_name: server-{server}\ncluster {{\nname: tests\nlisten: \"127.0.0.1:{}\"\n\
                 advertise: \"127.0.0.1:9\"\npool_size: -1\nroutes: [{}]\n}}\n",
                ports[server],
                routes.join(", ")
            );
            let jetstream = jetstream.to_owned();
            NatsServer::start(&NatsConfig { jetstream, extra, ..NatsConfig::default() })
        });
        Self { servers, links }
    }

    /// The URLs of all servers, separated by commas.
    pub fn urls(&self) -> String {
        self.servers.each_ref().map(NatsServer::url).join(",")
    }

    /// Separates a server from the two others. Clients still reach it.
    pub fn isolate(&self, server: usize) {
        let links = self.links.iter().filter(|link| link.ends.contains(&server));
        links.for_each(|link| link.proxy.partition());
    }

    /// Ends all partitions.
    pub fn heal(&self) {
        self.links.iter().for_each(|link| link.proxy.heal());
    }
}
