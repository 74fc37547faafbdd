//! The report page and the exceedance table of a portfolio.

use forge_contract::envelope::ArtifactKind;
use forge_documents::{
    JobResult, headline, headline_figures,
    number_format::format_rounded,
    portfolio_tables::{PortfolioPart, TitledTable, portfolio_tables},
    record_figures, reproducible_document,
    result_tables::{TableWidth, result_warnings},
};
use forge_kernel::{
    backend::{Backend, scalar::Scalar},
    convergence::StopReason,
    reduction::Reduction,
    request::Request,
};
use serde_json::{Value, json};

/// A year's total and a catastrophe under two layers, one of which two reinsurers share.
fn portfolio() -> Value {
    json!({
        "iterations": 3000,
        "lines": ["property <A>"],
        "groups": [
            {"name": "attritional", "annual": [{"line": "property <A>", "amount": {"exponential": 1000}}]},
            {"name": "storm", "count": {"poisson": 1}, "claims": [
                {"line": "property <A>", "severity": {"pareto": {"threshold": 1000, "alpha": 1.5}}, "limit": 90_000}
            ]}
        ],
        "treaties": [
            {"name": "A", "kind": "occurrence_xl", "covers": ["property <A>"], "limit": 4000, "attachment": 1000,
             "placed": 0.4, "reinstatements": [1], "premium": 500},
            {"name": "B", "kind": "occurrence_xl", "covers": ["property <A>"], "limit": 4000, "attachment": 1000,
             "placed": 0.6},
            {"name": "C", "kind": "occurrence_xl", "covers": ["property <A>"], "attachment": 5000},
            {"name": "D", "step": 2, "kind": "aggregate_xl", "covers": ["property <A>"], "attachment": 3000,
             "limit": 1000}
        ],
        "report": {"allocation": true, "levels": [0.98], "return_periods": [30]}
    })
}

fn render(kind: ArtifactKind) -> (Request, JobResult, String) {
    render_args(portfolio(), kind)
}

fn render_args(args: Value, kind: ArtifactKind) -> (Request, JobResult, String) {
    render_envelope(portfolio_envelope(args), kind)
}

fn portfolio_envelope(args: Value) -> Value {
    json!({"op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"}, "args": args})
}

fn render_envelope(envelope: Value, kind: ArtifactKind) -> (Request, JobResult, String) {
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let mut reduction = Reduction::new(&request.program);
    for shard in request.plan.shards() {
        reduction.add(&Scalar.execute(&request.program, &[request.shard(shard)], &()).unwrap()[0]).unwrap();
    }
    let result = JobResult::new(&request, reduction.result(), StopReason::BudgetExhausted);
    let document = reproducible_document(kind, &request, &result).unwrap();
    (request, result, String::from_utf8(document.bytes).unwrap())
}

#[test]
fn page_shows_towers_allocation_curves_and_model() {
    let page = render(ArtifactKind::ReportHtml).2;
    for part in [
        "Lines before treaties (VaR, TVaR and OEP at 98%)",
        "30 years",
        "property &lt;A&gt;",
        "Step 1, on a loss",
        "Step 2, on a year's loss",
        "no limit",
        "placed 40.00%",
        "polygon class=\"band first\"",
        "gross OEP",
        "class=\"stack\"",
        "pareto: alpha 1.5, threshold 1,000",
        "attachment 5,000",
        "currency of the args",
        "Net TVaR",
        "Gross TVaR",
        "TVaR of a year's loss by return period (net and gross",
        "TVaR of a year's largest loss by return period (net and gross",
        "Tail value at risk of the net annual loss",
        "* Fewer than 400 years lie beyond",
        "quota_share pays min(event_limit, cession",
        "Checks against the model (z: distance in standard errors)",
        "Premiums less mean commissions of a year",
        "Exceedance of a year's largest loss (OEP; net and gross",
        "storm: variance of the annual loss",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Two reinsurers share a layer, so B has a tower of its own.
    assert_eq!(page.matches("class=\"tower\"").count(), 3);
    for foreign in ["http:", "https:", "<script", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page, render(ArtifactKind::ReportHtml).2);
}

/// The greatest height, in units of the drawing, that the page's style gives to texts in drawings
/// of a class.
fn text_height(page: &str, class: &str) -> f64 {
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let own = format!("svg.{class} text {{");
    let of_class: Vec<_> = style.split(own.as_str()).skip(1).collect();
    let rules = if of_class.is_empty() { style.split("svg text {").skip(1).collect() } else { of_class };
    let height = |rule: &&str| {
        let sizes = rule.split('}').next().unwrap().split("px").next().unwrap();
        sizes.rsplit([' ', ':']).next().unwrap().parse::<f64>().unwrap()
    };
    rules.iter().map(height).fold(0.0, f64::max)
}

/// The x coordinates between which each text of a drawing lies, if a letter takes 0.6 of its
/// height; together with the text.
fn text_extents(page: &str, height: f64) -> Vec<(f64, f64, String)> {
    let attribute = |tag: &str, name: &str| {
        tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next()).map(str::to_owned)
    };
    let texts = page.split("<text").skip(1).map(|part| part.split_once("</text>").unwrap().0);
    texts
        .map(|part| {
            let (tag, text) = part.split_once('>').unwrap();
            let x: f64 = attribute(tag, "x").unwrap().parse().unwrap();
            let width = text.chars().count() as f64 * 0.6 * height;
            match attribute(tag, "text-anchor").as_deref() {
                Some("end") => (x - width, x, text.to_owned()),
                Some("middle") => (x - width / 2.0, x + width / 2.0, text.to_owned()),
                _ => (x, x + width, text.to_owned()),
            }
        })
        .collect()
}

