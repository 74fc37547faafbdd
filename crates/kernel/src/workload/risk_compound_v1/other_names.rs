//! The names that textbooks and other tools have for families of laws and for their parameters, and
//! what these are here. Errors about unknown keys answer with them: nothing is read under these
//! names.
//!
//! A near spelling is no substitute: `pareto2` is two letters from `pareto`, but it is `lomax`.

/// Names of one thing.
struct OtherNames {
    /// The names as [`normalised`] gives them.
    names: &'static [&'static str],
    /// What they are here; it continues "is".
    meaning: &'static str,
}

const fn known_as(meaning: &'static str, names: &'static [&'static str]) -> OtherNames {
    OtherNames { names, meaning }
}

/// Names of families of one kind of law that are not those of the args.
pub struct OtherFamilies {
    meanings: &'static [OtherNames],
    /// Families that are not offered, though their names are near to those of others.
    absent: &'static [&'static str],
}

/// Families of severities.
pub static SEVERITIES: OtherFamilies = OtherFamilies {
    meanings: &[
        known_as(
            "`lomax`",
            &["pareto2", "paretoii", "paretotype2", "paretotypeii", "shiftedpareto", "americanpareto"],
        ),
        known_as(
            "`pareto`",
            &["pareto1", "paretoi", "paretotype1", "paretotypei", "europeanpareto", "singleparameterpareto"],
        ),
        known_as("`burr` with `alpha` 1, where the smallest amount is 0", &["pareto3", "paretoiii"]),
        known_as("`burr`, where the smallest amount is 0", &["pareto4", "paretoiv"]),
        known_as("`burr`", &["burr12", "burrxii", "burrtype12", "burrtypexii", "singhmaddala"]),
        known_as("`burr` with `alpha` 1", &["loglogistic", "llogis", "fisk"]),
        known_as("`burr` with `alpha` equal to `gamma`", &["paralogistic", "paralogis"]),
        known_as(
            "`gpd`",
            &[
                "generalizedpareto",
                "generalisedpareto",
                "generalpareto",
                "genpareto",
                "genpar",
                "gpareto",
                "gp",
            ],
        ),
        known_as("`inverse_gaussian`", &["wald", "invgauss", "invgaussian", "inversenormal"]),
        known_as("`lognormal`", &["lognorm", "lnorm", "logn", "galton", "loggaussian", "lognormal2"]),
        known_as("`exponential`", &["expon", "exp", "negativeexponential", "negexp"]),
        known_as("`gamma`", &["gammadist", "gam", "pearson3", "pearsoniii"]),
        known_as("`gamma` with a whole `shape`", &["erlang"]),
        known_as("`gamma` with `shape` k / 2 and `scale` 2", &["chi2", "chisq", "chisquare", "chisquared"]),
        known_as("`weibull`", &["weibullmin", "weibull2", "weib"]),
        known_as("`weibull` with `shape` 2 and `scale` √2 · sigma", &["rayleigh"]),
        known_as("`normal`", &["norm", "gauss", "gaussian"]),
        known_as("`uniform`", &["unif", "rectangular", "continuousuniform"]),
        known_as("`constant`", &["deterministic", "degenerate", "fixed", "dirac", "pointmass"]),
        known_as("`discrete`", &["categorical", "multinomial", "histogram", "table"]),
        known_as("`empirical`", &["ecdf", "bootstrap", "resample", "sample", "data"]),
        known_as("`piecewise`", &["piecewiselinear", "interpolated", "quantiles", "cdf"]),
        known_as(
            "several `claims` of one line, each with a `weight`",
            &["mixture", "mixed", "spliced", "composite", "hyperexponential"],
        ),
        known_as(
            "a family of counts",
            &["poisson", "binomial", "bernoulli", "negativebinomial", "geometric", "zeromodified"],
        ),
    ],
    absent: &[
        "powerlaw",
        "logis",
        "logistic",
        "burr3",
        "burriii",
        "dagum",
        "mielke",
        "inverseburr",
        "invburr",
        "inversegamma",
        "invgamma",
        "inverseweibull",
        "invweibull",
        "inversepareto",
        "invpareto",
        "inverseexponential",
        "invexp",
        "loggamma",
        "lgamma",
        "lgam",
        "logbeta",
        "logweibull",
        "loguniform",
        "logt",
        "generalizedgamma",
        "generalisedgamma",
        "gengamma",
        "transformedgamma",
        "trgamma",
        "transformedbeta",
        "trbeta",
        "generalizedbeta",
        "generalisedbeta",
        "genbeta",
        "gb1",
        "gb2",
        "gev",
        "gig",
        "betaprime",
        "betapert",
        "pert",
        "triangular",
        "triang",
        "weibullmax",
        "exponweib",
        "exponnorm",
        "halfnorm",
        "halfnormal",
        "truncnorm",
        "truncatednormal",
        "foldnorm",
        "skewnorm",
        "skewnormal",
        "multivariatenormal",
        "fellerpareto",
        "tweedie",
    ],
};

