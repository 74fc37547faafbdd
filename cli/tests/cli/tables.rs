//! `forge export --table`: tables of years, explanations and results agree to the minor unit, and
//! what a job has no losses for is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use forge_contract::digest::Digest;
use serde_json::{Value, json};

use crate::{
    common::{CommandOutput, Sandbox, insurance_envelope, read_json, with_value},
    forgery::{JOB, completed_job, edit_manifest, forge_result, unsign},
    years::{column, minor_units, portfolio_envelope, rows},
};

fn export(sandbox: &Sandbox, options: &[&str]) -> CommandOutput {
    let directory = sandbox.path().join("tables");
    let output = ["--no-progress", "-o", directory.to_str().unwrap()];
    sandbox.run_on_job("export", JOB, &[&output, options].concat())
}

/// Exports with these options, and returns the text of a file.
fn table(sandbox: &Sandbox, options: &[&str], file: &str) -> String {
    export(sandbox, options).expect_code(0);
    fs::read_to_string(sandbox.path().join("tables").join(file)).unwrap()
}

/// For each period and summary, loss and largest occurrence in minor units.
fn year_losses(ylt: &str) -> BTreeMap<(u64, u64), (u64, u64)> {
    let numbers = |row: Vec<&str>| {
        ((row[0].parse().unwrap(), row[1].parse().unwrap()), (minor_units(row[2]), minor_units(row[3])))
    };
    rows(ylt).into_iter().map(numbers).collect()
}

/// For each period, the sum over its summaries.
fn by_period(losses: &BTreeMap<(u64, u64), (u64, u64)>) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    losses.iter().for_each(|((period, _), (loss, _))| *sums.entry(*period).or_default() += loss);
    sums
}

/// A portfolio of two shards, of which the second one is short.
fn portfolio(options: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let envelope = with_value(portfolio_envelope(JOB), "/args/iterations", json!(70_000));
    sandbox.run(&envelope, options).expect_code(0);
    sandbox
}

#[test]
fn years_agree_with_explanations_and_with_the_result() {
    let sandbox = portfolio(&[]);
    let ylt = |perspective: &str, set: &str, file: &str| {
        let options = ["--table", "ylt", "--perspective", perspective, "--by", set];
        year_losses(&table(&sandbox, &options, file))
    };
    let (gross, net) = (ylt("gross,net", "all", "il_S1_ylt.csv"), ylt("net", "all", "ri_S1_ylt.csv"));
    let ceded = ylt("ceded", "all", "rl_S1_ylt.csv");
    assert_eq!((gross.len(), net.len()), (70_000, 70_000));
    // Nothing is lost between gross and net, in any year.
    for (key, (loss, largest)) in &gross {
        let (ceded, _) = ceded.get(key).copied().unwrap_or_default();
        assert_eq!((loss - ceded, true), (net[key].0, net[key].1 <= *largest), "{key:?}");
    }
    // The parts of a set add up to it.
    for (perspective, set, file, all) in [
        ("gross", "line", "il_S2_ylt.csv", &gross),
        ("net", "line", "ri_S2_ylt.csv", &net),
        ("ceded", "line", "rl_S2_ylt.csv", &ceded),
        ("ceded", "treaty", "rl_S3_ylt.csv", &ceded),
    ] {
        assert_eq!(by_period(&ylt(perspective, set, file)), by_period(all), "{perspective} by {set}");
    }
    let explained = sandbox.run_on_job("explain", JOB, &["--top", "50", "--format", "csv"]).expect_code(0);
    let csv = &explained.stdout;
    for row in rows(csv) {
        let period: u64 = row[column(csv, "year")].parse::<u64>().unwrap() + 1;
        let amount = |name: &str| minor_units(row[column(csv, name)]);
        assert_eq!(gross[&(period, 1)], (amount("gross"), amount("largest_event")), "period {period}");
        assert_eq!(net[&(period, 1)].0, amount("net"), "period {period}");
        assert_eq!(ceded[&(period, 1)].0, amount("ceded"), "period {period}");
    }
    let result = read_json(&sandbox.artifact(JOB, "result.json"));
    for (losses, name) in [(&gross, "gross"), (&net, "net")] {
        let sum: u64 = by_period(losses).values().sum();
        assert_eq!(result["output"][name]["mean"].as_f64(), Some(sum as f64 / 70_000.0 / 100.0), "{name}");
        let largest = losses.values().map(|(loss, _)| loss).max().unwrap();
        assert_eq!(result["output"][name]["max"].as_f64(), Some(*largest as f64 / 100.0), "{name}");
    }
}