#[test]
fn texts_of_drawings_fit_into_them() {
    let mut args = portfolio();
    args["groups"][1]["claims"][0] = json!({
        "line": "property <A>", "severity": {"pareto": {"threshold": 2e10, "alpha": 1.5}}, "limit": 9e12
    });
    let treaty = |name: String, attachment: f64| {
        json!({"name": name, "kind": "occurrence_xl", "covers": ["property <A>"], "limit": 6e10, "attachment": attachment,
               "placed": 0.955})
    };
    args["treaties"] = json!([treaty("W".repeat(64), 1e10), treaty("b".repeat(40), 7e10)]);
    let page = render_args(args, ArtifactKind::ReportHtml).2;
    let drawings: Vec<_> = page.split("<svg").skip(1).collect();
    assert_eq!(drawings.len(), 2);
    for drawing in drawings {
        let (class, width) =
            if drawing.starts_with(" class=\"tower\"") { ("tower", 430.0) } else { ("chart", 760.0) };
        for (left, right, text) in text_extents(drawing, text_height(&page, class)) {
            assert!(left >= 0.0 && right <= width, "{text:?} from {left} to {right} of {width}");
        }
    }
    assert!(page.contains("10 bn") && page.contains(&format!(">{}<", "W".repeat(32))), "{page}");
}

#[test]
fn page_says_which_amounts_have_no_mean() {
    let mut args = portfolio();
    args["groups"][1]["claims"][0] =
        json!({"line": "property <A>", "severity": {"pareto": {"threshold": 1000, "alpha": 0.9}}});
    let page = render_args(args.clone(), ArtifactKind::ReportHtml).2;
    // A layer without limit takes the tail.
    assert!(page.contains("The gross annual loss has no mean") && !page.contains("net annual loss has no"));
    args["treaties"] = json!([]);
    let page = render_args(args.clone(), ArtifactKind::ReportHtml).2;
    assert!(page.contains("The net annual loss has no mean"));
    assert!(page.contains("No tail allocation: the net annual loss has no mean."));
    args["groups"][1]["claims"][0]["severity"]["pareto"]["alpha"] = json!(1.5);
    let page = render_args(args, ArtifactKind::ReportHtml).2;
    assert!(page.contains("The net annual loss has no variance") && !page.contains("has no mean"));
}

#[test]
fn exceedance_table_has_the_figures_of_the_result() {
    let (_, result, csv) = render(ArtifactKind::EptCsv);
    let row = &result.document.output["exceedance"][0];
    let amounts = [
        &row["largest_occurrence"]["var"],
        &row["largest_occurrence"]["tvar"],
        &row["gross"]["var"],
        &row["gross"]["tvar"],
        &row["net_largest_occurrence"]["var"],
        &row["net_largest_occurrence"]["tvar"],
        &row["net"]["var"],
        &row["net"]["tvar"],
    ];
    let kinds = ["1,2,1", "1,2,2", "1,2,3", "1,2,4", "2,2,1", "2,2,2", "2,2,3", "2,2,4"];
    let rows =
        kinds.iter().zip(amounts).map(|(kind, amount)| format!("{kind},30,{}\n", amount.as_f64().unwrap()));
    assert_eq!(csv, format!("SummaryId,EPCalc,EPType,ReturnPeriod,Loss\n{}", rows.collect::<String>()));
}