/// Families of counts.
pub static COUNTS: OtherFamilies = OtherFamilies {
    meanings: &[
        known_as(
            "`negative_binomial`",
            &[
                "nbinom",
                "negbin",
                "negbinom",
                "negbinomial",
                "nb",
                "nb2",
                "polya",
                "pascal",
                "gammapoisson",
                "poissongamma",
            ],
        ),
        known_as("`poisson`", &["pois", "poi"]),
        known_as("`binomial`", &["binom", "bin"]),
        known_as("`geometric`, which starts at 0", &["geom"]),
        known_as("`bernoulli`", &["bern", "indicator"]),
        known_as("`constant`", &["deterministic", "degenerate", "fixed", "dirac", "pointmass"]),
        known_as("`discrete`", &["categorical", "multinomial", "empirical", "histogram", "table"]),
        known_as(
            "`zero_modified` of `poisson`, whose `p0` is the whole probability of 0",
            &["zip", "zeroinflatedpoisson", "zeromodifiedpoisson", "zmpoisson", "poissonhurdle"],
        ),
        known_as(
            "`zero_modified` of `negative_binomial`, whose `p0` is the whole probability of 0",
            &["zinb", "zeroinflatednegativebinomial", "zmnbinom"],
        ),
        known_as("`zero_modified`, whose `p0` is the whole probability of 0", &["zeroinflated", "hurdle"]),
        known_as("`zero_modified` of `poisson` with `p0` 0", &["zerotruncatedpoisson", "ztpoisson", "ztp"]),
        known_as("`zero_modified` with `p0` 0", &["zerotruncated", "truncated"]),
        known_as(
            "a family of severities",
            &[
                "lognormal",
                "normal",
                "gamma",
                "pareto",
                "lomax",
                "gpd",
                "weibull",
                "exponential",
                "burr",
                "uniform",
            ],
        ),
    ],
    absent: &[
        "poissoninversegaussian",
        "poissonig",
        "poisinvgauss",
        "pig",
        "sichel",
        "poissonlognormal",
        "poissonlindley",
        "poissonbinomial",
        "poissonbeta",
        "poissonpoisson",
        "delaporte",
        "neyman",
        "neymana",
        "neymantypea",
        "hermite",
        "polyaaeppli",
        "generalizedpoisson",
        "generalisedpoisson",
        "conwaymaxwellpoisson",
        "compoisson",
        "compoundpoisson",
        "mixedpoisson",
        "doublepoisson",
        "betabinomial",
        "betabinom",
        "betanegativebinomial",
        "hypergeometric",
        "hypergeom",
        "logarithmic",
        "logser",
        "logseries",
        "zipf",
        "zeta",
        "yule",
        "waring",
    ],
};

