//! Families of severities and counts: their forms, conversions, hints and ranges.

use super::{
    counts::{mean, positive_probability},
    families::{Family, MAX_MINOR_UNITS, MIN_AMOUNT, ParameterRange},
    portfolio::PortfolioCounts,
    severities::{FAMILIES, MAX_INDEX},
    *,
};

const SEVERITY: &str = "/groups/1/claims/1/severity";
const COUNT: &str = "/groups/1/count";

fn severity(value: Value) -> SeverityLaw {
    let portfolio = read(&with(SEVERITY, value)).unwrap().portfolio();
    match portfolio.groups[1].components[1].severity {
        ComponentSeverity::Law(law) => law,
        ref other => panic!("{other:?}"),
    }
}

fn count(value: Value) -> PortfolioCounts {
    read(&with(COUNT, value)).unwrap().portfolio().groups[1].counts.clone()
}

/// The errors of a value at `pointer`, with pointers relative to it.
fn errors_at(pointer: &str, value: Value) -> Vec<(String, String)> {
    let errors = read(&with(pointer, value)).unwrap_err();
    let prefix = format!("/args{pointer}");
    errors
        .into_iter()
        .map(|(pointer, message)| {
            (pointer.strip_prefix(&prefix).expect("an error of the value").to_owned(), message)
        })
        .collect()
}

fn is_close(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-15
}

#[test]
fn texts_are_reported_beside_unknown_parameters() {
    let errors =
        read(&with("/groups/1/claims/0/severity", json!({"pareto": {"treshold": 1, "alpha": "1.6"}})));
    let pointers: Vec<_> = errors.unwrap_err().into_iter().map(|(pointer, _)| pointer).collect();
    let path = "/args/groups/1/claims/0/severity/pareto";
    assert_eq!(pointers, [format!("{path}/alpha"), format!("{path}/treshold")]);
}

#[test]
fn parameters_are_the_families_own() {
    assert_eq!(
        severity(json!({"lognormal": {"mu": 1, "sigma": 2}})),
        SeverityLaw::Lognormal { mu: 1.0, sigma: 2.0 }
    );
    for value in [json!({"exponential": 7}), json!({"exponential": {"mean": 7}})] {
        assert_eq!(severity(value), SeverityLaw::Exponential { mean: 7.0 });
    }
    assert_eq!(
        severity(json!({"burr": {"gamma": 3, "scale": 2, "alpha": 1}})),
        SeverityLaw::Burr { alpha: 1.0, scale: 2.0, gamma: 3.0 }
    );
    assert_eq!(
        severity(json!({"inverse_gaussian": {"mean": 10, "lambda": 5}})),
        SeverityLaw::InverseGaussian { mean: 10.0, shape: 0.5 }
    );
    let counts = [
        (json!({"poisson": {"mean": 2}}), CountLaw::Poisson(2.0)),
        (
            json!({"negative_binomial": {"r": 2, "beta": 3}}),
            CountLaw::NegativeBinomialShape { r: 2.0, beta: 3.0 },
        ),
        (
            json!({"binomial": {"trials": 9, "probability": 0.5}}),
            CountLaw::Binomial { trials: 9, probability: 0.5 },
        ),
        (json!({"geometric": 4}), CountLaw::Geometric(4.0)),
        (json!({"constant": 4}), CountLaw::Constant(4)),
        (json!({"discrete": {"probabilities": [0.5, 0, 0.5]}}), CountLaw::Discrete(vec![0.5, 0.0, 0.5])),
    ];
    for (value, law) in counts {
        assert_eq!(count(value), PortfolioCounts { law, zero_probability: None });
    }
    let modified = count(json!({"zero_modified": {"p0": 0.25, "of": {"poisson": 2}}}));
    assert_eq!(modified, PortfolioCounts { law: CountLaw::Poisson(2.0), zero_probability: Some(0.25) });
}

