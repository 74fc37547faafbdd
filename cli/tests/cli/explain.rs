//! `forge explain`: the largest years, the events of a year and the tail agree with each other and
//! with the result, and what contradicts them is refused.

use std::fs;

use serde_json::{Value, json};

use crate::{
    common::{CommandOutput, Sandbox, insurance_envelope, read_json, with_value},
    forgery::{JOB, completed_job, edit_manifest, forge_result, unsign},
    years::{column, portfolio_envelope, rows},
};

fn explain(sandbox: &Sandbox, options: &[&str]) -> CommandOutput {
    sandbox.run_on_job("explain", JOB, &[&["--no-progress"], options].concat())
}

fn explain_json(sandbox: &Sandbox, options: &[&str]) -> Value {
    let output = explain(sandbox, &[&["--format", "json"], options].concat()).expect_code(0);
    serde_json::from_str(&output.stdout).unwrap()
}

/// A portfolio of two shards, of which the second one is short.
fn portfolio(options: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let envelope = with_value(portfolio_envelope(JOB), "/args/iterations", json!(70_000));
    sandbox.run(&envelope, options).expect_code(0);
    sandbox
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn largest_years_need_few_shards_where_results_were_kept() {
    let (kept, without) = (portfolio(&[]), portfolio(&["--keep-shards=0"]));
    let result = read_json(&kept.artifact(JOB, "result.json"));
    for perspective in ["net", "gross"] {
        let of_kept = explain_json(&kept, &["--top", "1", "--perspective", perspective]);
        assert_eq!(of_kept["compared_with"], "shards");
        let recomputed = of_kept["recomputed"].as_u64().unwrap();
        assert!((1..70_000).contains(&recomputed), "{recomputed} for one year");
        let largest = number(&result["output"][perspective]["max"]);
        assert_eq!(number(&of_kept["rows"][0][perspective]), largest);
        let options = ["--top", "30", "--perspective", perspective, "--format", "csv"];
        let csv = explain(&kept, &options).expect_code(0).stdout;
        let all = explain(&without, &options).expect_code(0);
        assert_eq!(csv, all.stdout);
        assert!(all.stderr.contains("the job kept no shard results (shards.bin), so all 70,000 years"));
        let amounts: Vec<f64> =
            rows(&csv).iter().map(|row| row[column(&csv, perspective)].parse().unwrap()).collect();
        assert!(amounts.len() == 30 && amounts.is_sorted_by(|a, b| a >= b), "{amounts:?}");
    }
    let all = explain_json(&without, &["--top", "2"]);
    assert_eq!((&all["recomputed"], &all["compared_with"]), (&json!(70_000), &json!("result")));
    assert_eq!((&all["rows"][0]["rank"], &all["rows"][1]["return_period"]), (&json!(1), &json!(35_000.0)));
    let row = &all["rows"][0];
    let treaties = row["ceded_by_treaty"].as_object().unwrap();
    assert_eq!(treaties.len(), 5);
    let ceded: f64 = treaties.values().map(number).sum();
    assert!((ceded - number(&row["ceded"])).abs() < 0.001, "{row:#}");
    assert!((number(&row["gross"]) - ceded - number(&row["net"])).abs() < 0.001, "{row:#}");
    let text = explain(&kept, &["--top", "3"]).expect_code(0).stdout;
    for expected in
        ["Job x: the years with the largest net amount", "Cat XL 1", "windstorm", "their shards have"]
    {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
}

#[test]
fn events_of_a_year_add_up_to_its_figures() {
    let sandbox = portfolio(&[]);
    let top = explain_json(&sandbox, &["--top", "5"]);
    for row in top["rows"].as_array().unwrap() {
        let year = row["year"].to_string();
        let explained = explain_json(&sandbox, &["--year", &year]);
        assert_eq!(explained["compared_with"], "largest_total");
        let mut totals = row.clone();
        for name in ["rank", "return_period"] {
            totals.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(explained["totals"], totals);
        // In minor units of the exact amounts.
        let csv = explain(&sandbox, &["--year", &year, "--format", "csv"]).expect_code(0).stdout;
        let sum = |name: &str| -> i64 {
            let at = column(&csv, name);
            rows(&csv).iter().map(|row| row[at].replace('.', "").parse().unwrap_or(0)).sum()
        };
        let minor = |value: &Value| (number(value) * 100.0).round() as i64;
        assert_eq!((sum("gross"), sum("ceded")), (minor(&row["gross"]), minor(&row["ceded"])));
        assert_eq!(sum("gross") - sum("ceded"), minor(&row["net"]));
        for (treaty, amount) in row["ceded_by_treaty"].as_object().unwrap() {
            assert_eq!(sum(&format!("ceded_by_treaty: {treaty}")), minor(amount), "{treaty}");
        }
        let kinds: Vec<_> = rows(&csv).iter().map(|row| row[0].to_owned()).collect();
        assert_eq!(kinds.iter().filter(|kind| *kind == "annual").count(), 3, "{csv}");
        assert!(kinds.iter().any(|kind| kind == "event"), "{csv}");
        let text = explain(&sandbox, &["--year", &year]).expect_code(0).stdout;
        assert!(text.contains("The rows add up to these figures, and the net amount is at most the largest"));
    }
}

#[test]
fn a_year_of_a_profile_without_treaties_has_base_and_limit() {
    let sandbox = completed_job(&[]);
    let top = explain_json(&sandbox, &["--top", "1"]);
    let row = &top["rows"][0];
    assert_eq!(row["net"], 250_000.0, "the aggregate limit");
    assert!(row.get("ceded").is_none() && row.get("ceded_by_treaty").is_none());
    let year = row["year"].to_string();
    let explained = explain_json(&sandbox, &["--year", &year]);
    assert_eq!((&explained["base"], &explained["year_limit"]), (&json!(0.0), &json!(250_000.0)));
    let events = explained["rows"].as_array().unwrap();
    assert!(events.iter().all(|event| event["kind"] == "event" && event["line"] == "all"));
    assert!(events.iter().any(|event| event["group"] == "catastrophe"));
    let gross: f64 = events.iter().map(|event| number(&event["gross"])).sum();
    assert!((gross - number(&explained["totals"]["gross"])).abs() < 0.001 && gross >= 250_000.0);
    let text = explain(&sandbox, &["--year", &year]).expect_code(0).stdout;
    assert!(text.contains("The total is cut to 250,000.00"), "{text}");
    // Results do not state amounts before the limit of the year, so all years are computed again.
    let gross = explain(&sandbox, &["--top", "1", "--perspective", "gross"]).expect_code(0);
    assert!(gross.stderr.contains("do not state amounts before limits of the year, so all 300,000 years"));
}

#[test]
fn tail_has_the_allocation_of_the_result() {
    let sandbox = portfolio(&[]);
    let result = read_json(&sandbox.artifact(JOB, "result.json"));
    let allocations = result["output"]["allocation"].as_array().unwrap();
    for (tail, level, part, list) in [("0.005", 0.995, "line", "lines"), ("0.1", 0.9, "treaty", "treaties")] {
        let stated = allocations.iter().find(|row| row["level"] == level).unwrap();
        let explained = explain_json(&sandbox, &["--tail", tail, "--by", part]);
        let rows = explained["rows"].as_array().unwrap();
        let amounts: Vec<_> = rows.iter().map(|row| row["co_tvar"].clone()).collect();
        let (net, parts) = amounts.split_last().unwrap();
        let stated_parts = stated["tail"][list].as_array().unwrap();
        assert!(parts.iter().map(number).eq(stated_parts.iter().map(number)), "{part} at {level}");
        let expected = number(&stated["tail"]["net"]);
        assert!((number(net) / expected - 1.0).abs() < 1e-12, "{net}, stated {expected}");
        assert_eq!(
            (&explained["compared_with"], &explained["recomputed"]),
            (&json!("result"), &json!(70_000))
        );
    }
    // Over nearly all years the counts are those of the result.
    let explained = explain_json(&sandbox, &["--tail", "0.999999", "--by", "group"]);
    let rows = explained["rows"].as_array().unwrap();
    assert_eq!(
        rows.iter().map(|row| row["group"].as_str().unwrap()).collect::<Vec<_>>(),
        ["attritional", "large", "windstorm", "(net)"]
    );
    let claims: f64 = ["large property", "large motor", "large liability"]
        .iter()
        .map(|name| {
            let components = result["work"]["components"].as_array().unwrap();
            number(&components.iter().find(|component| component["name"] == *name).unwrap()["occurrences"])
        })
        .sum();
    let mean = number(&rows[1]["mean_count"]);
    assert!((mean - claims / 70_000.0).abs() < 1e-3, "{mean}");
    let attaching = number(&result["output"]["treaties"][2]["attaching_occurrences"]);
    let explained = explain_json(&sandbox, &["--tail", "0.999999", "--by", "treaty"]);
    // The placed layer pays for every event that reaches it, unless its reinstatements are used up.
    let payments = number(&explained["rows"][2]["mean_count"]);
    assert!(payments <= attaching + 1e-3 && payments > 0.95 * attaching, "{payments}, {attaching}");
    let text = explain(&sandbox, &["--tail", "0.01", "--by", "line"]).expect_code(0).stdout;
    assert!(text.contains("beyond the 99% quantile of the net amount, by line"), "{text}");
}

#[test]
fn questions_without_an_answer_are_refused() {
    let sandbox = completed_job(&[]);
    let refuse = |options: &[&str]| explain(&sandbox, options).expect_code(2);
    refuse(&["--year", "300000"])
        .expect_stderr("--year 300000: the result has 300,000 years, numbered from 0 to 299999");
    explain(&sandbox, &["--year", "299999"]).expect_code(0);
    refuse(&["--top", "0"]).expect_stderr("--top");
    refuse(&["--top", "1001"]).expect_stderr("--top");
    refuse(&["--tail", "0.01"]).expect_stderr("--by");
    refuse(&["--by", "line"]).expect_stderr("--tail");
    refuse(&["--tail", "1", "--by", "line"]).expect_stderr("must be above 0 and below 1");
    refuse(&["--tail", "0.01", "--by", "treaty"]).expect_stderr("--by treaty: the model has none");
    refuse(&["--year", "1", "--top", "5"]).expect_stderr("cannot be used with");
}

#[test]
fn jobs_that_contradict_themselves_or_their_years_are_refused() {
    // The signature no longer matches the manifest, and neither does the merge of the shards.
    let sandbox = completed_job(&[]);
    edit_manifest(&sandbox, |manifest| manifest["result"] = json!("1".repeat(64)));
    for options in [&["--year", "1"][..], &["--top", "1"]] {
        let refused = explain(&sandbox, options).expect_code(4).expect_stderr("checks failed");
        assert!(refused.stdout.is_empty(), "{}", refused.stdout);
    }
    // A damaged artifact.
    let sandbox = completed_job(&[]);
    let path = sandbox.artifact(JOB, "shards.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, bytes).unwrap();
    explain(&sandbox, &[]).expect_code(4).expect_stderr("shards.bin");
    // A forger who keeps no shard results and removes the signature: only the years show it.
    let sandbox = Sandbox::new();
    let only_result = with_value(insurance_envelope(JOB), "/artifacts/include", json!(["result_json"]));
    sandbox.run(&only_result, &["--keep-shards=0"]).expect_code(0);
    forge_result(&sandbox, |result| result["output"]["max_loss"] = json!(240_000.5));
    edit_manifest(&sandbox, unsign);
    explain(&sandbox, &[]).expect_code(4).expect_stderr("the years yield the result");
    let year = {
        let intact = completed_job(&[]);
        explain_json(&intact, &["--top", "1"])["rows"][0]["year"].to_string()
    };
    explain(&sandbox, &["--year", &year])
        .expect_code(4)
        .expect_stderr("is 250000, but the largest one of the result is stated as 240000.5");
}
