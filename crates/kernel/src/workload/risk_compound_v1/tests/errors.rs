//! Every error has the pointer of the value to change.

use super::*;

/// Args with one error: its pointer within the args, and a part of its message.
#[track_caller]
pub(super) fn assert_error(args: &Value, path: &str, part: &str) {
    let errors = read(args).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0].0, format!("/args{path}"), "{errors:?}");
    assert!(errors[0].1.contains(part), "{errors:?}");
}

#[test]
fn missing_fields_are_listed_at_once() {
    let errors = read(&json!({})).unwrap_err();
    let pointers: Vec<_> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(pointers, ["/args/iterations", "/args/lines", "/args/groups"]);
}

#[test]
fn names_are_short_and_differ() {
    let wanted = "must be a string of 1 to 64 characters, none of them a control character";
    assert_error(&with("/groups/0/name", json!("")), "/groups/0/name", wanted);
    assert_error(&with("/groups/0/name", json!("ä".repeat(65))), "/groups/0/name", wanted);
    assert_error(&with("/indices/0/name", json!("a\nb")), "/indices/0/name", wanted);
    assert_error(&with("/groups/2/name", json!("year")), "/groups/2/name", "an earlier group");
    let lines = with("/lines", json!(["property", "motor", "property"]));
    assert_error(&lines, "/lines/2", "repeats element 0");
    read(&with("/groups/0/name", json!("ä".repeat(64)))).unwrap();
}

#[test]
fn unknown_names_are_listed_with_the_nearest_one() {
    let path = "/groups/1/claims/0/line";
    assert_error(&with(path, json!("propery")), path, "did you mean \"property\"?");
    let path = "/groups/0/annual/0/index";
    assert_error(&with(path, json!("inflatio")), path, "did you mean \"inflation\"?");
    let mut args = base();
    args.as_object_mut().unwrap().remove("indices");
    assert_error(&args, "/groups/1/claims/0/index", "`indices` has none");
    let treaty = json!({"kind": "quota_share", "covers": ["moto"], "cession": 0.1, "groups": ["larg"]});
    let errors = read(&with_treaties(&[treaty])).unwrap_err();
    assert_eq!(errors[0].0, "/args/treaties/0/covers/0");
    assert!(errors[0].1.contains("did you mean \"motor\"?"), "{errors:?}");
    assert_eq!(errors[1].0, "/args/treaties/0/groups/0");
    assert!(errors[1].1.contains("did you mean \"large\"?"), "{errors:?}");
}

#[test]
fn errors_in_lines_and_groups_are_not_repeated_where_they_are_named() {
    let mut args = with_treaties(&[json!({"kind": "quota_share", "covers": ["x"], "cession": 0.1})]);
    set(&mut args, "/lines", json!("property"));
    assert_error(&args, "/lines", "must be a list of strings, not a string");
    let mut args = with_treaties(&[json!({
        "kind": "quota_share", "covers": ["motor"], "cession": 0.1, "groups": ["x"]
    })]);
    set(&mut args, "/groups/1", json!(7));
    assert_error(&args, "/groups/1", "must be an object, not a number");
}

/// The pointers of all errors, within the args.
fn pointers(args: &Value) -> Vec<String> {
    let errors = read(args).unwrap_err().into_iter();
    errors.map(|(pointer, _)| pointer.strip_prefix("/args").unwrap().to_owned()).collect()
}