#[test]
fn mean_and_cv_become_the_families_own_parameters() {
    // ln 5 is 1.6094379124341003746, and ln 1000 − ln 5 / 2 is 6.1030363227650868648.
    let SeverityLaw::Lognormal { mu, sigma } = severity(json!({"lognormal": {"mean": 1000, "cv": 2}})) else {
        panic!("not lognormal")
    };
    assert!(is_close(sigma, 1.268_636_241_179_519_6), "{sigma}");
    assert!(is_close(mu, 6.103_036_322_765_087), "{mu}");
    // A small cv is the sigma to first order.
    let SeverityLaw::Lognormal { sigma, .. } = severity(json!({"lognormal": {"mean": 1, "cv": 1e-9}})) else {
        panic!("not lognormal")
    };
    assert!(is_close(sigma, 1e-9), "{sigma:e}");
    assert_eq!(
        severity(json!({"gamma": {"mean": 6, "cv": 0.5}})),
        SeverityLaw::Gamma { shape: 4.0, scale: 1.5 }
    );
    assert_eq!(
        severity(json!({"inverse_gaussian": {"mean": 6, "cv": 0.5}})),
        SeverityLaw::InverseGaussian { mean: 6.0, shape: 4.0 }
    );
    assert_eq!(
        severity(json!({"normal": {"mean": 6, "cv": 0.5}})),
        SeverityLaw::Normal { mean: 6.0, std_dev: 3.0 }
    );
    assert_eq!(
        severity(json!({"weibull": {"mean": 6, "cv": 1}})),
        SeverityLaw::Weibull { shape: 1.0, scale: 6.0 }
    );
    assert_eq!(
        severity(json!({"lomax": {"mean": 6, "cv": 2}})),
        SeverityLaw::Lomax { alpha: 8.0 / 3.0, scale: 10.0 }
    );
    assert_eq!(
        severity(json!({"gpd": {"threshold": 2, "mean": 6, "cv": 1}})),
        SeverityLaw::Gpd {
            threshold: 2.0,
            scale: 4.0 * (1.0 - 0.277_777_777_777_777_8),
            xi: 0.277_777_777_777_777_8
        }
    );
    let SeverityLaw::Uniform { low, high } = severity(json!({"uniform": {"mean": 6, "cv": 0.5}})) else {
        panic!("not uniform")
    };
    assert!(is_close(low, 0.803_847_577_293_368_1) && is_close(high, 11.196_152_422_706_632), "{low} {high}");
    // Beta(1, 3) on 0 to 8: mean 2, variance 64 · 3/80 = 2.4, cv² 0.6.
    let SeverityLaw::Beta { a, b, scale } =
        severity(json!({"beta": {"mean": 2, "cv": 0.774_596_669_241_483_4, "scale": 8}}))
    else {
        panic!("not beta")
    };
    assert!(is_close(a, 1.0) && is_close(b, 3.0) && scale == 8.0, "{a} {b}");
}

#[test]
fn unknown_parameters_are_answered_with_the_known_ones() {
    let (forms, at) = ("mean and cv, or mu and sigma", |field: &str| format!("/lognormal{field}"));
    let unknown = (at("/sd"), format!("is not a parameter of lognormal: {forms}; `sd` is `cv` · `mean`"));
    for given in [json!({"mean": 5, "sd": 2}), json!({"sd": 2}), json!({"mean": 5, "cv": 1, "sd": 2})] {
        assert_eq!(errors_at(SEVERITY, json!({"lognormal": given})), std::slice::from_ref(&unknown));
    }
    let missing = (at("/sigma"), format!("is missing: lognormal has the parameters {forms}"));
    assert_eq!(errors_at(SEVERITY, json!({"lognormal": {"mu": 5}})), [missing]);
    let mixed = (at(""), format!("must have {forms}"));
    for given in [json!({"mean": 5, "sigma": 1}), json!({})] {
        assert_eq!(errors_at(SEVERITY, json!({"lognormal": given})), std::slice::from_ref(&mixed));
    }
    let number = (at(""), format!("must be an object with {forms}, not a number"));
    assert_eq!(errors_at(SEVERITY, json!({"lognormal": 3})), [number]);
    let (pointer, message) =
        errors_at(COUNT, json!({"negative_binomial": {"mean": 3, "variance": 9}})).remove(0);
    assert_eq!(pointer, "/negative_binomial/variance");
    let known = "mean and contagion, or r and beta; `variance` is `mean` · (1 + `contagion` · `mean`)";
    assert_eq!(message, format!("is not a parameter of negative_binomial: {known}"));
}