#[test]
fn occurrences_add_up_to_their_years() {
    let sandbox = portfolio(&[]);
    let years = ["--years", "65000..66000", "--perspective", "gross"];
    let read = |name: &str, set: &str, file: &str| {
        table(&sandbox, &[&["--table", name, "--by", set], &years[..]].concat(), file)
    };
    let ylt = year_losses(&read("ylt", "all", "il_S1_ylt.csv"));
    assert_eq!(
        ylt.keys().map(|(period, _)| *period).collect::<Vec<_>>(),
        (65_001..=66_000).collect::<Vec<_>>()
    );
    let splt = read("splt", "all", "il_S1_splt.csv");
    let header =
        "Period,PeriodWeight,EventId,Year,Month,Day,Hour,Minute,SummaryId,SampleId,Loss,ImpactedExposure";
    assert_eq!(splt.lines().next(), Some(header));
    let (mut sums, mut largest) = (BTreeMap::new(), BTreeMap::new());
    let mut events = BTreeSet::new();
    for row in rows(&splt) {
        let (period, event, loss): (u64, u64, u64) =
            (row[0].parse().unwrap(), row[2].parse().unwrap(), minor_units(row[10]));
        let expected = ["0.000014285714285714285", row[0], "1", "1", "0", "0", "1", "1", "0.00"];
        let found = [row[1], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[11]];
        assert_eq!(found, expected);
        assert!(loss > 0 && (1..=3).contains(&(event / 1_000_000)), "{row:?}");
        assert!(events.insert((period, event)), "event {event} is there twice in period {period}");
        *sums.entry(period).or_default() += loss;
        // Amounts of the year are no occurrences.
        let entry: &mut u64 = largest.entry(period).or_default();
        *entry = (*entry).max(if event % 1_000_000 > 0 { loss } else { 0 });
    }
    assert_eq!(sums, by_period(&ylt));
    let stated: BTreeMap<_, _> = ylt.iter().map(|((period, _), (_, largest))| (*period, *largest)).collect();
    assert_eq!(largest, stated);
    // Lines that one event strikes share its id.
    let by_line = read("splt", "line", "il_S2_splt.csv");
    let of_lines: BTreeSet<(u64, u64)> =
        rows(&by_line).iter().map(|row| (row[0].parse().unwrap(), row[2].parse().unwrap())).collect();
    assert_eq!(of_lines, events);
    assert!(rows(&by_line).len() > events.len());
}