#[test]
fn what_a_job_is_about_is_in_the_page_and_changes_no_figure() {
    let mut envelope = portfolio_envelope(portfolio());
    let (plain, plain_result, plain_page) = render_envelope(envelope.clone(), ArtifactKind::ReportHtml);
    envelope["about"] = json!({
        "title": "Storm & hail <2026>", "description": "First line.\n\nSecond.", "currency": "CHF",
        "author": "Actuarial function", "as_of": "2026-12-31"
    });
    let (request, result, page) = render_envelope(envelope, ArtifactKind::ReportHtml);
    assert_eq!((result.hash, request.replay_key), (plain_result.hash, plain.replay_key));
    assert_eq!((request.program_digest, request.root_seed), (plain.program_digest, plain.root_seed));
    for part in [
        "<title>Storm &amp; hail &lt;2026&gt;</title>",
        "First line.\n\nSecond.",
        "Actuarial function",
        "2026-12-31",
        "Amounts are in CHF.",
        "Quantiles of the net annual loss, CHF",
        "Lines before treaties (VaR, TVaR and OEP at 98%), CHF",
        "shaded: 95% confidence; amounts in CHF",
        "on a loss, CHF",
        "<p class=\"bar-title\">Lines, CHF",
    ] {
        assert!(page.contains(part) && !plain_page.contains(part), "{part}");
    }
    assert!(plain_page.contains("currency of the args"));
    let labels = |request: &Request| {
        let headline = headline(request, &result);
        headline.into_iter().map(|(label, text)| format!("{label}: {text}")).collect::<Vec<_>>()
    };
    assert_eq!(labels(&request)[0], "Title: Storm & hail <2026>");
    assert!(labels(&request).iter().any(|line| line.starts_with("Mean ") && line.ends_with(" CHF")));
    assert!(!labels(&plain).iter().any(|line| line.starts_with("Title") || line.ends_with(" CHF")));
}

#[test]
fn every_arg_in_the_page_has_a_meaning() {
    let mut args = portfolio();
    args["capital"] = json!({"own_funds": 20000, "measure": "tvar", "level": 0.98});
    args["convergence"] = json!({"metric": "mean", "relative_half_width": 0.5});
    let page = render_args(args, ArtifactKind::ReportHtml).2;
    let model = page.split_once("<h2>Model</h2>").unwrap().1.split_once("</table>").unwrap().0;
    let rows: Vec<_> = model.split("<tr><th>").skip(1).collect();
    for name in ["capital.level", "capital.own_funds", "convergence.metric", "report.levels", "lines"] {
        assert!(rows.iter().any(|row| row.starts_with(&format!("{name}</th>"))), "{name}: {rows:#?}");
    }
    for row in rows {
        assert!(!row.contains("<td></td>"), "{row}");
    }
}

#[test]
fn status_shows_the_figures_of_the_summary() {
    let mut args = portfolio();
    args["capital"] = json!({"own_funds": 200_000, "measure": "var", "level": 0.98});
    let (request, result, _) = render_args(args, ArtifactKind::ReportHtml);
    let figures = record_figures(&result.document.output);
    let shown = headline_figures(&figures, Some(request.profile().vocabulary));
    let tables = portfolio_tables(&request, &result, TableWidth::Terminal);
    let table = |part| &tables.iter().find(|table| table.part == part).unwrap().table;
    let steps = &table(PortfolioPart::Steps).rows;
    let (gross, net) = (&steps[0], &steps[steps.len() - 1]);
    let capital = &table(PortfolioPart::Capital).rows;
    let expected = [
        ("Net VaR at 98%", &net[3]),
        ("Gross VaR at 98%", &gross[3]),
        ("Net OEP at 98%", &net[5]),
        ("Gross OEP at 98%", &gross[5]),
        ("SCR", &capital[1][1]),
    ];
    for (label, text) in expected {
        assert!(shown.contains(&(label.to_owned(), text.clone())), "{label} {text}: {shown:?}");
    }
    let ratio = &shown.iter().find(|(label, _)| label == "Solvency ratio").unwrap().1;
    assert_eq!(capital[2][1].split(" (").next(), Some(ratio.as_str()));
    let labels: Vec<_> = shown.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels[..4], ["Mean net loss", "Mean gross loss", "Net VaR at 98%", "Gross VaR at 98%"]);
    // Totals of a year have no occurrences.
    let mut annual = portfolio();
    annual["groups"].as_array_mut().unwrap().pop();
    annual["treaties"] = json!([]);
    let (_, result, _) = render_args(annual, ArtifactKind::ReportHtml);
    assert!(!record_figures(&result.document.output).keys().any(|name| name.ends_with("largest_loss")));
}