#[test]
fn errors_of_components_do_not_hide_those_of_treaties() {
    let share = |covers: &str, groups: Value| json!({"kind": "quota_share", "covers": [covers], "cession": 0.6, "groups": groups});
    let aggregate = json!({"kind": "aggregate_xl", "covers": ["motor"], "attachment": 1});
    let mut late = json!({"kind": "occurrence_xl", "covers": ["motor"], "attachment": 1, "step": 2});
    late["groups"] = json!(["storms"]);
    let mut args = with_treaties(&[
        share("motor", json!(["larg"])),
        share("motor", Value::Null),
        share("motor", Value::Null),
        share("property", json!(["year"])),
        aggregate,
        late,
    ]);
    set(&mut args, "/groups/1/claims/0/severity", json!({"pareto2": {}}));
    set(&mut args, "/groups/2/count", json!({"poison": 1}));
    set(&mut args, "/indices/0", json!({"name": "inflation", "pareto": {"threshold": 1e7, "alpha": 1}}));
    set(&mut args, "/groups/2/strikes/0/severity", json!({"pareto": {"threshold": 10, "alpha": 1.5}}));
    set(&mut args, "/convergence", json!({"metric": "mean", "relative_half_width": 0.1}));
    let found = pointers(&args);
    for expected in [
        "/groups/1/claims/0/severity/pareto2",
        "/groups/2/count/poison",
        "/indices/0/pareto/threshold",
        "/treaties/0/groups/0",
        "/treaties/2/cession",
        "/treaties/3/covers",
        "/treaties/5/groups/0",
        "/treaties/5/step",
    ] {
        assert!(found.iter().any(|pointer| pointer == expected), "{expected}: {found:?}");
    }
    assert_eq!(found.len(), 8, "{found:?}");
    set(&mut args, "/treaties", json!([]));
    assert_eq!(pointers(&args).last().unwrap(), "/convergence/metric");
}

#[test]
fn repeated_names_of_lines_hide_no_other_error() {
    let mut args = with_treaties(&[json!({"kind": "quota_share", "covers": ["moto"], "cession": 0.1})]);
    set(&mut args, "/lines", json!(["property", "motor", "property"]));
    set(&mut args, "/groups/0/annual/0/line", json!("proprty"));
    set(&mut args, "/groups/2/strikes/0/severity", json!({"lognormal": {"mu": 40, "sigma": 1}}));
    let expected =
        ["/lines/2", "/groups/0/annual/0/line", "/treaties/0/covers/0", "/groups/2/strikes/0/severity"];
    assert_eq!(pointers(&args), expected);
}

#[test]
fn errors_have_no_consequences() {
    // The name may be the one that others refer to.
    let mut args = with_treaties(&[json!({
        "kind": "quota_share", "covers": ["motor"], "cession": 0.1, "groups": ["larger"]
    })]);
    set(&mut args, "/groups/1/name", json!(7));
    assert_error(&args, "/groups/1/name", "must be a string of 1 to 64 characters");
    // Amounts that are fine with other decimals.
    let mut args = with("/decimals", json!("4"));
    set(&mut args, "/groups/1/claims/1/limit", json!(0.0001));
    set(&mut args, "/groups/1/claims/1/deductible", json!(1e15));
    assert_error(&args, "/decimals", "must be a whole number from 0 to 4");
    // The second component is not the first one because that is no object.
    assert_error(&with("/groups/2/strikes/0", json!(7)), "/groups/2/strikes/0", "must be an object");
    // A ratio of a premium that is not known.
    let treaty = json!({
        "kind": "aggregate_xl", "covers": ["motor"], "attachment_ratio": 1, "limit_ratio": 0.1, "premium": 0
    });
    assert_error(&with_treaties(&[treaty]), "/treaties/0/premium", "must be from 0.01");
    // Placeholders of unknown lines and components are not ceded, and covered by what covers them.
    let share = json!({"kind": "quota_share", "covers": ["property"], "cession": 0.6});
    let mut args = with_treaties(&[share.clone(), share]);
    set(&mut args, "/groups/1/claims/0/line", json!("x"));
    set(&mut args, "/groups/2/strikes/0/line", json!("x"));
    assert_eq!(pointers(&args), ["/groups/1/claims/0/line", "/groups/2/strikes/0/line"]);
    let layer =
        json!({"kind": "occurrence_xl", "covers": ["property"], "groups": ["storm"], "attachment": 1});
    let mut args = with_treaties(&[layer]);
    set(&mut args, "/groups/2/strikes", json!({}));
    assert_error(&args, "/groups/2/strikes", "must be a list of objects");
}

#[test]
fn all_counts_without_a_table_are_listed() {
    let mut args = with("/groups/1/count", json!({"negative_binomial": {"mean": 1000, "contagion": 900}}));
    set(&mut args, "/groups/2/count", json!({"geometric": 10_000}));
    let errors = compile::compile(&read(&args).unwrap().portfolio()).unwrap_err().into_errors();
    let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/args/groups/1/count", "/args/groups/2/count"]);
}

