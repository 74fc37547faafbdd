//! Warnings are given for suspicious args, and only for those.

use super::*;

/// The warnings of valid args.
fn warnings_of(args: &Value) -> Vec<(String, String)> {
    let args = read(args).unwrap();
    let warnings = args.warnings(&compile::compile(&args.portfolio()).unwrap());
    warnings.into_iter().map(|warning| (warning.pointer, warning.message)).collect()
}

#[track_caller]
fn assert_warning(args: &Value, path: &str, part: &str) {
    let warnings = warnings_of(args);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0].0, format!("/args{path}"), "{warnings:?}");
    assert!(warnings[0].1.contains(part), "{warnings:?}");
}

#[track_caller]
fn assert_silent(args: &Value) {
    assert_eq!(warnings_of(args), []);
}

fn layer(attachment: u64, limit: u64) -> Value {
    json!({"kind": "occurrence_xl", "covers": ["property"], "groups": ["large"], "attachment": attachment, "limit": limit})
}

#[test]
fn plausible_args_have_none() {
    assert_silent(&base());
    assert_silent(&with_treaties(&[layer(1000, 1000), layer(2000, 3000)]));
}

#[test]
fn unused_names() {
    assert_warning(&with("/lines", json!(["property", "motor", "other"])), "/lines/2", "has no component");
    let mut args = base();
    args["groups"][1]["claims"][0].as_object_mut().unwrap().remove("index");
    assert_warning(&args, "/indices/0", "is not used");
}

#[test]
fn counts() {
    assert_warning(&with("/groups/1/count", json!({"poisson": 0})), "/groups/1/count", "no occurrences");
    let path = "/groups/1/count/discrete/probabilities";
    let discrete = |weights: Value| with("/groups/1/count", json!({"discrete": {"probabilities": weights}}));
    assert_warning(&discrete(json!([0.5, 0.4])), path, "add up to 0.9");
    assert_silent(&discrete(json!([0.5, 0.25, 0.25])));
}

#[test]
fn probabilities_of_amounts() {
    let path = "/groups/1/claims/0/severity";
    let discrete = |weights: Value| {
        with(path, json!({"discrete": {"amounts": [100, 200, 300], "probabilities": weights}}))
    };
    let probabilities = format!("{path}/discrete/probabilities");
    assert_warning(&discrete(json!([0.5, 0.4, 0.2])), &probabilities, "add up to 1.1");
    assert_silent(&discrete(json!([0.5, 0.25, 0.25])));
}

#[test]
fn small_medians() {
    let path = "/groups/1/claims/0/severity";
    for (family, is_small) in [
        (json!({"exponential": 1.4}), true),
        (json!({"exponential": 1.5}), false),
        // A gamma median is far below the mean when the shape is small.
        (json!({"gamma": {"shape": 0.1, "scale": 100}}), true),
        (json!({"gamma": {"shape": 1, "scale": 100}}), false),
    ] {
        if is_small {
            assert_warning(&with(path, family), path, "minor units");
        } else {
            assert_silent(&with(path, family));
        }
    }
}

#[test]
fn moments_that_do_not_exist() {
    let path = "/groups/1/claims/0/severity";
    let pareto = |alpha: f64| with(path, json!({"pareto": {"threshold": 100, "alpha": alpha}}));
    assert_warning(&pareto(1.0), path, "has no mean");
    assert_warning(&pareto(2.0), path, "has no variance");
    assert_silent(&pareto(2.1));
    assert_warning(&with(path, json!({"gpd": {"threshold": 0, "scale": 100, "xi": 1}})), path, "has no mean");
    assert_warning(
        &with(path, json!({"burr": {"alpha": 0.5, "scale": 100, "gamma": 3}})),
        path,
        "has no variance",
    );
    assert_warning(&with(path, json!({"lognormal": {"mu": 5, "sigma": 6}})), path, "beyond the largest draw");
    let mut limited = pareto(0.5);
    set(&mut limited, "/groups/1/claims/0/limit", json!(1e6));
    assert_silent(&limited);
}