/// Other names of the parameters of families.
static PARAMETERS: [(&str, &[OtherNames]); 20] = [
    (
        "lognormal",
        &[
            known_as("`mu`", &["meanlog", "logmean", "mulog", "muln"]),
            known_as("`sigma`", &["sdlog", "logsd", "sigmalog", "stdlog", "s", "shape"]),
            known_as("e^`mu`", &["scale", "median"]),
            known_as("`sigma` squared", &["sigma2", "varlog"]),
        ],
    ),
    (
        "exponential",
        &[known_as("`mean`", &["scale", "theta"]), known_as("1 / `mean`", &["rate", "lambda", "lambd"])],
    ),
    (
        "gamma",
        &[
            known_as("`shape`", &["a", "alpha", "k"]),
            known_as("`scale`", &["theta"]),
            known_as("1 / `scale`", &["rate", "lambda"]),
            known_as("`scale`, or 1 / `scale` if it is a rate", &["b", "beta"]),
        ],
    ),
    (
        "weibull",
        &[
            known_as("`shape`", &["c", "k", "tau", "beta"]),
            known_as("`scale`", &["theta", "eta"]),
            known_as("1 / `scale`", &["rate"]),
            known_as("`scale`, or 1 / `scale` if it is a rate", &["lambda"]),
        ],
    ),
    (
        "pareto",
        &[
            known_as("`alpha`", &["b", "a", "shape", "tailindex"]),
            known_as("`threshold`; a Pareto law from 0 is `lomax`", &["scale", "theta"]),
            known_as("`threshold`", &["min", "minimum", "xm", "xmin", "location"]),
            known_as("`threshold` · `alpha` / (`alpha` - 1)", &["mean"]),
            known_as("1 / √(`alpha` · (`alpha` - 2))", &["cv"]),
        ],
    ),
    (
        "lomax",
        &[
            known_as("`alpha`", &["c", "a", "shape", "tailindex"]),
            known_as("`scale`", &["theta", "lambda"]),
            known_as("1 / `scale`", &["rate"]),
            known_as("0 here; a law above a threshold is `pareto` or `gpd`", &["threshold", "min"]),
        ],
    ),
    (
        "gpd",
        &[
            known_as("`xi`", &["c", "shape", "gamma"]),
            known_as("1 / `xi`", &["alpha", "tailindex"]),
            known_as("`scale`", &["sigma", "beta", "psi"]),
            known_as("`threshold`", &["loc", "location", "mu", "u", "min"]),
        ],
    ),
    (
        "burr",
        &[
            known_as("`alpha`", &["shape1", "d", "k", "q"]),
            known_as("`gamma`", &["shape2", "c", "a"]),
            known_as("`scale`", &["theta", "lambda", "b"]),
            known_as("1 / `scale`", &["rate"]),
        ],
    ),
    (
        "beta",
        &[
            known_as("`a`", &["alpha", "shape1", "p"]),
            known_as("`b`", &["beta", "shape2", "q"]),
            known_as("`scale`", &["max", "maximum", "high", "theta"]),
        ],
    ),
    (
        "inverse_gaussian",
        &[
            known_as("`mean`; that of SciPy is `mean` / `lambda`", &["mu"]),
            known_as("`lambda`", &["shape", "scale", "theta"]),
            known_as("1 / `lambda`", &["dispersion"]),
        ],
    ),
    (
        "uniform",
        &[
            known_as("`low`", &["min", "minimum", "a", "lower", "from", "loc", "location"]),
            known_as("`high`", &["max", "maximum", "b", "upper", "to"]),
            known_as("`high` - `low`", &["scale", "width", "range"]),
        ],
    ),
    (
        "normal",
        &[
            known_as("`mean`", &["mu", "loc", "location"]),
            known_as("`std_dev`", &["sigma", "sd", "std", "stdev", "scale", "standarddeviation"]),
            known_as("`std_dev` squared", &["variance", "var", "sigma2"]),
        ],
    ),
    (
        "discrete",
        &[
            known_as("`amounts`", &["values", "x", "losses"]),
            known_as("`probabilities`", &["weights", "probs", "p", "pmf"]),
        ],
    ),
    ("empirical", &[known_as("`sample`", &["data", "values", "amounts", "x", "losses", "observations"])]),
    (
        "piecewise",
        &[
            known_as("`amounts`", &["quantiles", "values", "x", "losses"]),
            known_as("`probabilities`", &["cdf", "p", "probs", "levels"]),
        ],
    ),
    ("poisson", &[known_as("`mean`", &["lambda", "lambd", "mu", "rate", "frequency", "freq"])]),
    ("bernoulli", &[known_as("`probability`", &["p", "prob", "mean", "q"])]),
    (
        "negative_binomial",
        &[
            known_as("`r`", &["size", "n", "k", "theta", "shape"]),
            known_as("1 / (1 + `beta`)", &["p", "prob", "probability"]),
            known_as("`beta`", &["scale"]),
            known_as("`mean`", &["mu", "lambda"]),
            known_as("`mean` · (1 + `contagion` · `mean`)", &["variance", "var"]),
            known_as("1 + `contagion` · `mean`, which is 1 + `beta`", &["vmr", "variancetomean"]),
            known_as(
                "`contagion`, if the variance is mean · (1 + dispersion · mean)",
                &["dispersion", "overdispersion", "alpha"],
            ),
        ],
    ),
    (
        "binomial",
        &[known_as("`trials`", &["n", "size", "m"]), known_as("`probability`", &["p", "prob", "q"])],
    ),
    (
        "geometric",
        &[known_as("1 / (1 + `mean`)", &["p", "prob", "probability"]), known_as("`mean`", &["beta", "mu"])],
    ),
];