#[test]
fn groups_have_one_kind_of_components() {
    let kinds = "`annual`, or `count` and `claims`, or `count` and `strikes`";
    assert_error(&with("/groups/0", json!({"name": "x"})), "/groups/0", kinds);
    assert_error(&with("/groups/0", json!({"name": "x", "claim": []})), "/groups/0/claim", "`claims`");
    let both = with("/groups/1/strikes", base()["groups"][2]["strikes"].clone());
    assert_error(&both, "/groups/1", kinds);
    assert_error(&with("/groups/0/count", json!({"poisson": 1})), "/groups/0/count", "with `annual`");
    let mut args = base();
    args["groups"][1].as_object_mut().unwrap().remove("count");
    assert_error(&args, "/groups/1/count", "is missing");
    assert_error(&with("/groups/1/claims", json!([])), "/groups/1/claims", "must have 1 to 64 elements");
}

#[test]
fn sizes_are_limited() {
    let component = base()["groups"][1]["claims"][1].clone();
    let components = |count: usize| Value::from(vec![component.clone(); count]);
    read(&with("/groups/1/claims", components(61))).unwrap();
    assert_error(&with("/groups/1/claims", components(62)), "/groups", "at most 64 components");
    let mut args = base();
    args["lines"] = (0..15).map(|i| format!("line {i}")).chain(["property".into(), "motor".into()]).collect();
    assert_error(&args, "/lines", "must have 1 to 16 elements; it has 17");
    let treaty = json!({"kind": "quota_share", "covers": ["motor"], "cession": 0.01});
    read(&with_treaties(&vec![treaty.clone(); 32])).unwrap();
    assert_error(&with_treaties(&vec![treaty; 33]), "/treaties", "it has 33");
}

#[test]
fn policy_terms_are_checked() {
    let claim = "/groups/1/claims/1";
    let at =
        |field: &str, value: Value| (with(&format!("{claim}/{field}"), value), format!("{claim}/{field}"));
    for (field, value, part) in [
        ("limit", json!(0), "from 0.01 to 10000000000000"),
        ("deductible", json!(-1), "from 0.01"),
        ("share", json!(0), "greater than 0 and at most 1"),
        ("share", json!(0.333_333_3), "at most six decimals"),
        ("weight", json!(0), "from 1e-9"),
        ("franchise", json!(10), "together with `deductible`"),
        ("limits", json!(10), "did you mean `limit`?"),
        ("rank", json!("same"), "is not a known key"),
    ] {
        let (args, path) = at(field, value);
        assert_error(&args, &path, part);
    }
    let path = "/groups/2/strikes/0/rank";
    assert_error(&with(path, json!("same")), path, "first component");
    let path = "/groups/2/strikes/1/rank";
    assert_error(&with(path, json!("other")), path, "must be \"same\"");
}

#[test]
fn amounts_depend_on_the_decimals() {
    let mut args = with("/decimals", json!(0));
    set(&mut args, "/groups/1/claims/1/limit", json!(0.5));
    assert_error(&args, "/groups/1/claims/1/limit", "from 1 to 1000000000000000");
    set(&mut args, "/decimals", json!(4));
    read(&args).unwrap();
    set(&mut args, "/groups/1/claims/1/limit", json!(1e12));
    assert_error(&args, "/groups/1/claims/1/limit", "from 0.0001 to 100000000000");
    assert_error(&with("/decimals", json!(5)), "/decimals", "from 0 to 4");
}

#[test]
fn amounts_that_would_saturate_need_a_limit() {
    let severity = json!({"lognormal": {"mu": 40, "sigma": 1}});
    let path = "/groups/1/claims/0/severity";
    assert_error(&with(path, severity.clone()), path, "exceed the largest representable amount");
    let mut args = with(path, severity.clone());
    set(&mut args, "/groups/1/claims/0/limit", json!(1e9));
    read(&args).unwrap();
    let mut index = severity;
    index["name"] = "inflation".into();
    assert_error(&with("/indices/0", index), "/indices/0", "median of at most 1000000");
}