#[test]
fn indices_without_moments_are_named() {
    let index = |law: Value, severity: Value| {
        let mut args = with("/indices/0", law);
        set(&mut args, "/groups/1/claims/0/severity", severity);
        args
    };
    let pareto = json!({"name": "inflation", "pareto": {"threshold": 0.5, "alpha": 0.9}});
    let gpd = json!({"gpd": {"threshold": 100, "scale": 100, "xi": 0.55}});
    let lognormal = json!({"lognormal": {"mu": 9, "sigma": 1}});
    for severity in [lognormal, gpd.clone(), json!({"constant": 1000})] {
        assert_warning(
            &index(pareto.clone(), severity),
            "/groups/1/claims/0/index",
            "names \"inflation\", which has no mean (tail index 0.9) and no limit: means, standard deviations and \
             TVaR of every amount that this tail enters are null. VaR needs no moment, but is right only below \
             90,071,992,547,409, the largest amount there is.",
        );
    }
    let severity = index(json!({"name": "inflation", "lognormal": {"mean": 1, "cv": 0.04}}), gpd);
    assert_warning(&severity, "/groups/1/claims/0/severity", "has no variance (tail index 1.818)");
}

#[test]
fn terms_that_take_off_everything() {
    let args = with("/groups/1/claims/1/deductible", json!(900));
    assert_warning(&args, "/groups/1/claims/1", "never pays anything");
}

#[test]
fn layers_that_never_attach() {
    let storm = |attachment: u64| {
        json!({"kind": "occurrence_xl", "covers": ["property", "motor"], "groups": ["storm"],
               "attachment": attachment, "limit": 100})
    };
    // 3000 of the property and at most 4000 of the motor line.
    assert_warning(
        &with_treaties(&[storm(7000)]),
        "/treaties/0/attachment",
        "an occurrence is at most 7,000",
    );
    assert_silent(&with_treaties(&[storm(6999)]));
    let mut half = storm(3500);
    half["cession"] = json!(0.5);
    assert_warning(&with_treaties(&[half]), "/treaties/0/attachment", "at most 3,500");
    // Some tens of large claims may occur.
    let year = json!({"kind": "aggregate_xl", "covers": ["motor"], "attachment": 15_000, "limit": 10});
    assert_silent(&with_treaties(std::slice::from_ref(&year)));
    let far = json!({"kind": "aggregate_xl", "covers": ["motor"], "attachment": 100_000, "limit": 10});
    assert_warning(&with_treaties(&[far]), "/treaties/0/attachment", "a year is at most");
    // The largest draw of an exponential law is 45 times its mean, and an index of 4% adds less
    // than half of that.
    assert_silent(&with_treaties(&[layer(90_000, 1000)]));
    assert_warning(
        &with_treaties(&[layer(200_000, 1000)]),
        "/treaties/0/attachment",
        "an occurrence is at most",
    );
    let mut args = with_treaties(&[year]);
    set(&mut args, "/groups/1/count", json!({"binomial": {"trials": 10, "probability": 0.1}}));
    // A total of 5000, ten claims of 500 and a storm of 4000.
    assert_warning(&args, "/treaties/0/attachment", "a year is at most 14,000");
}

