//! Dashboards and alerts rely on names and labels: the catalog and the encoded text have to agree.

use forge_bus::topology::JobLength;

use super::*;

/// The encoded text of a process that has recorded a value in every family.
fn encoded_text() -> String {
    let metrics = Metrics::new("worker");
    let second = Duration::from_secs(1);
    metrics.set_queue_depth(Queue::Shards(Target::Gpu, JobLength::Short), 7);
    metrics.set_unreadable_messages(5);
    metrics.set_unreadable_messages(4);
    metrics.set_stream_used(Stream::Results, 41);
    metrics.set_bucket_used("jobs", 42);
    metrics.record_message(Queue::Jobs, "retry", second);
    metrics.record_shard("simd-avx2", 65_536, second);
    metrics.record_failed_shard("simd-avx2");
    metrics.count_result(ResultOutcome::Contradiction);
    metrics.count_verification(VerdictOutcome::Refuted);
    metrics.count_quarantined_agent();
    metrics.record_job_end(JobState::Failed, Some(FailureCode::Timeout), &Billing::default(), second);
    metrics.record_job_end(JobState::Completed, None, &Billing::default(), second);
    let active = metrics.track_active_job();
    drop(metrics.track_active_job());
    metrics.count_artifact_write("ok");
    metrics.set_live_agents(Target::Cpu, 3);
    metrics.set_jobs_waiting(2);
    let text = metrics.encode();
    drop(active);
    text
}

#[test]
fn every_recorded_value_is_encoded_with_its_labels() {
    let text = encoded_text();
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        &*format!("forge_up{{service=\"worker\",version=\"{version}\"}} 1"),
        "forge_queue_depth{service=\"worker\",queue=\"shards_gpu\"} 7",
        "forge_unreadable_messages_total{service=\"worker\"} 5",
        "forge_stream_used_percent{service=\"worker\",stream=\"FORGE_RESULTS\"} 41",
        "forge_bucket_used_percent{service=\"worker\",bucket=\"jobs\"} 42",
        "forge_messages_total{service=\"worker\",queue=\"jobs\",outcome=\"retry\"} 1",
        "forge_message_seconds_count{service=\"worker\",queue=\"jobs\"} 1",
        "forge_shards_executed_total{service=\"worker\",backend=\"simd-avx2\",outcome=\"ok\"} 1",
        "forge_shards_executed_total{service=\"worker\",backend=\"simd-avx2\",outcome=\"failed\"} 1",
        "forge_iterations_total{service=\"worker\",backend=\"simd-avx2\"} 65536",
        "forge_shard_seconds_sum{service=\"worker\",backend=\"simd-avx2\"} 1.0",
        "forge_results_total{service=\"worker\",outcome=\"contradiction\"} 1",
        "forge_verifications_total{service=\"worker\",outcome=\"refuted\"} 1",
        "forge_quarantined_agents_total{service=\"worker\"} 1",
        "forge_jobs_total{service=\"worker\",state=\"failed\",code=\"timeout\",billing_mode=\"test\",billing_reason=\"api\"} 1",
        "forge_jobs_total{service=\"worker\",state=\"completed\",code=\"none\",billing_mode=\"test\",billing_reason=\"api\"} 1",
        "forge_job_seconds_count{service=\"worker\",state=\"failed\"} 1",
        "forge_jobs_active{service=\"worker\"} 1",
        "forge_jobs_waiting{service=\"worker\"} 2",
        "forge_artifact_writes_total{service=\"worker\",outcome=\"ok\"} 1",
        "forge_live_agents{service=\"worker\",target=\"cpu\"} 3",
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

/// The families of an encoded text: name, type and labels.
fn encoded_families(text: &str) -> Vec<(String, String, Vec<String>)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, metric_type) = line.split_once(' ').unwrap();
            let suffix = if metric_type == "counter" { "_total" } else { "" };
            let is_sample = |line: &&str| line.strip_prefix(name).is_some_and(|rest| !rest.starts_with(' '));
            let sample = text.lines().find(is_sample).unwrap();
            let labels = sample.split_once('{').unwrap().1.split_once('}').unwrap().0;
            let labels = labels.split(',').map(|label| label.split_once('=').unwrap().0.to_owned());
            let labels = labels.filter(|label| label != "service" && label != "le").collect();
            (format!("{name}{suffix}"), metric_type.to_owned(), labels)
        })
        .collect()
}

#[test]
fn the_catalog_lists_exactly_the_encoded_families() {
    let text = encoded_text();
    let documented = CATALOG.iter().map(|family| {
        let labels = family.labels.iter().map(|&label| label.to_owned()).collect();
        (family.name.to_owned(), family.metric_type.as_str().to_owned(), labels)
    });
    assert_eq!(encoded_families(&text), documented.collect::<Vec<_>>());
    for family in CATALOG {
        let help = format!(" {}.", family.help);
        assert!(text.lines().any(|line| line.starts_with("# HELP ") && line.ends_with(&help)), "{help}");
    }
}
