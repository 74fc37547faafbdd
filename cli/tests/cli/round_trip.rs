//! What a run computes and stores, and that neither depends on how the job is executed.

use crate::common::{
    CommandOutput, Sandbox, forge, insurance_envelope, read_json, with_all_artifacts, with_value,
};
use forge_contract::{agent::AgentId, digest::Digest};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    reduction::merge_results,
    request::Request,
};
use serde_json::{Value, json};

fn result_hash(sandbox: &Sandbox, job: &str) -> String {
    sandbox.manifest(job)["result"].as_str().unwrap().to_owned()
}

#[test]
fn run_replay_and_audit_agree() {
    let sandbox = Sandbox::new();
    let job = with_all_artifacts(insurance_envelope("all"));
    let output = sandbox.run(&job, &[]).expect_code(0);
    assert!(output.stdout.contains("forge replay ") && output.stderr.is_empty(), "{}", output.stderr);
    sandbox.assert_objects_intact(9);

    let replayed =
        sandbox.run_on_job("replay", "all", &["--backend", "scalar", "--threads", "1"]).expect_code(0);
    assert_eq!(replayed.stdout.matches(&result_hash(&sandbox, "all")).count(), 2, "{}", replayed.stdout);
    assert!(replayed.stdout.contains("same result (scalar on 1 thread"), "{}", replayed.stdout);

    let audited =
        sandbox.run_on_job("audit", "all", &["--reexecute", "3", "--format", "json"]).expect_code(0);
    let audit: Value = serde_json::from_str(&audited.stdout).unwrap();
    assert_eq!((&audit["passed"], &audit["verdict"]), (&json!(true), &json!("consistent")));
    let checks = audit["checks"].as_array().unwrap();
    let open =
        ["executions.json reports", "metrics.json reports", "verification.json reports", "signers", "log"];
    assert_eq!(audit["not_compared"], json!(open), "{audit:#}");
    assert!(
        checks.iter().all(|check| check["status"] == "ok" || open.iter().any(|name| check["name"] == *name))
    );
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
fn job_can_be_named_by_its_directory_or_index_page() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("named"), &[]).expect_code(0);
    let directory = sandbox.store_path().join("jobs/named");
    for path in [directory.clone(), directory.join("index.html")] {
        let audited = crate::common::forge().arg("audit").arg(&path).output().unwrap();
        assert!(audited.status.success(), "{}", path.display());
    }
    let page = std::fs::read_to_string(directory.join("index.html")).unwrap();
    let result = format!("../../artifacts/sha256/{}/result.json", result_hash(&sandbox, "named"));
    assert!(page.contains(&result) && directory.join(&result).exists());
    assert!(page.contains("<td>300,000</td>"), "{page}");
}

#[test]
fn index_page_of_a_portfolio_has_the_tables_of_the_summary() {
    let sandbox = Sandbox::new();
    let portfolio = serde_json::from_str(include_str!("../../../examples/portfolio.json")).unwrap();
    let portfolio = with_value(portfolio, "/args/iterations", json!(20_000));
    let text = sandbox.run(&portfolio, &[]).expect_code(0).stdout;
    let page = sandbox.store_path().join("jobs/portfolio-001/index.html");
    let page = std::fs::read_to_string(page).unwrap();
    let mut rows = 0;
    for title in ["Lines before treaties", "All lines, step by step", "Treaties, what they pay in a year"] {
        let table = text.split("\n\n").find(|section| section.starts_with(title)).unwrap();
        let (title, lines) = table.split_once('\n').unwrap();
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}: {page}");
        for line in lines.lines().skip(1) {
            let cells: Vec<_> =
                line.trim().split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
            let row = format!("<tr><th>{}</th><td>{}</td></tr>", cells[0], cells[1..].join("</td><td>"));
            assert!(page.contains(&row), "{row}: {page}");
            rows += 1;
        }
    }
    // Three lines and all of them; before and after three steps; five treaties.
    assert_eq!(rows, 4 + 4 + 5);
    let audited =
        sandbox.run_on_job("audit", "portfolio-001", &["--full", "--format", "json"]).expect_code(0);
    let audit: Value = serde_json::from_str(&audited.stdout).unwrap();
    let checks = audit["checks"].as_array().unwrap();
    assert!(
        checks.iter().any(|check| check["name"] == "index.html content" && check["status"] == "ok"),
        "{audit:#}"
    );
}

