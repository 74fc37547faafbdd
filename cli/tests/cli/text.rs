//! Text output: the summary and its width, colour, the progress bar, and the help texts.

use std::process::Command;

use crate::common::{CommandOutput, Sandbox, forge, insurance_envelope, with_value};
use serde_json::json;

#[test]
fn summary_shows_the_figures_of_the_result() {
    let sandbox = Sandbox::new();
    let text = sandbox.run(&insurance_envelope("x"), &["--threads", "1"]).expect_code(0).stdout;
    let result = crate::common::read_json(&sandbox.artifact("x", "result.json"));
    let shown = |value: &serde_json::Value| {
        let cents = format!("{:.2}", value.as_f64().unwrap());
        let (whole, decimals) = cents.split_once('.').unwrap();
        let groups: Vec<_> = whole.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
        format!("{}.{decimals}", groups.join(","))
    };
    let output = &result["output"];
    for value in [&output["mean_loss"], &output["std_dev"], &output["std_error"], &output["max_loss"]] {
        assert!(text.contains(&shown(value)), "{value}:\n{text}");
    }
    for quantile in output["quantiles"].as_array().unwrap() {
        for figure in ["var", "var_low", "var_high", "tvar", "tvar_low", "tvar_high"] {
            assert!(text.contains(&shown(&quantile[figure])), "{quantile}:\n{text}");
        }
    }
    for exceedance in output["exceedance"].as_array().unwrap() {
        let figures = ["/aep/var", "/aep/tvar", "/oep/var", "/oep/tvar"]
            .map(|figure| shown(exceedance.pointer(figure).unwrap()));
        let line = text.lines().find(|line| figures.iter().all(|figure| line.contains(figure)));
        assert!(line.is_some(), "{exceedance}:\n{text}");
    }
    for words in [
        "300,000 of 300,000 years",
        "95% CI",
        "Years without losses",
        "on 1 thread",
        "AEP solid line, OEP dotted",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(text.contains(sandbox.manifest("x")["result"].as_str().unwrap()));
}

#[test]
fn summary_lines_are_narrow_and_plain() {
    let sandbox = Sandbox::new();
    let eta = serde_json::from_str(include_str!("../../../examples/eta.json")).unwrap();
    let large = with_value(insurance_envelope("large"), "/args/claim_severity_mu", json!(25));
    let large = with_value(
        with_value(large, "/args/policy_limit", json!(null)),
        "/args/aggregate_limit",
        json!(null),
    );
    let verified = with_value(insurance_envelope("verified"), "/policy/verify", json!("full"));
    for envelope in [insurance_envelope("a"), eta, large, verified] {
        let text = sandbox.run(&envelope, &[]).expect_code(0).stdout;
        for line in text.lines().filter(|line| !line.contains("jobs/")) {
            assert!(line.chars().count() <= 100, "{line}");
            assert!(!line.ends_with(' ') && !line.contains('\x1b'), "{line:?}");
        }
    }
}

/// The example of a portfolio, with this many years.
fn portfolio_envelope(years: u64) -> serde_json::Value {
    let portfolio = serde_json::from_str(include_str!("../../../examples/portfolio.json")).unwrap();
    with_value(portfolio, "/args/iterations", json!(years))
}

#[test]
fn summary_of_a_portfolio_has_every_part_at_the_levels_of_the_args() {
    let sandbox = Sandbox::new();
    let own = json!({"return_periods": [7, 40], "levels": [0.9, 0.993], "allocation": true});
    let envelope = with_value(portfolio_envelope(20_000), "/args/report", own);
    let output = sandbox.run(&envelope, &[]).expect_code(0);
    let text = &output.stdout;
    for title in [
        "Exceedance of a year's loss (AEP; net and gross: after and before treaties)",
        "TVaR of a year's loss by return period (net and gross: after and before treaties)",
        "Exceedance of a year's largest loss (OEP; net and gross: after and before treaties)",
        "TVaR of a year's largest loss by return period (net and gross: after and before treaties)",
        "Lines before treaties (VaR, TVaR and OEP at 99.3%)",
        "All lines, step by step",
        "Treaties, what they pay in a year",
        "Layers, means per year",
        "Premiums less mean commissions of a year",
        "Capital and diversification",
        "Tail allocation",
        "Checks against the model (z: distance in standard errors)",
        "index: depends on an index, so no model figure.",
        "Occurrences by component",
        "net AEP solid line, gross AEP dotted",
    ] {
        assert!(text.contains(title), "{title}:\n{text}");
    }
    let starts = |label: &str| text.lines().filter(|line| line.trim_start().starts_with(label)).count();
    assert_eq!([starts("7 years"), starts("40 years"), starts("10 years")], [4, 4, 0], "{text}");
    assert_eq!([starts("99.3%"), starts("99.5%")], [2, 0], "{text}");
    assert!(text.contains("Executed by   simd-"), "{text}");
    // Tables and pictures of amounts have the currency in their titles.
    for title in [
        "Exceedance of a year's loss",
        "Exceedance of a year's largest loss",
        "Lines before",
        "All lines,",
        "Treaties,",
        "Layers,",
        "Premiums less",
        "Capital",
        "Tail",
        "Loss by",
    ] {
        let line =
            text.lines().find(|line| line.starts_with(title)).unwrap_or_else(|| panic!("{title}: {text}"));
        assert!(line.contains(", EUR"), "{line}");
    }
    assert!(
        text.lines().filter(|line| !line.contains("jobs/")).all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let ept = std::fs::read_to_string(sandbox.artifact("portfolio-001", "ept.csv")).unwrap();
    let rows: Vec<_> = ept.lines().skip(1).map(|row| row.rsplit_once(',').unwrap().0).collect();
    let kinds = ["1,2,1", "1,2,2", "1,2,3", "1,2,4", "2,2,1", "2,2,2", "2,2,3", "2,2,4"];
    let expected: Vec<_> =
        kinds.iter().flat_map(|kind| [40, 7].map(|period| format!("{kind},{period}"))).collect();
    assert_eq!(rows, expected);
}

#[test]
fn portfolios_without_occurrences_have_no_oep() {
    let sandbox = Sandbox::new();
    let args = json!({
        "iterations": 1000, "lines": ["a"],
        "groups": [{"name": "g", "annual": [{"line": "a", "amount": {"exponential": 1000}}]}]
    });
    let envelope = with_value(portfolio_envelope(1), "/args", args);
    let text = sandbox.run(&envelope, &[]).expect_code(0).stdout;
    let tables = ["Exceedance of a year's loss (AEP)", "Exceedance of a year's largest loss"];
    assert_eq!(tables.map(|title| text.contains(title)), [true, false], "{text}");
    let ept = std::fs::read_to_string(sandbox.artifact("portfolio-001", "ept.csv")).unwrap();
    assert!(!ept.lines().any(|row| row.starts_with("1,2,1,") || row.starts_with("1,2,2,")), "{ept}");
}

#[test]
fn warnings_about_the_envelope_are_printed() {
    let sandbox = Sandbox::new();
    let suspicious = with_value(
        portfolio_envelope(100),
        "/args/indices",
        json!([{"name": "inflation", "lognormal": {"mean": 100, "cv": 0.04}}]),
    );
    let output = sandbox.run(&suspicious, &[]).expect_code(0);
    assert!(output.stderr.contains("warning: /args/indices/0: has a mean of 100:"), "{}", output.stderr);
    let check = |arguments: &[&str]| {
        let mut check = forge();
        check.args(["envelope", "check", "-"]).args(arguments);
        crate::common::run_with_stdin(check, suspicious.to_string().as_bytes()).expect_code(0).stdout
    };
    let text = check(&[]);
    let column = suspicious.to_string().find("{\"lognormal\":{\"cv\":0.04").unwrap() + 1;
    let warning = format!("Warnings\n  standard input:1:{column}: /args/indices/0: has a mean of 100:");
    assert!(text.contains(&warning), "{text}");
    // Numbers of occurrences do not read as amounts.
    assert!(text.contains("  Occurrences   15.8000 a year, 1,580 in all, expected\n"), "{text}");
    let document: serde_json::Value = serde_json::from_str(&check(&["--format", "json"])).unwrap();
    let warning = &document["warnings"][0];
    assert_eq!((&warning["pointer"], &warning["column"]), (&json!("/args/indices/0"), &json!(column)));
    assert_eq!((&warning["code"], &warning["hint"]), (&json!("suspicious_value"), &json!(null)));
    assert_eq!(document["errors"], json!([]));
    assert_eq!(document["iterations"], 100);
    assert!(document["estimate"]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{document}");
}

#[test]
fn few_iterations_cause_warnings() {
    let sandbox = Sandbox::new();
    let summary_of = |iterations: u64| {
        let envelope = with_value(insurance_envelope("few"), "/args/iterations", json!(iterations));
        sandbox.run(&with_value(envelope, "/artifacts/persist", json!(false)), &[]).expect_code(0).stdout
    };
    let one = summary_of(1);
    assert!(
        one.contains("Too few years (1) for a full 95% confidence interval of 6 of 6 quantiles."),
        "{one}"
    );
    assert!(one.contains("10 of 10 return periods are longer than the years simulated (1)."), "{one}");
    let deviation = one.lines().find(|line| line.contains("Standard deviation"));
    assert!(deviation.is_some_and(|line| line.ends_with(" -")), "{one}");
    assert!(!summary_of(300_000).contains("Warnings"));
}

#[test]
fn no_progress_bar_is_drawn_into_a_pipe() {
    // Long enough for a progress bar to appear.
    let envelope = with_value(insurance_envelope("x"), "/args/iterations", json!(4_000_000));
    let output = Sandbox::new().run(&envelope, &["--backend", "scalar", "--threads", "1"]).expect_code(0);
    assert_eq!(output.stderr, "");
    assert!(!output.stdout.contains('\r'));
}

#[test]
fn long_runs_print_lines_of_progress_into_a_pipe() {
    // Longer than the interval between two lines.
    let endless = with_value(crate::common::endless_envelope("x"), "/policy/timeout_ms", json!(11_000));
    let progress = |options: &[&str]| {
        let output = Sandbox::new().run(&endless, options).expect_code(3);
        output.stderr.lines().any(|line| line.starts_with("0%  ") && line.contains(" years, "))
    };
    std::thread::scope(|scope| {
        let quiet = scope.spawn(|| progress(&["--threads", "1", "--no-progress"]));
        assert!(progress(&["--threads", "1"]));
        assert!(!quiet.join().unwrap());
    });
}

#[test]
fn the_plot_fits_80_columns() {
    let large = with_value(insurance_envelope("large"), "/args/claim_severity_mu", json!(25));
    let large = with_value(large, "/args/policy_limit", json!(null));
    let large = with_value(large, "/args/aggregate_limit", json!(null));
    for envelope in [large, portfolio_envelope(20_000)] {
        let text = Sandbox::new().run(&envelope, &[]).expect_code(0).stdout;
        let plot = text.split("Loss by return period").nth(1).unwrap().split("\n\n").next().unwrap();
        assert!(plot.lines().count() > 10, "{text}");
        assert!(plot.lines().skip(1).all(|line| line.chars().count() <= 80), "{plot}");
    }
}

#[test]
fn tables_of_amounts_fit_80_columns() {
    let text = Sandbox::new().run(&portfolio_envelope(20_000), &[]).expect_code(0).stdout;
    let sections: Vec<_> = text.split("\n\n").collect();
    for title in ["Quantiles of", "Tail value at risk of", "Exceedance of a year's", "TVaR of a year's"] {
        let tables: Vec<_> = sections.iter().filter(|section| section.starts_with(title)).collect();
        assert!(!tables.is_empty(), "{title}: {text}");
        for table in tables {
            assert!(table.lines().skip(1).all(|line| line.chars().count() <= 80), "{table}");
            // Of 20,000 years 20 lie beyond 99.9%.
            let is_marked = table.contains("* Fewer than 400 years lie beyond");
            assert_eq!(is_marked, title.starts_with('T'), "{table}");
        }
    }
}

#[test]
fn names_with_escape_sequences_are_written_out() {
    let text = portfolio_envelope(1000).to_string().replace("\"motor\"", "\"mo\\u200btor\"");
    let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
    let output = Sandbox::new().run(&envelope, &[]).expect_code(0);
    assert!(output.stdout.contains("mo\\u{200b}tor"), "{}", output.stdout);
    assert!(!(output.stdout + &output.stderr).contains('\u{200b}'));
}

#[test]
fn long_keys_are_cut_in_messages() {
    let hostile = format!("/args/\u{1b}]0;title\u{7}{}", "k".repeat(3000));
    let mut check = forge();
    check.args(["envelope", "check", "-"]);
    let envelope = with_value(insurance_envelope("x"), &hostile, json!(1));
    let output = crate::common::run_with_stdin(check, envelope.to_string().as_bytes()).expect_code(2);
    assert!(output.stderr.contains("\\u{1b}]0;title\\u{7}kkk"), "{}", output.stderr);
    assert!(!output.stderr.contains(['\u{1b}', '\u{7}']) && !output.stderr.contains(&"k".repeat(200)));
}

/// Uses `script`, which runs a command on a pseudo-terminal.
#[cfg(target_os = "linux")]
#[test]
fn terminal_gets_colour_and_a_progress_bar() {
    let sandbox = Sandbox::new();
    let envelope = with_value(insurance_envelope("x"), "/args/iterations", json!(4_000_000));
    let file = sandbox.path().join("envelope.json");
    std::fs::write(&file, envelope.to_string()).unwrap();
    let command = |options: &str| {
        let binary = env!("CARGO_BIN_EXE_forge");
        let run = format!("{binary} run envelope.json --backend scalar --threads 1 {options}");
        let mut script = Command::new("script");
        script.args(["-qec", &run, "/dev/null"]).current_dir(sandbox.path()).env("TERM", "xterm");
        script.env_remove("NO_COLOR");
        script
    };
    if command("").arg("--version").output().is_err() {
        return; // `script` is not installed.
    }
    let shown = CommandOutput::new(&command("--out a").output().unwrap()).expect_code(0).stdout;
    assert!(shown.contains("years/s, ") || shown.contains(" left"), "{shown}");
    assert!(shown.contains("\x1b[1mJob x"), "{shown}");
    let quiet = CommandOutput::new(&command("--out b --no-progress").env("NO_COLOR", "1").output().unwrap())
        .expect_code(0);
    assert!(!quiet.stdout.contains(" left") && !quiet.stdout.contains('\x1b'), "{}", quiet.stdout);
}

#[test]
fn help_documents_examples_and_exit_codes() {
    let help = |arguments: &[&str]| {
        CommandOutput::new(&forge().args(arguments).output().unwrap()).expect_code(0).stdout
    };
    let top = help(&["--help"]);
    for code in
        ["0  success", "1  error", "2  invalid input", "3  job failed", "4  mismatch", "130  interrupted"]
    {
        assert!(top.contains(code), "{top}");
    }
    for command in ["run", "replay", "audit", "envelope", "schema"] {
        let text = help(&[command, "--help"]);
        assert!(text.contains("Examples:\n  forge "), "{text}");
    }
}

#[test]
fn long_version_states_the_commit_the_kernel_and_the_backends() {
    let print =
        |option: &str| CommandOutput::new(&forge().arg(option).output().unwrap()).expect_code(0).stdout;
    let short = print("-V");
    assert_eq!(short, format!("forge {}\n", env!("CARGO_PKG_VERSION")));
    let long = print("--version");
    let lines: Vec<_> = long.strip_prefix(&short).expect("the version comes first").lines().collect();
    let value = |name: &str| {
        let mut values = lines.iter().filter_map(|line| line.strip_prefix(name));
        values.next().unwrap_or_else(|| panic!("no {name} in {long}")).trim()
    };
    let commit = value("commit").split(',').next().unwrap();
    let is_commit = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(commit == "unknown" || is_commit, "{long}");
    assert_eq!(value("kernel"), forge_kernel::KERNEL.to_string());
    let backends: Vec<_> = value("backends").split(", ").collect();
    assert_eq!(backends.contains(&"gpu"), cfg!(feature = "gpu"), "{long}");
    assert!(["scalar", "simd"].iter().all(|name| backends.contains(name)), "{long}");
}

#[test]
fn completions_name_every_command_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = forge().args(["completions", shell]).output().unwrap();
        let script = CommandOutput::new(&output).expect_code(0).stdout;
        for name in ["envelope", "quarantine", "nats-url"] {
            assert!(script.contains(name), "{shell}: no {name} in {script}");
        }
    }
    let output = forge().args(["completions", "tcsh"]).output().unwrap();
    CommandOutput::new(&output).expect_code(2).expect_stderr("possible values: bash");
}

#[test]
fn manual_has_a_page_for_every_command() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("man");
    let output = forge().arg("man").arg("--dir").arg(&directory).output().unwrap();
    CommandOutput::new(&output).expect_code(0);
    let page = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let run = page("forge-run.1");
    assert!(
        run.contains("keep\\-shards") && run.contains(".nf") && run.contains("forge envelope new"),
        "{run}"
    );
    assert!(page("forge-envelope-check.1").contains(".TH"));
    let names: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_str().unwrap().contains("execute-shard")), "{names:?}");
    let top = CommandOutput::new(&forge().arg("man").output().unwrap()).expect_code(0).stdout;
    assert_eq!(top, page("forge.1"));
}