#[test]
fn layers_above_what_earlier_steps_leave() {
    let later = |mut treaty: Value| {
        treaty["step"] = json!(2);
        treaty
    };
    let share =
        |cession: f64| json!({"kind": "quota_share", "covers": ["property", "motor"], "cession": cession});
    let message = "earlier steps leave nothing";
    assert_warning(&with_treaties(&[share(1.0), later(layer(1000, 500))]), "/treaties/1/covers", message);
    assert_silent(&with_treaties(&[share(0.9), later(layer(1000, 500))]));
    let mut unlimited = layer(1000, 1);
    unlimited.as_object_mut().unwrap().remove("limit");
    let treaties = [unlimited.clone(), later(layer(1000, 500))];
    assert_warning(&with_treaties(&treaties), "/treaties/1/attachment", "an occurrence is at most 1,000");
    assert_silent(&with_treaties(&[unlimited.clone(), later(layer(999, 500))]));
    // With an annual limit it may pay nothing for an occurrence.
    unlimited["aal"] = json!(10_000);
    assert_silent(&with_treaties(&[unlimited, later(layer(1000, 500))]));
    let stop_loss = |step: u32, attachment: u64, limit: Value| json!({"kind": "aggregate_xl", "step": step, "covers": ["motor"], "attachment": attachment, "limit": limit});
    let treaties = [stop_loss(1, 6000, Value::Null), stop_loss(2, 6000, json!(100))];
    assert_warning(&with_treaties(&treaties), "/treaties/1/attachment", "a year is at most 6,000");
    // Pays in most years, but not in all.
    let first_unit = json!({"kind": "aggregate_xl", "covers": ["property"], "attachment": 0, "limit": 1});
    assert_silent(&with_treaties(&[first_unit]));
}

#[test]
fn annual_deductibles_that_are_never_exceeded() {
    let treaty = |aad: u64, groups: &str, limit: u64, reinstatements: Value| {
        json!({"kind": "occurrence_xl", "covers": ["property"], "groups": [groups], "attachment": 1000, "limit": limit,
            "aad": aad, "reinstatements": reinstatements, "premium": 10})
    };
    // At most one storm, of 3000.
    let storm = |aad: u64| with_treaties(&[treaty(aad, "storm", 5000, Value::Null)]);
    assert_warning(&storm(2000), "/treaties/0/aad", "are at most 2,000");
    assert_silent(&storm(1999));
    let large = |aad: u64| with_treaties(&[treaty(aad, "large", 1000, json!([1]))]);
    assert_warning(
        &large(10_000),
        "/treaties/0/aad",
        "2,000: it pays nothing before the layer is exhausted 10 times",
    );
    assert_silent(&large(2000));
}

#[test]
fn layers_that_are_always_exhausted() {
    let treaty = |attachment: u64| {
        json!({"kind": "occurrence_xl", "covers": ["property"], "groups": ["storm"], "attachment": attachment,
               "limit": 1000})
    };
    assert_warning(&with_treaties(&[treaty(2000)]), "/treaties/0/limit", "every occurrence");
    assert_silent(&with_treaties(&[treaty(2001)]));
    // A treaty of an earlier step may leave less.
    let mut later = treaty(2000);
    later["step"] = json!(2);
    assert_silent(&with_treaties(&[
        later,
        json!({"kind": "quota_share", "covers": ["property"], "cession": 0.1}),
    ]));
    let year = json!({"kind": "aggregate_xl", "covers": ["motor"], "attachment": 4000, "limit": 1000});
    assert_warning(&with_treaties(&[year]), "/treaties/0/limit", "every year");
}

#[test]
fn treaties_by_occurrence_on_totals_of_the_year() {
    let mut treaty = layer(100, 100);
    treaty["covers"] = json!(["motor"]);
    treaty["groups"] = json!(["year"]);
    assert_warning(&with_treaties(&[treaty]), "/treaties/0/covers", "only totals of the year");
    let share = json!({"kind": "quota_share", "covers": ["motor"], "groups": ["year"], "cession": 0.5});
    assert_silent(&with_treaties(std::slice::from_ref(&share)));
    let mut limited = share;
    limited["event_limit"] = json!(10);
    assert_warning(&with_treaties(&[limited]), "/treaties/0/covers", "only totals of the year");
}

#[test]
fn annual_limits_below_the_limit_of_an_occurrence() {
    let mut treaty = layer(1000, 500);
    treaty["aal"] = json!(400);
    assert_warning(
        &with_treaties(&[treaty.clone()]),
        "/treaties/0/aal",
        "below the limit of an occurrence, 500",
    );
    treaty["aal"] = json!(500);
    assert_silent(&with_treaties(&[treaty]));
}

