//! `forge years`, against a brute force that uses results alone: the total of a year is the
//! difference of the sums over two numbers of years.

use forge_contract::shard::{Shard, ShardId};
use forge_kernel::{
    backend::{Backend, scalar::Scalar},
    request::Request,
};
use serde_json::{Value, json};

use crate::common::{Sandbox, insurance_envelope, read_json, with_value};

/// An envelope of a profile with few years.
fn small_envelope(profile: &str, years: u64) -> Value {
    let envelope = match profile {
        "insurance.v1" => with_value(insurance_envelope("x"), "/args/aggregate_limit", json!(4000)),
        "eta.v1" => json!({
            "ctx": {"job_id": "x"},
            "op": {"name": "mc", "version": 1, "profile": "eta.v1"},
            "args": {"base_eta": 30, "traffic_mean": 5, "traffic_std": 2, "weather_prob": 0.3,
                "weather_mean": 4, "weather_std": 1}
        }),
        _ => portfolio_envelope("x"),
    };
    with_value(envelope, "/args/iterations", json!(years))
}

/// The portfolio of the examples.
pub fn portfolio_envelope(job: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/portfolio.json");
    with_value(read_json(&path), "/ctx/job_id", json!(job))
}

/// The totals of the first years of a run, in minor units.
fn totals(envelope: &Value, years: u64) -> Vec<u64> {
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let sum_of = |iterations| {
        let first = request.shard(ShardId { height: 0, index: 0 });
        let shard = Shard { iterations, ..first };
        Scalar.execute(&request.program, &[shard], &()).unwrap()[0].sum
    };
    let sums: Vec<u128> = (0..=years).map(sum_of).collect();
    sums.windows(2).map(|sums| (sums[1] - sums[0]) as u64).collect()
}

/// An amount of CSV in minor units.
pub fn minor_units(text: &str) -> u64 {
    text.replace('.', "").parse().unwrap()
}

/// The rows of CSV, without the header.
pub fn rows(csv: &str) -> Vec<Vec<&str>> {
    csv.lines().skip(1).map(|line| line.split(',').collect()).collect()
}

/// The position of a column of CSV.
pub fn column(csv: &str, name: &str) -> usize {
    csv.lines().next().unwrap().split(',').position(|column| column == name).unwrap()
}

/// Number and net amount of each row.
fn net_by_year(csv: &str) -> Vec<(u64, u64)> {
    let (year, net) = (column(csv, "year"), column(csv, "net"));
    rows(csv).iter().map(|row| (row[year].parse().unwrap(), minor_units(row[net]))).collect()
}

#[test]
fn rows_of_every_profile_are_those_of_brute_force() {
    const YEARS: u64 = 1200;
    for profile in ["insurance.v1", "eta.v1", "risk.compound.v1"] {
        let (sandbox, envelope) = (Sandbox::new(), small_envelope(profile, YEARS));
        sandbox.run(&envelope, &[]).expect_code(0);
        let totals = totals(&envelope, YEARS);
        let numbered: Vec<(u64, u64)> = (0..).zip(totals.iter().copied()).collect();
        let list = |conditions: &str, options: &[&str]| {
            let options = [&["--where", conditions, "--format", "csv"], options].concat();
            net_by_year(&sandbox.run_on_job("years", "x", &options).expect_code(0).stdout)
        };
        assert_eq!(list("net >= 0", &["--limit", "5000"]), numbered, "{profile}");
        assert_eq!(list("net >= 0", &["--limit", "7"]), numbered[..7], "{profile}");
        let (low, high) = (sorted(&totals)[600], sorted(&totals)[1000]);
        let units = if profile == "eta.v1" { 1000.0 } else { 100.0 };
        let conditions = format!("net > {} and net <= {}", low as f64 / units, high as f64 / units);
        let expected: Vec<_> =
            numbered.iter().copied().filter(|(_, net)| (low + 1..=high).contains(net)).collect();
        assert!(!expected.is_empty());
        assert_eq!(list(&conditions, &[]), expected, "{profile}: {conditions}");
        // The largest ones, of equal ones that with the smaller number first.
        let options = ["--top", "1000", "--format", "csv"];
        let top = net_by_year(&sandbox.run_on_job("explain", "x", &options).expect_code(0).stdout);
        let mut ranked = numbered;
        ranked.sort_by_key(|&(year, net)| (std::cmp::Reverse(net), year));
        assert_eq!(top, ranked[..1000], "{profile}");
        if profile == "insurance.v1" {
            assert!(ranked[0].1 == ranked[20].1, "some years are at the limit");
        }
    }
}

