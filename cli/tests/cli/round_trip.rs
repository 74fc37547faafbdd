//! What is computed and stored, and that it is the same however it is computed.

use crate::common::{Place, insurance, keeping_all, read_json, with};
use forge_contract::{agent::AgentId, digest::Digest};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    reduction::merge_results,
    request::Request,
};
use serde_json::{Value, json};

fn result_hash(place: &Place, job: &str) -> String {
    place.manifest(job)["result"].as_str().unwrap().to_owned()
}

#[test]
fn run_replay_and_audit_agree() {
    let place = Place::new();
    let job = keeping_all(insurance("all"));
    let ran = place.run(&job, &["--keep-shards"]).expect(0);
    assert!(ran.stdout.contains("forge replay ") && ran.stderr.is_empty(), "{}", ran.stderr);
    place.objects_are_whole(9);

    let replayed = place.on_manifest("replay", "all", &["--backend", "scalar", "--threads", "1"]).expect(0);
    assert_eq!(replayed.stdout.matches(&result_hash(&place, "all")).count(), 2, "{}", replayed.stdout);
    assert!(replayed.stdout.contains("same result (scalar on 1 thread"), "{}", replayed.stdout);

    let audited = place.on_manifest("audit", "all", &["--reexecute", "3", "--format", "json"]).expect(0);
    let audit: Value = serde_json::from_str(&audited.stdout).unwrap();
    assert_eq!(audit["passed"], true);
    let checks = audit["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["status"] == "ok"), "{audit:#}");
    for name in [
        "replay key",
        "seeds",
        "signatures",
        "Merkle root",
        "re-reduction",
        "verification",
        "manifest signature",
        "re-execution",
        "ept.csv",
    ] {
        assert!(checks.iter().any(|check| check["name"] == name), "{name}: {audit:#}");
    }
}

#[test]
fn the_directory_and_its_page_name_the_job_too() {
    let place = Place::new();
    place.run(&insurance("named"), &[]).expect(0);
    let directory = place.out().join("jobs/named");
    for path in [directory.clone(), directory.join("index.html")] {
        let audited = crate::common::forge().arg("audit").arg(&path).output().unwrap();
        assert!(audited.status.success(), "{}", path.display());
    }
    let page = std::fs::read_to_string(directory.join("index.html")).unwrap();
    let result = format!("../../artifacts/sha256/{}/result.json", result_hash(&place, "named"));
    assert!(page.contains(&result) && directory.join(&result).exists());
    assert!(page.contains("<td>300,000</td>"), "{page}");
}

#[test]
fn json_output_is_exactly_the_stored_result() {
    let place = Place::new();
    let ran = place.run(&insurance("json"), &["--format", "json"]).expect(0);
    assert_eq!(Digest::hash_parts(&[ran.stdout.as_bytes()]).to_hex(), result_hash(&place, "json"));
    assert_eq!(ran.stdout.as_bytes(), std::fs::read(place.artifact("json", "result.json")).unwrap());
    assert_eq!(ran.stderr, "");
}

#[test]
fn threads_and_backends_do_not_change_the_result() {
    let mut names = vec!["scalar".to_owned(), "auto".to_owned(), "simd".to_owned()];
    names.extend(Simd::supported().iter().map(|level| level.name().to_owned()));
    let place = Place::new();
    let envelope = with(insurance("x"), "/artifacts/persist", json!(false));
    let mut results = Vec::new();
    for backend in &names {
        for threads in ["1", "2", "5"] {
            let options = ["--format", "json", "--backend", backend, "--threads", threads];
            results.push(place.run(&envelope, &options).expect(0).stdout);
        }
    }
    results.dedup();
    assert_eq!(results.len(), 1);
    // And it does depend on the seed.
    let other = with(envelope, "/seed/value", json!("another"));
    assert_ne!(place.run(&other, &["--format", "json"]).expect(0).stdout, results[0]);
}

#[test]
fn a_second_run_of_a_job_writes_nothing() {
    let place = Place::new();
    let job = keeping_all(insurance("twice"));
    place.run(&job, &[]).expect(0);
    let (files, manifest) = (place.files(), place.manifest("twice"));
    let again = place.run(&job, &["--threads", "1", "--keep-shards"]).expect(0);
    assert!(again.stdout.contains("same result as stored"), "{}", again.stdout);
    assert_eq!((place.files(), place.manifest("twice")), (files, manifest));
}

#[test]
fn two_jobs_of_one_computation_share_their_result() {
    let place = Place::new();
    place.run(&insurance("one"), &[]).expect(0);
    let second = with(insurance("two"), "/policy/max_agents", json!(1));
    place.run(&second, &[]).expect(0);
    assert_eq!(place.artifact("one", "result.json"), place.artifact("two", "result.json"));
    assert_eq!(place.manifest("one")["replay_key"], place.manifest("two")["replay_key"]);
    // Envelope, executions and metrics are those of each job.
    place.objects_are_whole(7);
}

#[test]
fn a_job_without_an_id_is_named_after_its_envelope() {
    let place = Place::new();
    let mut envelope = insurance("x");
    envelope.as_object_mut().unwrap().remove("ctx");
    place.run(&envelope, &[]).expect(0);
    let ids: Vec<_> = std::fs::read_dir(place.out().join("jobs")).unwrap().collect();
    let id = ids[0].as_ref().unwrap().file_name().into_string().unwrap();
    assert_eq!((ids.len(), id.len()), (1, "job-".len() + 16));
    let manifest = place.manifest(&id);
    assert_eq!(id[4..], manifest["request"].as_str().unwrap()[..16]);
    assert!(place.run(&envelope, &[]).expect(0).stdout.contains("same result as stored"));
}

#[test]
fn what_is_kept_is_what_was_asked_for() {
    let place = Place::new();
    let nothing = with(insurance("none"), "/artifacts/persist", json!(false));
    let ran = place.run(&nothing, &[]).expect(0);
    assert!(ran.stdout.contains("artifacts.persist is false"), "{}", ran.stdout);
    assert!(!place.out().exists());

    let little = with(insurance("little"), "/artifacts/include", json!([]));
    place.run(&little, &[]).expect(0);
    place.objects_are_whole(1);
    let audited = place.on_manifest("audit", "little", &["--reexecute", "1"]).expect(0);
    assert!(audited.stdout.contains("executions.json was not kept"), "{}", audited.stdout);
    place.on_manifest("replay", "little", &[]).expect(0);
}

#[test]
fn records_describe_the_execution() {
    let place = Place::new();
    place.run(&keeping_all(insurance("records")), &["--backend", "scalar", "--threads", "2"]).expect(0);
    let executions = read_json(&place.artifact("records", "executions.json"));
    let shards = executions["executions"].as_array().unwrap();
    assert_eq!(shards.iter().map(|s| s["iterations"].as_u64().unwrap()).sum::<u64>(), 300_000);
    assert!(shards.iter().all(|shard| shard["backend"] == "scalar" && shard["cpu_ms"].as_f64() > Some(0.0)));
    let nkey = |id: &Value| id.as_str().unwrap().parse::<AgentId>().is_ok();
    assert!(shards.iter().all(|shard| nkey(&shard["agent_id"]) && shard["signature"].is_string()));
    assert!(nkey(&place.manifest("records")["signer"]));
    let metrics = read_json(&place.artifact("records", "metrics.json"));
    assert_eq!((&metrics["threads"], &metrics["shards"]), (&json!(2), &json!(5)));
    assert!(metrics["execute_ms"].as_f64() > Some(0.0));
}

#[test]
fn the_exceedance_table_is_that_of_the_result() {
    let place = Place::new();
    place.run(&keeping_all(insurance("ept")), &[]).expect(0);
    let result = read_json(&place.artifact("ept", "result.json"));
    let csv = std::fs::read_to_string(place.artifact("ept", "ept.csv")).unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("SummaryId,EPCalc,EPType,ReturnPeriod,Loss", 41));
    let mut found = 0;
    for exceedance in result["output"]["exceedance"].as_array().unwrap() {
        for (number, figure) in [(1, "oep"), (2, "oep_tvar"), (3, "aep"), (4, "aep_tvar")] {
            let loss = exceedance[figure].as_f64().unwrap();
            let line = format!("1,2,{number},{},{loss}", exceedance["return_period"]);
            found += lines.iter().filter(|&&found| found == line).count();
        }
    }
    assert_eq!(found, 40);
    // A profile without return periods has no such table.
    let eta = include_str!("../../../examples/eta.json");
    let eta = keeping_all(serde_json::from_str(eta).unwrap());
    place.run(&with(eta, "/args/iterations", json!(1000)), &[]).expect(0);
    let names = place.manifest("eta-001")["artifacts"].to_string();
    assert!(!names.contains("ept.csv") && names.contains("report.html"), "{names}");
}

#[test]
fn convergence_ends_a_run_at_the_same_place_for_every_number_of_threads() {
    let place = Place::new();
    let convergence = json!({"metric": "mean", "relative_half_width": 0.01});
    let envelope = with(insurance("x"), "/args/convergence", convergence);
    let envelope =
        with(with(envelope, "/args/iterations", json!(1_000_000_000)), "/ctx/job_id", json!("stop"));
    let stored = place.run(&envelope, &["--threads", "5", "--keep-shards", "--format", "json"]).expect(0);
    let result: Value = serde_json::from_str(&stored.stdout).unwrap();
    assert_eq!(result["iterations"]["stop_reason"], "band_reached");
    let performed = result["iterations"]["performed"].as_u64().unwrap();
    assert!(performed < 10_000_000 && performed.is_multiple_of(65_536), "{performed}");

    let unkept = with(envelope, "/artifacts/persist", json!(false));
    for threads in ["1", "2"] {
        let again = place.run(&unkept, &["--threads", threads, "--format", "json"]).expect(0);
        assert_eq!(again.stdout, stored.stdout);
    }
    place.on_manifest("audit", "stop", &["--reexecute", "1"]).expect(0);
    place.on_manifest("replay", "stop", &["--threads", "1"]).expect(0);
}

#[test]
fn verification_reports_what_it_proves() {
    let place = Place::new();
    let envelope = with(keeping_all(insurance("verified")), "/policy/verify", json!("spotcheck"));
    let envelope = with(envelope, "/policy/verify_ratio", json!(0.5));
    let ran = place.run(&envelope, &[]).expect(0);
    let verifier = Simd::supported().get(1).map_or("scalar", |level| level.name()).to_owned();
    assert!(ran.stdout.contains(&format!("3 of 5 shards again by {verifier}: equal")), "{}", ran.stdout);
    let document = read_json(&place.artifact("verified", "verification.json"));
    assert_eq!((&document["share"], &document["checked"].as_array().map(Vec::len)), (&json!(0.5), &Some(3)));
    assert_eq!(
        document["pairs"],
        json!([{"primary": Simd::new().name(), "primary_hardware": "cpu", "verifier": verifier,
            "verifier_hardware": "cpu", "shards": 3}])
    );
    assert_eq!(document["on_other_hardware"], 0);
    // One of 5 shards is wrong: 3 of 5 draws find it.
    assert!((document["detection"][0]["probability"].as_f64().unwrap() - 0.6).abs() < 1e-12);
}

#[test]
fn a_run_converges_at_the_first_checkpoint_that_says_so() {
    let convergence = json!({"metric": "mean", "relative_half_width": 0.02, "min_iterations": 200_000});
    let envelope = with(insurance("x"), "/args/convergence", convergence);
    let envelope =
        with(with(envelope, "/args/iterations", json!(5_000_000)), "/artifacts/persist", json!(false));
    let ran = Place::new().run(&envelope, &["--format", "json", "--threads", "3"]).expect(0);
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();

    // Straight from the kernel: every prefix that ends at a checkpoint, one after the other.
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let plan = &request.plan;
    let mut monitor = request.monitor().unwrap();
    let stop = plan.checkpoints().iter().find_map(|&checkpoint| {
        let ids = plan.shards().take_while(|&id| plan.range(id).end <= checkpoint);
        let shards: Vec<_> = ids.map(|id| request.shard(id)).collect();
        let results = Simd::new().execute(&request.program, &shards, &()).unwrap();
        let merged = merge_results(&request.program, &results);
        assert_eq!(merged.iterations, checkpoint);
        monitor.test(&merged).map(|reason| (checkpoint, reason))
    });
    let (checkpoint, reason) = stop.unwrap();
    assert!(checkpoint > plan.checkpoints()[0], "the first checkpoint would prove nothing");
    let iterations = &result["iterations"];
    assert_eq!((&iterations["performed"], &iterations["stop_reason"]), (&json!(checkpoint), &json!(reason)));
}