#[test]
fn json_output_equals_the_stored_result() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&insurance_envelope("json"), &["--format", "json"]).expect_code(0);
    assert_eq!(Digest::hash_parts(&[output.stdout.as_bytes()]).to_hex(), result_hash(&sandbox, "json"));
    assert_eq!(output.stdout.as_bytes(), std::fs::read(sandbox.artifact("json", "result.json")).unwrap());
    assert_eq!(output.stderr, "");
}

#[test]
fn threads_and_backends_do_not_change_the_result() {
    let mut names = vec!["scalar".to_owned(), "auto".to_owned(), "simd".to_owned()];
    names.extend(Simd::supported().iter().map(|level| level.name().to_owned()));
    let sandbox = Sandbox::new();
    let envelope = with_value(insurance_envelope("x"), "/artifacts/persist", json!(false));
    let mut results = Vec::new();
    for backend in &names {
        for threads in ["1", "2", "5"] {
            let options = ["--format", "json", "--backend", backend, "--threads", threads];
            results.push(sandbox.run(&envelope, &options).expect_code(0).stdout);
        }
    }
    results.dedup();
    assert_eq!(results.len(), 1);
    // The result does depend on the seed.
    let other = with_value(envelope, "/seed/value", json!("another"));
    assert_ne!(sandbox.run(&other, &["--format", "json"]).expect_code(0).stdout, results[0]);
}

#[test]
fn second_run_of_a_job_writes_nothing() {
    let sandbox = Sandbox::new();
    let job = with_all_artifacts(insurance_envelope("twice"));
    sandbox.run(&job, &[]).expect_code(0);
    let (files, manifest) = (sandbox.files(), sandbox.manifest("twice"));
    let second = sandbox.run(&job, &["--threads", "1"]).expect_code(0);
    assert!(second.stdout.contains("same result as stored"), "{}", second.stdout);
    assert_eq!((sandbox.files(), sandbox.manifest("twice")), (files, manifest));
}

#[test]
fn jobs_with_the_same_computation_share_their_result() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("one"), &[]).expect_code(0);
    let second = with_value(insurance_envelope("two"), "/policy/max_agents", json!(1));
    sandbox.run(&second, &[]).expect_code(0);
    assert_eq!(sandbox.artifact("one", "result.json"), sandbox.artifact("two", "result.json"));
    assert_eq!(sandbox.manifest("one")["replay_key"], sandbox.manifest("two")["replay_key"]);
    // Each job has its own envelope, executions, metrics and report; result, exceedance table and
    // shard results are shared.
    sandbox.assert_objects_intact(11);
}

#[test]
fn job_without_an_id_is_named_after_its_envelope_digest() {
    let sandbox = Sandbox::new();
    let mut envelope = insurance_envelope("x");
    envelope.as_object_mut().unwrap().remove("ctx");
    sandbox.run(&envelope, &[]).expect_code(0);
    let ids: Vec<_> = std::fs::read_dir(sandbox.store_path().join("jobs")).unwrap().collect();
    let id = ids[0].as_ref().unwrap().file_name().into_string().unwrap();
    assert_eq!((ids.len(), id.len()), (1, "job-".len() + 16));
    let manifest = sandbox.manifest(&id);
    assert_eq!(id[4..], manifest["request"].as_str().unwrap()[..16]);
    assert!(sandbox.run(&envelope, &[]).expect_code(0).stdout.contains("same result as stored"));
}

#[test]
fn only_requested_artifacts_are_kept() {
    let sandbox = Sandbox::new();
    let nothing = with_value(insurance_envelope("none"), "/artifacts/persist", json!(false));
    let output = sandbox.run(&nothing, &[]).expect_code(0);
    assert!(output.stdout.contains("artifacts.persist is false"), "{}", output.stdout);
    assert!(!sandbox.store_path().exists());

    let little = with_value(insurance_envelope("little"), "/artifacts/include", json!([]));
    sandbox.run(&little, &["--keep-shards=0"]).expect_code(0);
    sandbox.assert_objects_intact(1);
    // Nothing is recorded that one shard could be compared with. All of them give the result.
    let audited = sandbox.run_on_job("audit", "little", &["--reexecute", "1"]).expect_code(5);
    assert!(audited.stdout.starts_with("consistent: "), "{}", audited.stdout);
    assert!(audited.stderr.contains("neither executions.json nor shards.bin was kept"), "{}", audited.stderr);
    let proved = sandbox.run_on_job("audit", "little", &["--full"]).expect_code(0);
    assert!(proved.stdout.starts_with("proved: "), "{}", proved.stdout);
    sandbox.run_on_job("replay", "little", &[]).expect_code(0);
}