/// The table of a part, for a page or for a terminal.
fn table_of(args: Value, currency: &str, part: PortfolioPart, width: TableWidth) -> TitledTable {
    let mut envelope = portfolio_envelope(args);
    if !currency.is_empty() {
        envelope["about"] = json!({"currency": currency});
    }
    let (request, result, _) = render_envelope(envelope, ArtifactKind::ReportHtml);
    let tables = portfolio_tables(&request, &result, width);
    tables.into_iter().find(|table| table.part == part).unwrap()
}

#[test]
fn exceedance_tables_have_the_figures_and_intervals_of_the_result() {
    let (_, result, _) = render(ArtifactKind::ReportHtml);
    let row = &result.document.output["exceedance"][0];
    let amount = |member: &str, figure: &str| format_rounded(row[member][figure].as_f64().unwrap());
    let kinds = [
        (PortfolioPart::Exceedance, ["Net AEP", "Gross AEP"], ["net", "gross"], "var"),
        (PortfolioPart::TailValues, ["Net TVaR", "Gross TVaR"], ["net", "gross"], "tvar"),
        (
            PortfolioPart::LargestLosses,
            ["Net OEP", "Gross OEP"],
            ["net_largest_occurrence", "largest_occurrence"],
            "var",
        ),
        (
            PortfolioPart::LargestTailValues,
            ["Net TVaR", "Gross TVaR"],
            ["net_largest_occurrence", "largest_occurrence"],
            "tvar",
        ),
    ];
    for width in [TableWidth::Terminal, TableWidth::Page] {
        for (part, [net_heading, gross_heading], [net, gross], figure) in kinds {
            let TitledTable { table, notes, .. } = table_of(portfolio(), "", part, width);
            let header = ["Return period", net_heading, "95% CI low", "95% CI high", gross_heading];
            assert_eq!(table.header, header);
            // Of 3,000 years 100 lie beyond.
            let is_tail = figure == "tvar";
            assert_eq!(notes.iter().any(|note| note.starts_with("* Fewer than 400 years")), is_tail);
            let expected = [
                if is_tail { "30 years *" } else { "30 years" }.to_owned(),
                amount(net, figure),
                amount(net, &format!("{figure}_low")),
                amount(net, &format!("{figure}_high")),
                amount(gross, figure),
            ];
            assert_eq!(table.rows, [expected]);
        }
    }
    let mut plain = portfolio();
    plain["treaties"] = json!([]);
    let table = table_of(plain.clone(), "", PortfolioPart::LargestLosses, TableWidth::Page).table;
    assert_eq!(table.header, ["Return period", "OEP", "95% CI low", "95% CI high"]);
    plain["iterations"] = json!(12_000);
    let tail = table_of(plain, "", PortfolioPart::TailValues, TableWidth::Page);
    assert_eq!((tail.table.rows[0][0].as_str(), tail.notes.len()), ("30 years", 0));
}

#[test]
fn a_capital_requirement_with_a_narrow_interval_is_marked() {
    let scr = |measure: &str, level: f64| {
        let mut args = portfolio();
        args["capital"] = json!({"own_funds": 20_000, "measure": measure, "level": level});
        let table = table_of(args, "", PortfolioPart::Capital, TableWidth::Terminal);
        (table.table.rows[1][0].clone(), table.notes.len())
    };
    assert_eq!(scr("tvar", 0.98), ("SCR: net TVaR at 98% *".to_owned(), 2));
    assert_eq!(scr("tvar", 0.8), ("SCR: net TVaR at 80%".to_owned(), 0));
    assert_eq!(scr("var", 0.98), ("SCR: net VaR at 98%".to_owned(), 0));
}