#[test]
fn unknown_families_are_answered_with_the_nearest_one() {
    let cases = [
        (SEVERITY, json!({"lognorml": {}}), "/lognorml", "is not a severity: did you mean `lognormal`?"),
        (SEVERITY, json!({"Inverse-Gaussian": {}}), "/Inverse-Gaussian", "did you mean `inverse_gaussian`?"),
        (SEVERITY, json!({"cauchy": {}}), "/cauchy", "is not a severity: there are `lognormal`"),
        (SEVERITY, json!({}), "", "must name the family of a severity: `lognormal`"),
        (SEVERITY, json!({"gamma": {}, "pareto": {}}), "", "of one family; it has gamma and pareto"),
        (SEVERITY, json!(5), "", "must be an object, not a number"),
        (COUNT, json!({"poison": 3}), "/poison", "is not a count: did you mean `poisson`?"),
        (
            COUNT,
            json!({"zero_modified": {"p0": 0.5, "of": {"zero_modified": {}}}}),
            "/zero_modified/of/zero_modified",
            "is not a count",
        ),
        ("/indices/0", json!({"name": "inflation"}), "", "must name the family of an index"),
        ("/indices/0", json!({"name": "inflation", "poisson": 1}), "/poisson", "is not an index"),
        ("/indices/0", json!({"name": "inflation", "constant": 1001}), "/constant", "from 0 to 1000;"),
    ];
    for (pointer, value, path, part) in cases {
        let errors = errors_at(pointer, value.clone());
        assert_eq!(errors.len(), 1, "{value}: {errors:?}");
        assert_eq!(errors[0].0, path, "{value}: {errors:?}");
        assert!(errors[0].1.contains(part), "{value}: {errors:?}");
    }
}

#[test]
fn names_of_families_elsewhere_are_answered_with_those_here() {
    let cases = [
        (SEVERITY, "pareto2", "is not a severity: here it is `lomax`"),
        (SEVERITY, "pareto_ii", "here it is `lomax`"),
        (SEVERITY, "paretoII", "here it is `lomax`"),
        (SEVERITY, "loglogistic", "here it is `burr` with `alpha` 1"),
        (SEVERITY, "fisk", "here it is `burr` with `alpha` 1"),
        (SEVERITY, "generalized_pareto", "here it is `gpd`"),
        (SEVERITY, "genpareto", "here it is `gpd`"),
        (SEVERITY, "wald", "here it is `inverse_gaussian`"),
        (SEVERITY, "invgauss", "here it is `inverse_gaussian`"),
        (SEVERITY, "log_normal", "did you mean `lognormal`?"),
        (SEVERITY, "lognorm", "here it is `lognormal`"),
        (SEVERITY, "expon", "here it is `exponential`"),
        (SEVERITY, "norm", "here it is `normal`"),
        (SEVERITY, "mixture", "several `claims` of one line, each with a `weight`"),
        (SEVERITY, "poisson", "here it is a family of counts"),
        // Other families, whose names are near to those of some.
        (SEVERITY, "loggamma", "is not offered as a severity: there are `lognormal`"),
        (SEVERITY, "burr3", "is not offered as a severity"),
        (SEVERITY, "gev", "is not offered as a severity"),
        (SEVERITY, "pareto5", "is not a severity: there are `lognormal`"),
        ("/indices/0", "genpareto", "is not an index: here it is `gpd`"),
        (COUNT, "polya", "is not a count: here it is `negative_binomial`"),
        (COUNT, "pascal", "here it is `negative_binomial`"),
        (COUNT, "nbinom", "here it is `negative_binomial`"),
        (COUNT, "negbin", "here it is `negative_binomial`"),
        (COUNT, "poisson_gamma", "here it is `negative_binomial`"),
        (COUNT, "zip", "here it is `zero_modified` of `poisson`"),
        (COUNT, "gamma", "here it is a family of severities"),
        (COUNT, "poisson_inverse_gaussian", "is not offered as a count: there are `poisson`"),
        (COUNT, "sichel", "is not offered as a count"),
        (COUNT, "poisson_something", "is not a count: there are `poisson`"),
    ];
    for (pointer, name, part) in cases {
        let mut value = json!({name: {}});
        if pointer == "/indices/0" {
            value["name"] = "inflation".into();
        }
        let errors = errors_at(pointer, value);
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert_eq!(errors[0].0, format!("/{name}"));
        assert!(errors[0].1.contains(part) && !errors[0].1.contains("mean `pareto`"), "{name}: {errors:?}");
    }
}