#[test]
fn layers_that_overlap() {
    let args = with_treaties(&[layer(5000, 1000), layer(5500, 1000)]);
    assert_warning(&args, "/treaties/1/attachment", "overlaps the layer \"T0\"");
    // Two reinsurers share a layer.
    let (mut a, mut b) = (layer(5000, 1000), layer(5000, 1000));
    a["placed"] = json!(0.4);
    b["placed"] = json!(0.6);
    assert_silent(&with_treaties(&[a, b]));
    let mut later = layer(5500, 1000);
    later["step"] = json!(2);
    assert_silent(&with_treaties(&[layer(5000, 1000), later]));
}

#[test]
fn cessions_that_may_exceed_their_subject() {
    let share = json!({"kind": "quota_share", "covers": ["property"], "cession": 0.5});
    // 0.5 · 3000 + 2000 exceeds 3000, but 0.5 · 3000 + 1500 does not.
    let args = with_treaties(&[share.clone(), layer(1000, 2000)]);
    assert_warning(&args, "/treaties/1", "may cede more than there is together with \"T0\"");
    assert_silent(&with_treaties(&[share.clone(), layer(1500, 1500)]));
    assert_silent(&with_treaties(&[share.clone(), share.clone()]));
    let mut limited = share.clone();
    limited["event_limit"] = json!(100);
    limited["cession"] = json!(0.6);
    assert_warning(&with_treaties(&[share, limited]), "/treaties/1", "may cede more");
}

#[test]
fn factors_far_from_1() {
    let index = |mean: f64| with("/indices/0/lognormal", json!({"mean": mean, "cv": 0.04}));
    assert_warning(&index(100.0), "/indices/0", "has a mean of 100");
    let by_logarithm = with("/indices/0/lognormal", json!({"mu": 1, "sigma": 0.1}));
    assert_warning(&by_logarithm, "/indices/0", "has a median of 2.718");
    assert_warning(&index(0.04), "/indices/0", "usually near 1");
    assert_silent(&index(1.3));
    let law = |mut law: Value| {
        law["name"] = "inflation".into();
        with("/indices/0", law)
    };
    let discrete = |low: f64, weight: f64| {
        law(json!({"discrete": {"amounts": [low, 1.25], "probabilities": [weight, 0.1]}}))
    };
    assert_warning(&law(json!({"constant": 2})), "/indices/0", "has a value of 2");
    assert_silent(&law(json!({"constant": 1.02})));
    assert_warning(&discrete(0.0, 0.9), "/indices/0", "has a mean of 0.125");
    assert_warning(&discrete(1.0, 1.4), "/indices/0/discrete/probabilities", "add up to 1.5");
    assert_silent(&discrete(1.0, 0.9));
}

#[test]
fn portfolios_near_the_largest_amount() {
    let constant = |amount: f64| with("/groups/0/annual/0/amount", json!({"constant": amount}));
    assert_warning(&constant(1e11), "/groups", "the largest there is");
    assert_silent(&constant(8e10));
}

#[test]
fn small_constants() {
    let path = "/groups/0/annual/0/amount";
    assert_warning(&with(path, json!({"constant": 0.5})), path, "a median of 50.000 minor units");
}

#[test]
fn annual_limits_above_what_reinstatements_allow() {
    let mut treaty = layer(1000, 500);
    treaty["reinstatements"] = json!([1]);
    treaty["premium"] = json!(10);
    treaty["aal"] = json!(1001);
    assert_warning(&with_treaties(&[treaty.clone()]), "/treaties/0/aal", "allow at most 1,000 a year");
    treaty["aal"] = json!(1000);
    assert_silent(&with_treaties(&[treaty]));
}

#[test]
fn commissions_need_a_premium() {
    let share = |premium: Value| json!({"kind": "quota_share", "covers": ["property"], "cession": 0.5, "commission": 0.2, "premium": premium});
    assert_warning(&with_treaties(&[share(Value::Null)]), "/treaties/0/commission", "without `premium`");
    assert_silent(&with_treaties(&[share(json!(1000))]));
}