#[test]
fn terms_of_other_kinds_of_treaties_are_named() {
    let quota_share = json!({"kind": "quota_share", "covers": ["motor"], "cession": 0.1});
    let occurrence = json!({"kind": "occurrence_xl", "covers": ["motor"], "attachment": 1});
    let aggregate = json!({"kind": "aggregate_xl", "covers": ["motor"], "attachment": 1});
    for (treaty, field, value, part) in [
        (&quota_share, "aad", json!(1), "is a term of occurrence_xl, not of quota_share"),
        (&quota_share, "placed", json!(1), "is a term of occurrence_xl and aggregate_xl, not of quota_share"),
        (&quota_share, "event_limits", json!(1), "did you mean `event_limit`?"),
        (&quota_share, "zzz", json!(1), "the known keys are `name`"),
        (&quota_share, "cession", json!(1.5), "greater than 0 and at most 1"),
        (&quota_share, "commission", json!(0.123_456_7), "at most six decimals"),
        (&quota_share, "step", json!(33), "from 1 to 32"),
        (&quota_share, "covers", json!([]), "at least one element"),
        (&quota_share, "groups", json!([]), "at least one element"),
        (&quota_share, "kind", json!("quota"), "did you mean \"quota_share\"?"),
        (&occurrence, "event_limit", json!(1), "is a term of quota_share"),
        (&occurrence, "reinstatements", json!([1]), "needs `limit`"),
        (&aggregate, "groups", json!(["large"]), "what all groups leave"),
        (&aggregate, "attachment_ratio", json!(null), ""),
    ] {
        let mut treaty = treaty.clone();
        treaty[field] = value;
        let args = with_treaties(&[treaty]);
        if part.is_empty() {
            read(&args).unwrap();
        } else {
            assert_error(&args, &format!("/treaties/0/{field}"), part);
        }
    }
    let knot = |ratio: f64, rate: f64| json!({"loss_ratio": ratio, "rate": rate});
    for (treaty, field, value, pointer, part) in [
        (&quota_share, "commission", json!([knot(0.4, 0.3)]), "", "2 to 16 elements"),
        (&quota_share, "commission", json!([knot(0.4, 0.3), knot(0.6, 0.2)]), "", "needs `premium`"),
        (
            &quota_share,
            "commission",
            json!([knot(0.6, 0.3), knot(0.6, 0.2)]),
            "/1/loss_ratio",
            "must be above",
        ),
        (&quota_share, "commission", json!([knot(0.4, 0.3), knot(0.6, 1.2)]), "/1/rate", "from 0 to 1"),
        (&quota_share, "commission", json!([{"loss_ratio": 1}, knot(2.0, 0.1)]), "/0/rate", "is missing"),
        (&occurrence, "profit_commission", json!({"share": 0.5}), "", "needs `premium`"),
        (&aggregate, "profit_commission", json!({"margin": 0.5}), "/share", "is missing"),
        (&aggregate, "profit_commission", json!({"share": 0.5, "margin": 2}), "/margin", "from 0 to 1"),
        (&aggregate, "profit_commission", json!({"share": 0.5, "of": 2}), "/of", "is not a known key"),
    ] {
        let mut treaty = treaty.clone();
        treaty[field] = value;
        assert_error(&with_treaties(&[treaty]), &format!("/treaties/0/{field}{pointer}"), part);
    }
    let mut ratios =
        json!({"kind": "aggregate_xl", "covers": ["motor"], "attachment_ratio": 1, "premium": 900});
    ratios["profit_commission"] = json!({"share": 0.5});
    assert_error(
        &with_treaties(&[ratios]),
        "/treaties/0/profit_commission",
        "is not possible with `attachment_ratio` or `limit_ratio`: `premium` is then that of the covered lines",
    );
    // One error for a value of the wrong kind.
    for (field, value, part) in [
        ("commission", json!({"loss_ratio": 0.5, "rate": 0.2}), "(a sliding scale), not an object"),
        ("commission", json!("0.2"), "a number from 0 to 1, or a list of 2 to 16 objects"),
        ("profit_commission", json!(0.2), "must be an object such as {\"share\": 0.25}, not a number"),
        ("profit_commission", json!([{"share": 0.5}]), "not an array"),
    ] {
        let mut treaty = quota_share.clone();
        treaty[field] = value;
        let args = with_treaties(&[treaty]);
        assert_error(&args, &format!("/treaties/0/{field}"), part);
        assert_eq!(read(&args).unwrap_err().len(), 1);
    }
    for (field, part) in [("kind", "is missing"), ("covers", "is missing"), ("cession", "is missing")] {
        let mut treaty = quota_share.clone();
        treaty.as_object_mut().unwrap().remove(field);
        assert_error(&with_treaties(&[treaty]), &format!("/treaties/0/{field}"), part);
    }
}