#[test]
fn execution_records_describe_the_run() {
    let sandbox = Sandbox::new();
    sandbox
        .run(&with_all_artifacts(insurance_envelope("records")), &["--backend", "scalar", "--threads", "2"])
        .expect_code(0);
    let executions = read_json(&sandbox.artifact("records", "executions.json"));
    let shards = executions["executions"].as_array().unwrap();
    assert_eq!(shards.iter().map(|s| s["iterations"].as_u64().unwrap()).sum::<u64>(), 300_000);
    assert!(shards.iter().all(|shard| shard["backend"] == "scalar" && shard["cpu_ms"].as_f64() > Some(0.0)));
    let nkey = |id: &Value| id.as_str().unwrap().parse::<AgentId>().is_ok();
    assert!(shards.iter().all(|shard| nkey(&shard["agent_id"]) && shard["signature"].is_string()));
    assert!(nkey(&sandbox.manifest("records")["signer"]));
    let metrics = read_json(&sandbox.artifact("records", "metrics.json"));
    assert_eq!((&metrics["threads"], &metrics["shards"]), (&json!(2), &json!(5)));
    assert!(metrics["execute_ms"].as_f64() > Some(0.0));
}

#[test]
fn exceedance_table_matches_the_result() {
    let sandbox = Sandbox::new();
    sandbox.run(&with_all_artifacts(insurance_envelope("ept")), &[]).expect_code(0);
    let result = read_json(&sandbox.artifact("ept", "result.json"));
    let csv = std::fs::read_to_string(sandbox.artifact("ept", "ept.csv")).unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!((lines[0], lines.len()), ("SummaryId,EPCalc,EPType,ReturnPeriod,Loss", 41));
    let mut found = 0;
    for exceedance in result["output"]["exceedance"].as_array().unwrap() {
        for (number, figure) in [(1, "/oep/var"), (2, "/oep/tvar"), (3, "/aep/var"), (4, "/aep/tvar")] {
            let loss = exceedance.pointer(figure).unwrap().as_f64().unwrap();
            let line = format!("1,2,{number},{},{loss}", exceedance["return_period"]);
            found += lines.iter().filter(|&&found| found == line).count();
        }
    }
    assert_eq!(found, 40);
    // A profile without return periods has no exceedance table.
    let eta = include_str!("../../../examples/eta.json");
    let eta = with_all_artifacts(serde_json::from_str(eta).unwrap());
    sandbox.run(&with_value(eta, "/args/iterations", json!(1000)), &[]).expect_code(0);
    let names = sandbox.manifest("eta-001")["artifacts"].to_string();
    assert!(!names.contains("ept.csv") && names.contains("report.html"), "{names}");
}

#[test]
fn run_converges_at_the_same_iteration_on_any_number_of_threads() {
    let sandbox = Sandbox::new();
    let convergence = json!({"metric": "mean", "relative_half_width": 0.01});
    let envelope = with_value(insurance_envelope("x"), "/args/convergence", convergence);
    let envelope = with_value(
        with_value(envelope, "/args/iterations", json!(1_000_000_000)),
        "/ctx/job_id",
        json!("stop"),
    );
    let stored = sandbox.run(&envelope, &["--threads", "5", "--format", "json"]).expect_code(0);
    let result: Value = serde_json::from_str(&stored.stdout).unwrap();
    assert_eq!(result["iterations"]["stop_reason"], "band_reached");
    let performed = result["iterations"]["performed"].as_u64().unwrap();
    assert!(performed < 10_000_000 && performed.is_multiple_of(65_536), "{performed}");

    let unkept = with_value(envelope, "/artifacts/persist", json!(false));
    for threads in ["1", "2"] {
        let second = sandbox.run(&unkept, &["--threads", threads, "--format", "json"]).expect_code(0);
        assert_eq!(second.stdout, stored.stdout);
    }
    sandbox.run_on_job("audit", "stop", &["--reexecute", "1"]).expect_code(0);
    sandbox.run_on_job("replay", "stop", &["--threads", "1"]).expect_code(0);
}