#[test]
fn reinstatements_with_a_price_need_a_premium() {
    let mut treaty = layer(1000, 500);
    treaty["reinstatements"] = json!([0, 1]);
    assert_warning(&with_treaties(&[treaty.clone()]), "/treaties/0/reinstatements", "without a premium");
    treaty["reinstatements"] = json!([0]);
    assert_silent(&with_treaties(&[treaty.clone()]));
    treaty["reinstatements"] = json!([1]);
    treaty["premium"] = json!(10);
    assert_silent(&with_treaties(&[treaty]));
}

#[test]
fn limits_below_every_claim() {
    let limited = |limit: u64| {
        let mut args =
            with("/groups/1/claims/1/severity", json!({"pareto": {"threshold": 1000, "alpha": 1.5}}));
        set(&mut args, "/groups/1/claims/1/limit", json!(limit));
        args
    };
    // The deductible takes off 200.
    assert_warning(&limited(800), "/groups/1/claims/1/limit", "every claim is cut to the limit");
    assert_silent(&limited(801));
}

#[test]
fn percentages_in_place_of_factors() {
    let severity = "/groups/1/claims/0/severity";
    let cv = format!("{severity}/lognormal/cv");
    let lognormal = |cv: f64| with(severity, json!({"lognormal": {"mean": 2000, "cv": cv}}));
    assert_warning(&lognormal(8.0), &cv, "8 times the mean; if 8% is meant, write 0.08");
    assert_silent(&lognormal(4.9));
    let index = |mean: f64, cv: f64| with("/indices/0/lognormal", json!({"mean": mean, "cv": cv}));
    assert_warning(&index(2.0, 0.04), "/indices/0", "has a mean of 2: an index is a factor");
    assert_warning(&index(1.02, 5.0), "/indices/0/lognormal/cv", "if 5% is meant, write 0.05");
    assert_silent(&index(1.99, 0.04));
}

#[test]
fn layers_that_cost_more_than_they_pay() {
    let priced = |premium: f64| {
        let mut layer = layer(1000, 1500);
        layer["premium"] = json!(premium);
        with_treaties(&[layer])
    };
    assert_warning(&priced(3600.0), "/treaties/0/premium", "above the limit, 1,500: a rate on line of 240%");
    assert_silent(&priced(1500.0));
}

#[test]
fn gaps_between_layers_of_a_tower() {
    let (low, high) = (layer(1000, 1500), layer(3000, 4500));
    for (treaties, path, name) in [([&low, &high], "/treaties/1", "T0"), ([&high, &low], "/treaties/0", "T1")]
    {
        let part = format!("leaves a gap above the layer {name:?} of the same step, which ends at 2,500");
        assert_warning(&with_treaties(&treaties.map(Value::clone)), &format!("{path}/attachment"), &part);
    }
    assert_silent(&with_treaties(&[low, high, layer(2500, 500)]));
    let mut of_motor = layer(100, 200);
    of_motor["covers"] = json!(["motor"]);
    assert_silent(&with_treaties(&[layer(50, 20), of_motor]));
}

#[test]
fn commissions_that_reward_losses_or_leave_out_premiums() {
    let scale = |rates: [f64; 2]| {
        with_treaties(&[json!({
            "kind": "quota_share", "covers": ["motor"], "cession": 0.5, "premium": 1000,
            "commission": [{"loss_ratio": 0.5, "rate": rates[0]}, {"loss_ratio": 0.6, "rate": rates[1]}]
        })])
    };
    assert_warning(&scale([0.2, 0.3]), "/treaties/0/commission", "rises with the loss ratio");
    assert_silent(&scale([0.3, 0.2]));
    let profit = |price: f64| {
        let mut layer = layer(1000, 1500);
        layer["premium"] = json!(300);
        layer["reinstatements"] = json!([price]);
        layer["profit_commission"] = json!({"share": 0.2});
        with_treaties(&[layer])
    };
    let part = "leaves reinstatement premiums out";
    assert_warning(&profit(1.0), "/treaties/0/profit_commission", part);
    assert_silent(&profit(0.0));
}