#[test]
fn prices_of_reinstatements_are_checked_one_by_one() {
    let treaty = json!({
        "kind": "occurrence_xl", "covers": ["motor"], "attachment": 1, "limit": 5,
        "reinstatements": [1, 11, 0.123_456_7, "free"]
    });
    let errors = read(&with_treaties(&[treaty])).unwrap_err();
    let pointers: Vec<_> = errors.iter().map(|(pointer, _)| pointer.rsplit('/').next().unwrap()).collect();
    assert_eq!(pointers, ["1", "3"], "{errors:?}");
}

#[test]
fn ratios_of_aggregate_layers_need_a_premium() {
    let treaty = |terms: Value| {
        let mut treaty = json!({"kind": "aggregate_xl", "covers": ["motor"]});
        treaty.as_object_mut().unwrap().extend(terms.as_object().unwrap().clone());
        with_treaties(&[treaty])
    };
    let at = |field: &str| format!("/treaties/0/{field}");
    assert_error(
        &treaty(json!({"attachment_ratio": 1.1})),
        &at("attachment_ratio"),
        "that of the covered lines",
    );
    assert_error(&treaty(json!({"limit": 5})), &at("attachment"), "or `attachment_ratio` with the `premium`");
    let both = json!({"attachment": 1, "attachment_ratio": 1.1, "premium": 10});
    assert_error(&treaty(both), &at("attachment_ratio"), "together with `attachment`");
    let both = json!({"attachment": 1, "limit": 1, "limit_ratio": 1.1, "premium": 10});
    assert_error(&treaty(both), &at("limit_ratio"), "together with `limit`");
    let none = json!({"attachment_ratio": 1, "limit_ratio": 0.000_001, "premium": 1000});
    assert_error(&treaty(none), &at("limit_ratio"), "gives a limit of 0");
}