fn sorted(amounts: &[u64]) -> Vec<u64> {
    let mut sorted = amounts.to_vec();
    sorted.sort_unstable();
    sorted
}

#[test]
fn rows_do_not_depend_on_threads_or_on_what_the_job_kept() {
    let (kept, without) = (Sandbox::new(), Sandbox::new());
    kept.run(&insurance_envelope("x"), &[]).expect_code(0);
    let nothing = with_value(insurance_envelope("x"), "/artifacts/include", json!([]));
    without.run(&nothing, &["--keep-shards=0"]).expect_code(0);
    let list = |sandbox: &Sandbox, options: &[&str]| {
        let options = [&["--where", "net > 150000 and largest < 1e6", "--no-progress"], options].concat();
        sandbox.run_on_job("years", "x", &options).expect_code(0)
    };
    let csv = list(&kept, &["--format", "csv", "--threads", "1"]).stdout;
    assert!(rows(&csv).len() > 50, "{csv}");
    assert_eq!(csv, list(&kept, &["--format", "csv", "--threads", "7"]).stdout);
    assert_eq!(csv, list(&without, &["--format", "csv"]).stdout);
    let json: Value = serde_json::from_str(&list(&kept, &["--format", "json"]).stdout).unwrap();
    assert_eq!((&json["schema"], &json["years"]), (&json!("forge.years.v1"), &json!(300_000)));
    assert_eq!((&json["compared_with"], &json["limit_reached"]), (&json!("result"), &json!(false)));
    assert_eq!(json["rows"].as_array().unwrap().len(), rows(&csv).len());
    let first = &json["rows"][0];
    assert_eq!(first["net"].as_f64(), rows(&csv)[0][column(&csv, "net")].parse().ok());
    // With a limit, the pass ends with a shard, and its result was recorded.
    let limited: Value =
        serde_json::from_str(&list(&kept, &["--format", "json", "--limit", "1"]).stdout).unwrap();
    assert_eq!((&limited["recomputed"], &limited["limit_reached"]), (&json!(65_536), &json!(true)));
    assert_eq!((&limited["compared_with"], &limited["rows"][0]), (&json!("shards"), first));
    let text = list(&without, &["--limit", "1"]).stdout;
    assert!(text.contains("65,536 of 300,000 years were computed again; the job kept nothing"), "{text}");
    assert!(text.contains("The limit was reached: years after number"), "{text}");
    // No year can be beyond the aggregate limit, so no shard is executed.
    let beyond = ["--where", "net > 250000", "--format", "json"];
    let beyond: Value =
        serde_json::from_str(&kept.run_on_job("years", "x", &beyond).expect_code(0).stdout).unwrap();
    assert_eq!((&beyond["recomputed"], &beyond["rows"]), (&json!(0), &json!([])));
}

#[test]
fn wrong_conditions_are_refused() {
    let sandbox = Sandbox::new();
    let refuse = |options: &[&str]| sandbox.run_on_job("years", "x", options).expect_code(2);
    refuse(&[]).expect_stderr("--where <CONDITIONS>");
    refuse(&["--where", "loss > 1"]).expect_stderr("does not begin with the name of an amount");
    refuse(&["--where", "net > 1,000"]).expect_stderr("\"1,000\" is not an amount");
    refuse(&["--where", "net > 1", "--limit", "0"]).expect_stderr("--limit");
    refuse(&["--where", "net > 1"]).expect_stderr("cannot open");
}