#[test]
fn names_of_parameters_elsewhere_are_answered_with_those_here() {
    let cases = [
        (SEVERITY, json!({"lognormal": {"s": 1, "scale": 1000}}), ["`s` is `sigma`", "`scale` is e^`mu`"]),
        (
            SEVERITY,
            json!({"lognormal": {"meanlog": 1, "sdlog": 1}}),
            ["`meanlog` is `mu`", "`sdlog` is `sigma`"],
        ),
        (
            SEVERITY,
            json!({"gamma": {"shape": 1, "rate": 1, "loc": 0}}),
            ["`loc` is always 0", "`rate` is 1 / `scale`"],
        ),
        (SEVERITY, json!({"gpd": {"c": 1, "loc": 1, "scale": 1}}), ["`c` is `xi`", "`loc` is `threshold`"]),
        (SEVERITY, json!({"weibull": {"k": 1, "lambda": 1}}), ["`k` is `shape`", "`lambda` is `scale`"]),
        (SEVERITY, json!({"burr": {"c": 1, "d": 1, "scale": 1}}), ["`c` is `gamma`", "`d` is `alpha`"]),
        (
            SEVERITY,
            json!({"burr": {"shape1": 1, "shape2": 1}}),
            ["`shape1` is `alpha`", "`shape2` is `gamma`"],
        ),
        (
            SEVERITY,
            json!({"pareto": {"b": 1, "scale": 1}}),
            ["`b` is `alpha`", "a Pareto law from 0 is `lomax`"],
        ),
        (
            SEVERITY,
            json!({"pareto": {"mean": 1, "cv": 1}}),
            ["`cv` is 1 / √(`alpha`", "`mean` is `threshold` · `alpha`"],
        ),
        (SEVERITY, json!({"empirical": {"data": [1], "x": [2]}}), ["`data` is `sample`", "`x` is `sample`"]),
        (
            COUNT,
            json!({"negative_binomial": {"size": 1, "prob": 0.5}}),
            ["`prob` is 1 / (1 + `beta`)", "`size` is `r`"],
        ),
        (COUNT, json!({"binomial": {"n": 1, "p": 0.5}}), ["`n` is `trials`", "`p` is `probability`"]),
    ];
    for (pointer, value, parts) in cases {
        let messages: Vec<_> = errors_at(pointer, value.clone()).into_iter().map(|(_, m)| m).collect();
        assert_eq!(messages.len(), 2, "{value}: {messages:?}");
        assert!(
            messages.iter().zip(parts).all(|(message, part)| message.contains(part)),
            "{value}: {messages:?}"
        );
    }
}