#[test]
fn verification_document_states_the_probability_that_a_wrong_result_ships() {
    let sandbox = Sandbox::new();
    let envelope =
        with_value(with_all_artifacts(insurance_envelope("verified")), "/policy/verify", json!("spotcheck"));
    let envelope = with_value(envelope, "/policy/verify_ratio", json!(0.5));
    let output = sandbox.run(&envelope, &[]).expect_code(0);
    let verifier = Simd::supported().get(1).map_or("scalar", |level| level.name()).to_owned();
    assert!(
        output.stdout.contains(&format!("3 of 5 shards re-executed by {verifier}: all equal")),
        "{}",
        output.stdout
    );
    let document = read_json(&sandbox.artifact("verified", "verification.json"));
    assert_eq!((&document["share"], &document["checked"].as_array().map(Vec::len)), (&json!(0.5), &Some(3)));
    assert_eq!(
        document["pairs"],
        json!([{"primary": Simd::new().name(), "primary_hardware": "cpu", "verifier": verifier,
            "verifier_hardware": "cpu", "shards": 3}])
    );
    assert_eq!(document["on_other_hardware"], 0);
    assert_eq!(document["drawn"], 3);
    // One wrong shard of 5 ships if it is not among the 3 that were drawn.
    let escape = &document["escape"][0];
    assert_eq!((&escape["pools"], &escape["wrong_shards"]), (&json!(1), &json!(1)));
    assert!((escape["probability"].as_f64().unwrap() - 0.4).abs() < 1e-12);
}

#[test]
fn run_stops_at_the_first_converged_checkpoint() {
    let convergence = json!({"metric": "mean", "relative_half_width": 0.02, "min_iterations": 200_000});
    let envelope = with_value(insurance_envelope("x"), "/args/convergence", convergence);
    let envelope = with_value(
        with_value(envelope, "/args/iterations", json!(5_000_000)),
        "/artifacts/persist",
        json!(false),
    );
    let output = Sandbox::new().run(&envelope, &["--format", "json", "--threads", "3"]).expect_code(0);
    let result: Value = serde_json::from_str(&output.stdout).unwrap();

    // Computed independently with the kernel: every prefix that ends at a checkpoint, in order.
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
    assert!(checkpoint > plan.checkpoints()[0], "converging at the first checkpoint would prove nothing");
    let iterations = &result["iterations"];
    assert_eq!((&iterations["performed"], &iterations["stop_reason"]), (&json!(checkpoint), &json!(reason)));
}

/// The variance of its losses exceeds 2^53, where JSON readers of integers and of floats differ.
#[test]
fn portfolios_with_large_variances_are_audited_and_compared() {
    let severity = json!({"lognormal": {"mean": 1_000_000_000, "cv": 2}});
    let args = json!({
        "iterations": 1000,
        "lines": ["property"],
        "groups": [{"name": "storm", "count": {"poisson": 0.5}, "claims": [{"line": "property", "severity": severity}]}],
    });
    let envelope = json!({
        "ctx": {"job_id": "large"},
        "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "args": args,
    });
    let sandbox = Sandbox::new();
    sandbox.run(&envelope, &[]).expect_code(0);
    let result = read_json(&sandbox.artifact("large", "result.json"));
    assert!(
        result["output"]["checks"]["groups"][0]["gross"]["variance"]["found"].as_f64().unwrap() > 1e17,
        "{result:#}"
    );
    let audit = sandbox.run_on_job("audit", "large", &["--full"]).expect_code(0);
    assert!(audit.stdout.starts_with("proved"), "{}", audit.stdout);
    sandbox.run_on_job("audit", "large", &[]).expect_code(0);
    sandbox.run_on_job("explain", "large", &["--no-progress"]).expect_code(0);
    let manifest = sandbox.manifest_path("large");
    let diff = forge().arg("diff").args([&manifest, &manifest]).output().unwrap();
    CommandOutput::new(&diff).expect_code(0);
}