#[test]
fn warnings_of_cut_amounts_name_the_levels_that_they_reach() {
    let warnings = |threshold: f64, alpha: f64, limit: Option<f64>, highest: f64| {
        let mut args = portfolio();
        args["groups"][1]["claims"][0] =
            json!({"line": "property <A>", "severity": {"pareto": {"threshold": threshold, "alpha": alpha}}});
        if let Some(limit) = limit {
            args["groups"][1]["claims"][0]["limit"] = json!(limit);
        }
        args["treaties"] = json!([]);
        args["report"] = json!({"levels": [0.5, 0.9, highest], "return_periods": [2, 10]});
        let (request, result, _) = render_args(args, ArtifactKind::ReportHtml);
        let figures = &result.document.output["gross"]["quantiles"];
        (result_warnings(&request, &result).join(" "), figures[1]["var"].as_f64().unwrap())
    };
    // About 63% of the years have a claim, and 1% of the claims are cut.
    let (text, var) = warnings(9e11, 1.0, None, 0.999);
    assert!(var < 9e13, "{var}");
    for part in [
        "exceeded 90,071,992,547,410, the largest there is",
        "VaR is too low at 99.9% and above.",
        "At lower levels VaR is below the cut amounts, so it is not affected.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // One claim in three is cut.
    let (text, var) = warnings(9e12, 0.5, None, 0.999);
    assert!(var > 9e13, "{var}");
    assert!(
        text.contains("VaR is too low at 90% and above, and at return periods of 10 years and above."),
        "{text}"
    );
    // One claim in 1,000 is cut.
    let (text, _) = warnings(9e10, 1.0, None, 0.95);
    assert!(
        text.contains("VaR is below the cut amounts at all reported levels, so it is not affected."),
        "{text}"
    );
    let (text, _) = warnings(9e11, 1.0, Some(1e13), 0.999);
    assert!(!text.contains("exceeded"), "{text}");
}

#[test]
fn checks_state_figures_of_the_groups_that_the_model_knows_and_why_it_knows_no_others() {
    let mut args = portfolio();
    args["indices"] = json!([{"name": "inflation", "lognormal": {"mean": 1, "cv": 0.04}}]);
    let mut indexed = args["groups"][1].clone();
    indexed["name"] = json!("hail");
    indexed["claims"][0]["index"] = json!("inflation");
    args["groups"].as_array_mut().unwrap().push(indexed);
    let table = table_of(args, "CHF", PortfolioPart::Checks, TableWidth::Page);
    assert_eq!(table.title, "Checks against the model (z: distance in standard errors)");
    let labels: Vec<_> = table.table.rows.iter().map(|row| row[0].as_str()).collect();
    for label in [
        "storm: mean of the occurrences",
        "storm: mean of the annual loss, CHF",
        "storm: variance of the annual loss, CHF²",
    ] {
        assert!(labels.contains(&label), "{label}: {labels:?}");
    }
    // The model has a figure for the storms, and none for hail or for both together.
    let largest: Vec<_> = labels.iter().filter(|label| label.contains("largest loss")).collect();
    assert_eq!(largest.len(), 1, "{largest:?}");
    assert!(largest[0].starts_with("storm: probability that the largest loss exceeds "), "{largest:?}");
    assert!(largest[0].ends_with(" CHF"), "{largest:?}");
    let note = "The largest loss of a year and of hail depends on an index, so no model figure.";
    assert!(table.notes.iter().any(|found| found == note), "{:?}", table.notes);
}

#[test]
fn premiums_have_the_standard_errors_of_commissions_that_depend_on_the_year() {
    let table = |args: Value| table_of(args, "", PortfolioPart::Premiums, TableWidth::Terminal).table;
    let plain = table(portfolio());
    assert_eq!(plain.header, ["Treaty", "Ceded", "Commission", "Profit comm.", "Net"]);
    assert_eq!(plain.rows, [["A", "200.00", "-", "-", "200.00"]]);
    let mut args = portfolio();
    args["treaties"][0]["profit_commission"] = json!({"share": 0.5});
    let (request, result, _) = render_args(args.clone(), ArtifactKind::ReportHtml);
    let error = request.commission_errors(&result.merged)[0].profit_commission.unwrap();
    assert!(error > 0.0);
    let with_errors = table(args);
    assert_eq!(with_errors.header[3..6], ["S.e.", "Profit comm.", "S.e."]);
    assert_eq!(with_errors.rows[0][2..4], ["-", "-"]);
    assert_eq!(with_errors.rows[0][5], format_rounded(error));
}

#[test]
fn the_allocation_says_why_its_net_loss_is_not_quite_the_tvar() {
    let table = table_of(portfolio(), "", PortfolioPart::Allocation, TableWidth::Terminal);
    assert_eq!(table.title, "Tail allocation: means of the years beyond the net VaR at 98%");
    assert!(table.notes[0].ends_with("so net is not exactly the net TVaR."), "{:?}", table.notes);
}

#[test]
fn terms_of_commissions_are_in_words() {
    let mut args = portfolio();
    args["treaties"][1] = json!({
        "name": "Q", "kind": "quota_share", "covers": ["property <A>"], "cession": 0.5, "premium": 900,
        "commission": [{"loss_ratio": 0.4, "rate": 0.35}, {"loss_ratio": 0.6, "rate": 0.25}],
        "profit_commission": {"share": 0.2, "margin": 0.05}
    });
    let page = render_args(args, ArtifactKind::ReportHtml).2;
    for part in [
        "commission sliding: 0.35 at a loss ratio of 0.4 and 0.25 at a loss ratio of 0.6",
        "profit commission 0.2 of the profit after a margin of 0.05",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