#[test]
fn parameters_outside_their_ranges_are_refused() {
    let cases = [
        (SEVERITY, json!({"gamma": {"shape": 0.001, "scale": 1}}), "/gamma/shape", "from 0.05 to 1000000"),
        (SEVERITY, json!({"gamma": {"mean": 5, "cv": 4.5}}), "/gamma/cv", "from 0.001 to 4.47"),
        (SEVERITY, json!({"exponential": 0}), "/exponential", "from 1e-9"),
        (SEVERITY, json!({"weibull": {"mean": 5, "cv": 0.01}}), "/weibull/cv", "from 0.013 to 429"),
        (SEVERITY, json!({"lomax": {"mean": 5, "cv": 1}}), "/lomax/cv", "from 1.0011"),
        (SEVERITY, json!({"uniform": {"mean": 5, "cv": 0.6}}), "/uniform/cv", "to 0.57735"),
        (
            SEVERITY,
            json!({"gpd": {"mean": 5, "cv": 1, "threshold": 5}}),
            "/gpd/mean",
            "above the threshold, 5",
        ),
        (
            SEVERITY,
            json!({"gpd": {"mean": 5, "cv": 0.2, "threshold": 1}}),
            "/gpd/cv",
            "0.25 times the mean of the",
        ),
        (
            SEVERITY,
            json!({"gpd": {"mean": 5, "cv": 0.2, "threshold": 1}}),
            "/gpd/cv",
            "at least 0.3016 times",
        ),
        (SEVERITY, json!({"gpd": {"mean": 5, "cv": 1e6, "threshold": 4.99}}), "/gpd/cv", "xi would be 0.5"),
        (SEVERITY, json!({"uniform": {"low": 5, "high": 5}}), "/uniform/high", "above `low`"),
        (SEVERITY, json!({"beta": {"mean": 9, "cv": 1, "scale": 8}}), "/beta/mean", "below the scale"),
        (SEVERITY, json!({"beta": {"mean": 4, "cv": 1, "scale": 8}}), "/beta/cv", "leads to the shapes"),
        (
            SEVERITY,
            json!({"burr": {"alpha": 0.5, "scale": 1, "gamma": 0.15}}),
            "/burr/gamma",
            "at least 0.1 / alpha",
        ),
        (
            SEVERITY,
            json!({"inverse_gaussian": {"mean": 1, "lambda": 1e-5}}),
            "/inverse_gaussian/lambda",
            "times the mean",
        ),
        (COUNT, json!({"poisson": -1}), "/poisson", "from 0 to 10000"),
        (COUNT, json!({"constant": 1.5}), "/constant", "a whole number from 0 to 32768"),
        (COUNT, json!({"binomial": {"trials": 2.5, "probability": 1}}), "/binomial/trials", "a whole number"),
        (COUNT, json!({"negative_binomial": {"r": 1e5, "beta": 1}}), "/negative_binomial/beta", "10000 / r"),
        (
            COUNT,
            json!({"discrete": {"probabilities": [0, 0]}}),
            "/discrete/probabilities",
            "a positive element",
        ),
        (COUNT, json!({"discrete": {"probabilities": [1, -1]}}), "/discrete/probabilities/1", "from 0"),
        (COUNT, json!({"discrete": {}}), "/discrete/probabilities", "is missing"),
        (
            COUNT,
            json!({"zero_modified": {"p0": 0.5, "of": {"poisson": 0}}}),
            "/zero_modified/of",
            "other counts than 0",
        ),
    ];
    for (pointer, value, path, part) in cases {
        let errors = errors_at(pointer, value.clone());
        assert_eq!(errors.len(), 1, "{value}: {errors:?}");
        assert_eq!(errors[0].0, path, "{value}: {errors:?}");
        assert!(errors[0].1.contains(part), "{value}: {errors:?}");
    }
}

/// Every combination of the ends of a family's ranges of parameters.
fn corners<L>(family: &Family<L>, largest: f64) -> Vec<Value> {
    let ends = |range| match range {
        ParameterRange::Amount => [MIN_AMOUNT, largest],
        ParameterRange::AmountOrZero => [0.0, largest],
        ParameterRange::Number(from, to) => [from, to],
        ParameterRange::Whole(to) => [0.0, to as f64],
    };
    let mut values = Vec::new();
    for form in family.forms {
        for choice in 0..1 << form.parameters.len() {
            let mut parameters = serde_json::Map::new();
            for (index, parameter) in form.parameters.iter().enumerate() {
                let value = ends(parameter.range)[choice >> index & 1];
                parameters.insert(parameter.name.to_owned(), json!(value));
            }
            values.push(json!({family.name: parameters}));
        }
    }
    values
}

#[test]
fn severities_at_the_ends_of_their_ranges_have_tables() {
    let largest = MAX_MINOR_UNITS / 100.0;
    let mut tables = 0;
    for corner in FAMILIES.iter().flat_map(|family| corners(family, largest)) {
        // The component has a limit, so nothing is too large.
        let Ok(args) = read(&with(SEVERITY, corner.clone())) else { continue };
        let ComponentSeverity::Law(law) = args.portfolio().groups[1].components[1].severity else {
            panic!("a constant")
        };
        assert!(law.segment_bits().is_some(), "{corner}");
        law.table(100, 4).unwrap_or_else(|error| panic!("{corner}: {error}"));
        tables += 1;
    }
    assert!(tables > 50, "{tables}");
}

#[test]
fn indices_at_the_ends_of_their_ranges_have_tables() {
    // The tables of the others take long, and are those of severities but for their scale.
    let is_quick = |family: &&Family<_>| !["gamma", "beta", "inverse_gaussian"].contains(&family.name);
    for corner in FAMILIES.iter().filter(is_quick).flat_map(|family| corners(family, MAX_INDEX)) {
        let mut index = corner.clone();
        index["name"] = "inflation".into();
        let Ok(args) = read(&with("/indices/0", index)) else { continue };
        let ComponentSeverity::Law(law) = args.portfolio().indices[0].law else {
            panic!("{corner} is a law")
        };
        law.table(1 << 24, 4).unwrap_or_else(|error| panic!("{corner}: {error}"));
    }
}