#[test]
fn statistics_are_those_of_the_result() {
    let (kept, without) = (portfolio(&[]), portfolio(&["--keep-shards=0"]));
    let options = ["--table", "ept,psept,alt,alct", "--perspective", "gross,net"];
    let read = |sandbox: &Sandbox, file: &str| table(sandbox, &options, file);
    let stated = fs::read_to_string(kept.artifact(JOB, "ept.csv")).unwrap();
    for (file, summary) in [("il_S1_ept.csv", "1"), ("ri_S1_ept.csv", "2")] {
        let ept = read(&kept, file);
        assert_eq!(ept, read(&without, file));
        let rest = |text: &str| -> Vec<String> { rows(text).iter().map(|row| row[1..].join(",")).collect() };
        let of_summary: String = stated
            .lines()
            .filter(|line| line.starts_with(&format!("{summary},")))
            .fold("\n".to_owned(), |text, line| text + line + "\n");
        assert_eq!(rest(&ept), rest(&of_summary), "{file}");
        // AEP and OEP, each with its TVaR, of eleven return periods.
        assert_eq!(rows(&ept).len(), 44, "{file}");
        let psept = read(&kept, &file.replace("ept", "psept"));
        assert_eq!(psept, ept.replace("EPCalc", "SampleId").replace("\n1,2,", "\n1,1,"));
    }
    let result = read_json(&kept.artifact(JOB, "result.json"));
    for (file, name) in [("il_S1_alt.csv", "gross"), ("ri_S1_alt.csv", "net")] {
        let alt = read(&kept, file);
        let stated = &result["output"][name];
        assert_eq!(
            alt,
            format!("SummaryId,SampleType,MeanLoss,SDLoss\n1,2,{},{}\n", stated["mean"], stated["std_dev"])
        );
        let alct = read(&kept, &file.replace("alt", "alct"));
        let row = rows(&alct).remove(0);
        let error = row[column(&alct, "StandardErrorHaz")].parse().ok();
        assert_eq!(error, stated["std_error"].as_f64());
    }
    // Lines have AEP and OEP of their own.
    let of_lines =
        table(&kept, &["--table", "ept", "--perspective", "gross", "--by", "line"], "il_S2_ept.csv");
    let mut compared = 0;
    for row in rows(&of_lines) {
        let line: usize = row[0].parse::<usize>().unwrap() - 1;
        let period = result["output"]["exceedance"].as_array().unwrap().iter();
        let mut period = period.filter(|stated| stated["return_period"].as_u64() == row[3].parse().ok());
        let (amount, figure) = match row[2] {
            "1" => ("largest_occurrence", "var"),
            "2" => ("largest_occurrence", "tvar"),
            "3" => ("gross", "var"),
            _ => ("gross", "tvar"),
        };
        let stated = &period.next().unwrap()["lines"][line][amount][figure];
        assert_eq!(row[4].parse().ok(), stated.as_f64(), "{row:?}");
        compared += 1;
    }
    assert_eq!(compared, 3 * 44);
    // Lines and treaties have their own rows, in the order of the model.
    let read_parts = |perspective: &str, set: &str, file: &str| {
        table(&kept, &["--table", "alt", "--perspective", perspective, "--by", set], file)
    };
    let lines = read_parts("gross", "line", "il_S2_alt.csv");
    let treaties = read_parts("ceded", "treaty", "rl_S3_alt.csv");
    for (text, list, part) in [(&lines, "lines", "gross"), (&treaties, "treaties", "ceded")] {
        let stated = result["output"][list].as_array().unwrap().iter();
        let stated: Vec<_> =
            stated.filter_map(|row| row[part]["std_dev"].as_f64().and(row[part]["mean"].as_f64())).collect();
        let means: Vec<f64> = rows(text).iter().map(|row| row[2].parse().unwrap()).collect();
        assert_eq!(means, stated, "{list}");
    }
    let names = fs::read_to_string(kept.path().join("tables/rl_S3_summary-info.csv")).unwrap();
    assert_eq!(
        names,
        "summary_id,treaty\n1,Motor QS\n2,Property risk XL\n3,Cat XL 1\n4,Cat XL 2\n5,Stop loss\n"
    );
}

#[test]
fn files_do_not_depend_on_threads_or_on_what_the_job_kept() {
    let (kept, without) = (completed_job(&[]), Sandbox::new());
    let nothing = with_value(insurance_envelope(JOB), "/artifacts/include", json!([]));
    without.run(&nothing, &["--keep-shards=0"]).expect_code(0);
    let files = |sandbox: &Sandbox, options: &[&str]| {
        let options =
            [&["--table", "ylt,ept,alt", "--perspective", "net", "--format", "json"], options].concat();
        let output = export(sandbox, &options).expect_code(0);
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(
            (&document["recomputed"], &document["compared_with"]),
            (&json!(300_000), &json!("result"))
        );
        document["files"].clone()
    };
    let of_kept = files(&kept, &["--threads", "1"]);
    assert_eq!(of_kept, files(&kept, &["--threads", "7"]));
    assert_eq!(of_kept, files(&without, &[]));
    for file in of_kept.as_array().unwrap() {
        let bytes = fs::read(kept.path().join("tables").join(file["file"].as_str().unwrap())).unwrap();
        assert_eq!(file["sha256"], Digest::hash_parts(&[&bytes]).to_hex());
        assert_eq!(file["bytes"], bytes.len() as u64);
        let rows = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64 - 1;
        assert_eq!(file["rows"], rows);
    }
    // No year is above the aggregate limit, and a year has no row without a loss.
    let ylt = fs::read_to_string(kept.path().join("tables/ri_S1_ylt.csv")).unwrap();
    let losses = year_losses(&ylt);
    assert!(losses.values().all(|&(loss, largest)| loss > 0 && loss <= 25_000_000 && largest <= loss));
    let result = read_json(&kept.artifact(JOB, "result.json"));
    let zeros = result["output"]["zero_loss_probability"].as_f64().unwrap();
    assert_eq!(300_000 - losses.len(), (zeros * 300_000.0).round() as usize);
    let text = export(&kept, &["--table", "ept"]).expect_code(0).stdout;
    assert!(text.contains("ri_S1_ept.csv") && !text.contains("computed again"), "{text}");
}