#[test]
fn severities_that_are_numbers_get_a_hint() {
    let path = "/groups/1/claims/0/severity";
    assert_error(&with(path, json!(5)), path, r#"not a number: {"constant": 5} is always this amount"#);
}

#[test]
fn an_unknown_metric_is_the_only_error_of_a_convergence() {
    let args = with("/convergence", json!({"metric": "median", "relative_half_width": 0.1}));
    assert_error(&args, "/convergence/metric", "median");
}

#[test]
fn treaties_cover_components() {
    let treaty = json!({"kind": "quota_share", "covers": ["property"], "cession": 0.1, "groups": ["year"]});
    assert_error(&with_treaties(&[treaty]), "/treaties/0/covers", "covers nothing");
}

#[test]
fn quota_shares_of_a_step_cede_at_most_everything() {
    let share = |covers: &[&str], cession: f64, step: u32| json!({"kind": "quota_share", "covers": covers, "cession": cession, "step": step});
    let both = ["property", "motor"];
    read(&with_treaties(&[share(&both, 0.5, 1), share(&["motor"], 0.5, 1)])).unwrap();
    read(&with_treaties(&[share(&both, 0.6, 1), share(&both, 0.6, 2)])).unwrap();
    read(&with_treaties(&[share(&["property"], 0.6, 1), share(&["motor"], 0.6, 1)])).unwrap();
    let args =
        with_treaties(&[share(&both, 0.6, 1), share(&["property"], 0.1, 1), share(&["motor"], 0.5, 1)]);
    assert_error(&args, "/treaties/2/cession", "cede 1.1 of line \"motor\"");
    // Different groups have no amount in common, and an event limit may keep the sum below 1.
    let mut of_groups = [share(&both, 0.6, 1), share(&both, 0.6, 1)];
    of_groups[0]["groups"] = json!(["large"]);
    of_groups[1]["groups"] = json!(["storm", "year"]);
    read(&with_treaties(&of_groups)).unwrap();
    let mut limited = [share(&both, 0.6, 1), share(&both, 0.6, 1)];
    limited[0]["event_limit"] = json!(100);
    read(&with_treaties(&limited)).unwrap();
}

#[test]
fn occurrence_treaties_do_not_follow_aggregate_ones() {
    let aggregate = json!({"kind": "aggregate_xl", "covers": ["motor"], "attachment": 1, "step": 2});
    let occurrence =
        json!({"kind": "occurrence_xl", "covers": ["property", "motor"], "attachment": 1, "step": 3});
    let args = with_treaties(&[occurrence.clone(), aggregate.clone()]);
    assert_error(&args, "/treaties/0/step", "must not be after step 2, the step of \"T1\"");
    let mut other_line = occurrence;
    other_line["covers"] = json!(["property"]);
    read(&with_treaties(&[other_line, aggregate.clone()])).unwrap();
    let mut later = aggregate.clone();
    later["step"] = json!(3);
    read(&with_treaties(&[aggregate, later])).unwrap();
}

#[test]
fn capital_and_report_are_checked() {
    assert_error(&with("/capital", json!({"level": 0.9})), "/capital/own_funds", "is missing");
    let path = "/capital/level";
    let capital = |level: f64| with("/capital", json!({"own_funds": 5, "level": level}));
    assert_error(&capital(1.0), path, "less than 1");
    assert_error(&capital(0.999_999_9), path, "at most six decimals");
    assert_error(&with("/report", json!({"levels": [0.5, 0.5]})), "/report/levels/1", "repeats");
    assert_error(&with("/report", json!({"levels": [1]})), "/report/levels/0", "less than 1");
    let periods = |list: Value| with("/report", json!({"return_periods": list}));
    assert_error(&periods(json!([2.5])), "/report/return_periods/0", "whole number");
    assert_error(&periods(json!([5, 1])), "/report/return_periods/1", "from 2 to 1000000");
    assert_error(&periods(json!([])), "/report/return_periods", "1 to 64 elements");
    let portfolio = read(&periods(json!([100, 2]))).unwrap().portfolio();
    assert_eq!(portfolio.report.return_periods, [2, 100]);
    assert_error(&with("/reports", json!({})), "/reports", "did you mean `report`?");
}

#[test]
fn convergence_needs_the_moments_of_its_metric() {
    let severity = "/groups/1/claims/0/severity";
    let pareto = |alpha: f64, metric: Value| {
        let mut args = with(severity, json!({"pareto": {"threshold": 100, "alpha": alpha}}));
        set(&mut args, "/convergence", metric);
        args
    };
    let mean = json!({"metric": "mean", "relative_half_width": 0.02});
    let tvar = json!({"metric": "tvar", "level": 0.99, "relative_half_width": 0.02});
    let var = json!({"metric": "var", "level": 0.99, "relative_half_width": 0.02});
    let message = "needs a variance, which the net annual loss does not have \
                   (/args/groups/1/claims/0/severity, tail index 1.6); use a quantile, or give a limit";
    for metric in [&mean, &tvar] {
        assert_error(&pareto(1.6, metric.clone()), "/convergence/metric", message);
        assert_error(&pareto(0.9, metric.clone()), "/convergence/metric", "tail index 0.9)");
        assert_error(&pareto(2.0, metric.clone()), "/convergence/metric", "tail index 2)");
        read(&pareto(2.1, metric.clone())).unwrap();
        let mut limited = pareto(0.9, metric.clone());
        set(&mut limited, "/groups/1/claims/0/limit", json!(1e6));
        read(&limited).unwrap();
        // A layer without a limit leaves a net loss that has all moments.
        let mut ceded = pareto(0.9, metric.clone());
        let layer =
            json!({"name": "XL", "kind": "occurrence_xl", "covers": ["property"], "attachment": 1000});
        set(&mut ceded, "/treaties", json!([layer]));
        read(&ceded).unwrap();
    }
    read(&pareto(0.9, var)).unwrap();
    let mut index =
        with("/indices/0", json!({"name": "inflation", "pareto": {"threshold": 1, "alpha": 1.5}}));
    set(&mut index, "/convergence", mean);
    assert_error(&index, "/convergence/metric", "(/args/indices/0, tail index 1.5)");
}