#[test]
fn means_of_counts_match_their_tables() {
    let laws = [
        json!({"poisson": 2.5}),
        json!({"bernoulli": 0.3}),
        json!({"constant": 7}),
        json!({"geometric": 4}),
        json!({"binomial": {"trials": 12, "probability": 0.2}}),
        json!({"negative_binomial": {"mean": 3, "contagion": 0.4}}),
        json!({"negative_binomial": {"mean": 3, "contagion": 0}}),
        json!({"negative_binomial": {"r": 0.5, "beta": 4}}),
        json!({"discrete": {"probabilities": [1, 2, 3, 2]}}),
    ];
    for law in laws {
        let modified = json!({"zero_modified": {"p0": 0.125, "of": law.clone()}});
        for value in [law, modified] {
            let counts = count(value.clone());
            let table = match counts.zero_probability {
                Some(p0) => counts.law.zero_modified_table(p0).unwrap(),
                None => counts.law.table().unwrap(),
            };
            // The mean is the sum of P(N > k).
            let above = |&threshold: &u64| 1.0 - threshold as f64 / (1u128 << 64) as f64;
            let expected = f64::from(table.offset) + table.thresholds.iter().map(above).sum::<f64>();
            assert!((mean(&counts) / expected - 1.0).abs() < 1e-12, "{value}: {} {expected}", mean(&counts));
        }
    }
    assert_eq!(positive_probability(&CountLaw::Binomial { trials: 0, probability: 0.5 }), 0.0);
    assert_eq!(positive_probability(&CountLaw::Poisson(10_000.0)), 1.0);
}

#[test]
fn medians_match_the_tables() {
    for value in [
        json!({"lognormal": {"mu": 7, "sigma": 1}}),
        json!({"normal": {"mean": 700, "std_dev": 100}}),
        json!({"exponential": 900}),
        json!({"weibull": {"shape": 0.7, "scale": 900}}),
        json!({"pareto": {"threshold": 300, "alpha": 1.3}}),
        json!({"lomax": {"alpha": 2.5, "scale": 900}}),
        json!({"gpd": {"threshold": 100, "scale": 300, "xi": -0.3}}),
        json!({"gpd": {"threshold": 100, "scale": 300, "xi": 0}}),
        json!({"burr": {"alpha": 1.5, "scale": 900, "gamma": 2}}),
        json!({"gamma": {"shape": 0.6, "scale": 900}}),
        json!({"beta": {"a": 2, "b": 3, "scale": 900}}),
        json!({"inverse_gaussian": {"mean": 900, "cv": 1}}),
        json!({"uniform": {"low": 10, "high": 600}}),
    ] {
        let law = severity(value.clone());
        let table = law.table(100, 4).unwrap();
        // The last segment of the lower half ends at the median, plus the half that rounds.
        let last = table[64 * 16 - 1];
        let end = i64::from(last.left) + i64::from(last.slope) + i64::from(last.curve);
        let expected = (end << 31 >> last.shift) as f64 / 100.0;
        assert!(
            (ranges::median(&law) / expected - 1.0).abs() < 1e-4,
            "{value}: {} {expected}",
            ranges::median(&law)
        );
    }
}

#[test]
fn normal_form_keeps_the_form_of_the_parameters() {
    for value in [
        json!({"lognormal": {"mean": 5, "cv": 0.5}}),
        json!({"weibull": {"cv": 0.5, "mean": 5}}),
        json!({"gpd": {"cv": 0.5, "mean": 5, "threshold": 2}}),
        json!({"exponential": 7}),
        json!({"exponential": {"mean": 7}}),
        json!({"constant": 0.25}),
    ] {
        let args = read(&with(SEVERITY, value.clone())).unwrap();
        assert_eq!(Value::Object(args.model_args()).pointer(SEVERITY), Some(&value));
    }
    for value in [
        json!({"poisson": {"mean": 2.5}}),
        json!({"constant": 3}),
        json!({"zero_modified": {"p0": 0.5, "of": {"discrete": {"probabilities": [0.25, 1]}}}}),
    ] {
        let args = read(&with(COUNT, value.clone())).unwrap();
        assert_eq!(Value::Object(args.model_args()).pointer(COUNT), Some(&value));
    }
}
