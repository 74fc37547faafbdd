//! The profile's entry in the list of profiles, and its model.

use forge_contract::{
    error::InvalidDocument, occurrence_subject::OccurrenceSubject, program::Program,
    shard_result::ShardResult, strict::ObjectReader,
};
use serde_json::{Map, Value};

use super::{
    RiskArgs,
    compile::compile,
    examples,
    formula::FORMULA,
    highest_moments::HighestMoments,
    merged::Merged,
    output::{RiskOutput, output},
};
use crate::{
    summary::{HighestMoment, ReportedTails, Summary},
    workload::{
        Budget, CommissionErrors, ModelPart, ModelParts, NamedExample, Profile, Vocabulary, WorkloadModel,
        warning::Warning,
    },
};

/// The profile `risk.compound.v1`.
pub const PROFILE: Profile = Profile {
    op: "mc",
    version: 1,
    name: "risk.compound.v1",
    vocabulary: Vocabulary {
        iterations: "years",
        occurrences: "losses",
        quantity: "net annual loss",
        unit: "",
        return_periods: true,
    },
    formula: FORMULA,
    read_args,
    args_schema: |generator| generator.subschema_for::<RiskArgs>(),
    output_schema: |generator| generator.subschema_for::<RiskOutput>(),
    example_args: examples::portfolio,
    examples: &[
        NamedExample { name: "portfolio", args: examples::portfolio },
        NamedExample { name: "tower", args: examples::tower },
        NamedExample { name: "capital", args: examples::capital },
        NamedExample { name: "mixture", args: examples::mixture },
        NamedExample { name: "events", args: examples::events },
    ],
};

/// The model of valid args.
#[derive(Debug)]
struct RiskModel {
    args: RiskArgs,
    budget: Budget,
}

fn read_args(object: ObjectReader<'_, '_>) -> Box<dyn WorkloadModel> {
    let args = RiskArgs::read(object);
    let budget = Budget { iterations: args.iterations, convergence: args.convergence.clone() };
    Box::new(RiskModel { args, budget })
}

impl WorkloadModel for RiskModel {
    fn model_args(&self) -> Map<String, Value> {
        self.args.model_args()
    }

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn component_names(&self) -> Vec<String> {
        let portfolio = self.args.portfolio();
        let names = portfolio.groups.iter().flat_map(|group| {
            let several_of_line = |line| group.components.iter().filter(|c| c.line == line).count() > 1;
            let name = |(number, component): (usize, &super::portfolio::PortfolioComponent)| {
                let line = &portfolio.lines[component.line];
                let number =
                    if several_of_line(component.line) { format!(" {}", number + 1) } else { String::new() };
                format!("{} {line}{number}", group.name)
            };
            group.components.iter().enumerate().map(name).collect::<Vec<_>>()
        });
        names.collect()
    }

    fn parts(&self) -> ModelParts {
        let portfolio = self.args.portfolio();
        let moments = HighestMoments::new(&portfolio);
        let part = |name: &String, highest| ModelPart { name: name.clone(), highest };
        let (lines, groups) = (portfolio.lines.iter().enumerate(), portfolio.groups.iter().enumerate());
        let treaties = portfolio.treaties.iter();
        ModelParts {
            lines: lines.map(|(at, name)| part(name, moments.line(at))).collect(),
            groups: groups.map(|(at, group)| part(&group.name, moments.group(at))).collect(),
            treaties: treaties.map(|t| part(&t.name, moments.ceded(t))).collect(),
            gross: moments.gross(),
            net: moments.net(),
        }
    }

    fn largest_moment(&self, subject: OccurrenceSubject) -> HighestMoment {
        HighestMoments::new(&self.args.portfolio()).largest(subject)
    }

    fn commission_errors(&self, result: &ShardResult, program: &Program) -> Vec<CommissionErrors> {
        Merged::new(&self.args.portfolio(), program, result).commission_errors()
    }

    fn expected_draws(&self) -> u64 {
        self.args.expected_draws()
    }

    fn expected_occurrences(&self) -> f64 {
        self.args.expected_occurrences()
    }

    fn warnings(&self, program: &Program) -> Vec<Warning> {
        self.args.warnings(program)
    }

    fn reported_tails(&self) -> ReportedTails {
        let portfolio = self.args.portfolio();
        let moments = HighestMoments::new(&portfolio);
        let (total, largest) = (moments.net(), moments.largest(OccurrenceSubject::all_lines(0)));
        let report = portfolio.report;
        ReportedTails { levels: report.levels, return_periods: report.return_periods, total, largest }
    }

    fn compile(&self) -> Result<Program, InvalidDocument> {
        compile(&self.args.portfolio())
    }

    fn output(&self, result: &ShardResult, program: &Program, summary: &Summary) -> Value {
        let output = output(&self.args.portfolio(), program, result, summary);
        serde_json::to_value(output).expect("the output is plain data")
    }
}