/// Names of parameters of the families that have a mean and a coefficient of variation.
static OF_MEAN_AND_CV: [OtherNames; 3] = [
    known_as("`cv`", &["cov", "coefficientofvariation", "coeffvar"]),
    known_as("`cv` · `mean`", &["sd", "std", "stddev", "stdev", "standarddeviation"]),
    known_as("the square of `cv` · `mean`", &["variance", "var"]),
];
/// Names of parameters of all families that have no such parameter.
static OF_ALL: [OtherNames; 1] = [known_as("always 0", &["loc", "location", "shift"])];

/// A name in lower case, without separators.
fn normalised(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn meaning_in(lists: &'static [OtherNames], name: &str) -> Option<&'static str> {
    lists.iter().find(|other| other.names.contains(&name)).map(|other| other.meaning)
}

/// The message for a key of an object that should name one of the families `known`, which are all
/// of one `kind`: "a severity".
pub fn unknown_family(key: &str, known: &[&str], kind: &str, others: &OtherFamilies) -> String {
    let name = normalised(key);
    let all = || format!("there are `{}`", known.join("`, `"));
    if let Some(same) = known.iter().find(|known| normalised(known) == name) {
        return format!("is not {kind}: did you mean `{same}`?");
    }
    if let Some(meaning) = meaning_in(others.meanings, &name) {
        return format!("is not {kind}: here it is {meaning}");
    }
    if others.absent.contains(&name.as_str()) {
        return format!("is not offered as {kind}: {}", all());
    }
    // What continues a name, as in pareto5, is another family.
    let continues = |known: &&str| name.starts_with(&normalised(known));
    let near = forge_contract::strict::nearest_name(key, known.iter().copied());
    match near.filter(|near| !continues(near)) {
        Some(near) => format!("is not {kind}: did you mean `{near}`?"),
        None => format!("is not {kind}: {}", all()),
    }
}

/// The message for a key that is not a parameter of `family`; `forms` are those that it has, and
/// `has_cv` tells whether one is a coefficient of variation.
pub fn unknown_parameter(family: &str, key: &str, forms: &str, has_cv: bool) -> String {
    let name = normalised(key);
    let own = PARAMETERS.iter().find(|(of, _)| *of == family).map_or(&[][..], |(_, names)| *names);
    let of_cv: &[OtherNames] = if has_cv { &OF_MEAN_AND_CV } else { &[] };
    let meaning = [own, of_cv, &OF_ALL].into_iter().find_map(|names| meaning_in(names, &name));
    let meaning = meaning.map_or_else(String::new, |meaning| format!("; `{key}` is {meaning}"));
    format!("is not a parameter of {family}: {forms}{meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_have_one_meaning() {
        let unique = |lists: &[&'static [OtherNames]], more: &[&'static str]| {
            let names = lists.iter().flat_map(|names| names.iter()).flat_map(|other| other.names);
            let mut names: Vec<&str> = names.chain(more).copied().collect();
            assert!(names.iter().all(|name| normalised(name) == **name), "{names:?}");
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{names:?}");
        };
        unique(&[SEVERITIES.meanings], SEVERITIES.absent);
        unique(&[COUNTS.meanings], COUNTS.absent);
        for (_, names) in PARAMETERS {
            unique(&[names], &[]);
        }
        unique(&[&OF_MEAN_AND_CV, &OF_ALL], &[]);
    }
}
