//! Names and labels are what dashboards and alerts rely on.

use super::*;

fn filled() -> String {
    let metrics = Metrics::new("worker");
    let second = Duration::from_secs(1);
    metrics.set_queue_depth(Queue::Shards(Target::Gpu), 7);
    metrics.record_message(Queue::Jobs, "retry", second);
    metrics.record_shard("simd-avx2", "ok", 65_536, second);
    metrics.count_result(ResultOutcome::Duplicate);
    metrics.count_verification(VerdictOutcome::Refuted);
    metrics.count_quarantined_agent();
    metrics.record_job_end(JobState::Failed, Some(FailureCode::Timeout), &Billing::default(), second);
    metrics.record_job_end(JobState::Completed, None, &Billing::default(), second);
    let active = metrics.track_active_job();
    drop(metrics.track_active_job());
    metrics.count_artifact_write("ok");
    metrics.set_live_agents(Target::Cpu, 3);
    let text = metrics.encode();
    drop(active);
    text
}

#[test]
fn every_series_has_its_documented_name_and_labels() {
    let text = filled();
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        &*format!("forge_up{{service=\"worker\",version=\"{version}\"}} 1"),
        "forge_queue_depth{service=\"worker\",queue=\"shards_gpu\"} 7",
        "forge_messages_total{service=\"worker\",queue=\"jobs\",outcome=\"retry\"} 1",
        "forge_message_seconds_count{service=\"worker\",queue=\"jobs\"} 1",
        "forge_shards_executed_total{service=\"worker\",backend=\"simd-avx2\",outcome=\"ok\"} 1",
        "forge_iterations_total{service=\"worker\",backend=\"simd-avx2\"} 65536",
        "forge_shard_seconds_sum{service=\"worker\",backend=\"simd-avx2\"} 1.0",
        "forge_results_total{service=\"worker\",outcome=\"duplicate\"} 1",
        "forge_verifications_total{service=\"worker\",outcome=\"refuted\"} 1",
        "forge_quarantined_agents_total{service=\"worker\"} 1",
        "forge_jobs_total{service=\"worker\",state=\"failed\",code=\"timeout\",billing_mode=\"test\",billing_reason=\"api\"} 1",
        "forge_jobs_total{service=\"worker\",state=\"completed\",code=\"none\",billing_mode=\"test\",billing_reason=\"api\"} 1",
        "forge_job_seconds_count{service=\"worker\",state=\"failed\"} 1",
        "forge_jobs_active{service=\"worker\"} 1",
        "forge_artifact_writes_total{service=\"worker\",outcome=\"ok\"} 1",
        "forge_live_agents{service=\"worker\",target=\"cpu\"} 3",
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_table_above_names_every_series() {
    let source = include_str!("../metrics.rs");
    let text = filled();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = if kind == "counter" { "_total" } else { "" };
        assert!(source.contains(&format!("//! | `{name}{suffix}` | {kind} |")), "{name}, a {kind}");
    }
}