#[test]
fn what_a_job_has_no_losses_for_is_refused() {
    let sandbox = completed_job(&[]);
    let refuse = |options: &[&str]| export(&sandbox, options).expect_code(2);
    refuse(&["--table", "ylt", "--perspective", "ceded"]).expect_stderr("the model has no treaties");
    refuse(&["--table", "ylt", "--by", "treaty"]).expect_stderr("do not belong to a treaty");
    refuse(&["--table", "splt"]).expect_stderr("the year has a limit, so occurrences have no net loss");
    refuse(&["--table", "ept", "--perspective", "gross"]).expect_stderr("results do not state");
    refuse(&["--table", "ept", "--years", "0..5"]).expect_stderr("--years: only ylt and splt");
    refuse(&["--table", "ylt", "--years", "0..300001"]).expect_stderr("the result has the years 0 to 299999");
    refuse(&["--table", "ylt", "--years", "5..5"]).expect_stderr("must be two numbers such as 0..1000");
    refuse(&["--table", "ylt,ylt"]).expect_stderr("name ri_S1_ylt.csv twice");
    refuse(&["--table", "elt"]).expect_stderr("[possible values: ylt, splt, alt, alct, ept, psept]");
    refuse(&["--by", "line"]).expect_stderr("--table <TABLES>");
    if cfg!(not(feature = "columnar")) {
        refuse(&["--table", "ylt", "--as", "parquet"]).expect_stderr("lacks the cargo feature columnar");
    }
    export(&sandbox, &["--table", "splt", "--perspective", "gross", "--years", "0..5"]).expect_code(0);
    let portfolio = portfolio(&[]);
    export(&portfolio, &["--table", "splt"]).expect_code(2).expect_stderr("treaty \"Stop loss\" pays for");
    export(&portfolio, &["--table", "ept", "--by", "line"])
        .expect_code(2)
        .expect_stderr("net losses by line");
    let eta = Sandbox::new();
    let envelope = json!({
        "ctx": {"job_id": JOB},
        "op": {"name": "mc", "version": 1, "profile": "eta.v1"},
        "args": {"iterations": 100, "base_eta": 30, "traffic_mean": 5, "traffic_std": 2}
    });
    eta.run(&envelope, &[]).expect_code(0);
    export(&eta, &["--table", "ylt"]).expect_code(2).expect_stderr("results of eta.v1 are no losses");
}

#[test]
fn years_that_contradict_the_record_leave_no_file() {
    let sandbox = Sandbox::new();
    let only_result = with_value(insurance_envelope(JOB), "/artifacts/include", json!(["result_json"]));
    sandbox.run(&only_result, &["--keep-shards=0"]).expect_code(0);
    forge_result(&sandbox, |result| result["output"]["max_loss"] = json!(240_000.5));
    edit_manifest(&sandbox, unsign);
    export(&sandbox, &["--table", "ylt,ept"]).expect_code(4).expect_stderr("the years yield the result");
    assert_eq!(fs::read_dir(sandbox.path().join("tables")).unwrap().count(), 0);
}
