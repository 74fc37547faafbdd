//! The metrics that running services expose are exactly those of the documented catalog.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use forge_service::metrics::{CATALOG, MetricType};
use serde_json::json;

use crate::{
    service_operations::http_get,
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope, with_field},
};

/// Type and labels of a scraped family, without the label `service` of every family.
#[derive(Debug, PartialEq, Eq)]
struct ScrapedFamily {
    metric_type: String,
    labels: BTreeSet<String>,
}

/// The families of a scrape, by full name. Families without a sample are left out.
fn parse_families(scrape: &str) -> BTreeMap<String, ScrapedFamily> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let families = types.filter_map(|(name, metric_type)| {
        let sample_name = match metric_type {
            "counter" => format!("{name}_total"),
            "histogram" => format!("{name}_count"),
            _ => name.to_owned(),
        };
        let mut lines = scrape.lines();
        let labels =
            lines.find_map(|line| line.strip_prefix(&sample_name)?.strip_prefix('{')?.split_once('}'));
        let labels = labels?.0.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        let labels = labels.filter(|label| label != "service").collect();
        let full_name = if metric_type == "counter" { sample_name } else { name.to_owned() };
        Some((full_name, ScrapedFamily { metric_type: metric_type.to_owned(), labels }))
    });
    families.collect()
}

#[test]
fn services_expose_exactly_the_documented_metrics() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let mut ports = Vec::new();
    for service in ["planner", "aggregator", "verifier", "worker"] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        cluster.spawn(service, &[service, "--http", &format!("127.0.0.1:{port}")]);
        ports.push(port);
    }
    let envelope = with_field(insurance_envelope("measured", 6), "/policy/verify", json!("full"));
    cluster.submit(&envelope);
    cluster.assert_completes(&envelope);

    let documented: BTreeMap<_, _> = CATALOG
        .iter()
        .map(|family| {
            let labels = family.labels.iter().map(|&label| label.to_owned()).collect();
            let metric_type = match family.metric_type {
                MetricType::Counter => "counter",
                MetricType::Gauge => "gauge",
                MetricType::Histogram => "histogram",
            };
            (family.name.to_owned(), ScrapedFamily { metric_type: metric_type.to_owned(), labels })
        })
        .collect();
    // Gauges are updated periodically, so the first scrape may come before some of them exist.
    let started = Instant::now();
    loop {
        let scrapes = ports.iter().filter_map(|port| Some(http_get(*port, "/metrics")?.1));
        let scraped: BTreeMap<_, _> = scrapes.flat_map(|scrape| parse_families(&scrape)).collect();
        if scraped == documented {
            return;
        }
        if started.elapsed() > WAIT_LIMIT / 4 {
            assert_eq!(scraped, documented, "{}", cluster.logs());
        }
        thread::sleep(Duration::from_millis(200));
    }
}
