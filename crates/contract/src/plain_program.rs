//! Plain programs: those whose components each have a count and an amount of their own, and whose
//! amounts have no other terms than a cap. Vector and GPU backends execute these.

use crate::{
    digest::Digest,
    program::{Component, Group, Occurrence, Program, Terms},
    table::{AmountTable, CountTable, Segment},
};

/// Largest number of components in a plain program.
pub const MAX_PLAIN_COMPONENTS: usize = 16;

/// A program that is plain, taken apart.
#[derive(Debug, Clone)]
pub struct PlainProgram<'a> {
    /// log2 of the number of segments in an octave, common to all tables: 1 to 8.
    pub segment_bits: u32,
    /// Constant added to every iteration's total, in minor units.
    pub base: u64,
    /// Largest total; larger ones are capped. [`MAX_AMOUNT`](crate::amount::MAX_AMOUNT) when the model has no cap.
    pub cap: u64,
    /// The sources of occurrences, in the order of their draws: 1 to [`MAX_PLAIN_COMPONENTS`].
    pub components: Vec<PlainComponent<'a>>,
    marks: Vec<u64>,
    program: &'a Program,
}

/// A source of occurrences: the distribution of their number and of their amounts.
#[derive(Debug, Clone, Copy)]
pub struct PlainComponent<'a> {
    /// Distribution of the number of occurrences in an iteration.
    pub counts: &'a CountTable,
    /// Quantile table of the amount.
    pub amounts: &'a [Segment],
    /// Largest amount; larger ones are capped. [`MAX_AMOUNT`](crate::amount::MAX_AMOUNT) when the model has no cap.
    pub cap: u64,
}

impl<'a> PlainProgram<'a> {
    /// Takes a program apart; `None` if it is not plain.
    pub fn new(program: &'a Program) -> Option<Self> {
        let is_plain = program.lines == 1
            && !program.details
            && program.treaties.is_empty()
            && program.indices.is_empty()
            && (1..=MAX_PLAIN_COMPONENTS).contains(&program.groups.len());
        let first = program.groups.first().filter(|_| is_plain)?;
        let segment_bits = segment_bits(first)?;
        let components = program.groups.iter().map(|group| plain_component(group, segment_bits));
        Some(Self {
            segment_bits,
            base: program.base,
            cap: program.cap,
            components: components.collect::<Option<_>>()?,
            marks: program.marks(),
            program,
        })
    }

    /// SHA-256 of the program's bytes.
    pub fn digest(&self) -> Digest {
        self.program.digest()
    }

    /// The marks of the program.
    pub fn marks(&self) -> &[u64] {
        &self.marks
    }
}

/// The program of one line with these components: counts, quantile table with `segment_bits`, and
/// cap.
pub fn plain_program(
    units: u32,
    base: u64,
    cap: u64,
    segment_bits: u32,
    components: impl IntoIterator<Item = (CountTable, Vec<Segment>, u64)>,
) -> Program {
    let group = |(counts, segments, cap)| Group {
        counts,
        occurrence: Occurrence::Claim { pick: None },
        components: vec![Component {
            line: 0,
            index: None,
            same_rank: false,
            terms: Terms { limit: cap, ..Terms::NONE },
            amounts: AmountTable::Quantiles { segment_bits, segments },
        }],
    };
    Program {
        units,
        base,
        cap,
        lines: 1,
        details: false,
        allocation: false,
        indices: Vec::new(),
        groups: components.into_iter().map(group).collect(),
        treaties: Vec::new(),
    }
}

fn segment_bits(group: &Group) -> Option<u32> {
    match group.components.first()?.amounts {
        AmountTable::Quantiles { segment_bits, .. } => Some(segment_bits),
        AmountTable::Steps { .. } | AmountTable::Linear { .. } => None,
    }
}

fn plain_component(group: &Group, bits: u32) -> Option<PlainComponent<'_>> {
    let [component] = &group.components[..] else { return None };
    let AmountTable::Quantiles { segment_bits, segments } = &component.amounts else { return None };
    let terms = component.terms;
    let is_plain = *segment_bits == bits
        && group.occurrence == Occurrence::Claim { pick: None }
        && component.index.is_none()
        && terms == (Terms { limit: terms.limit, ..Terms::NONE });
    is_plain.then_some(PlainComponent { counts: &group.counts, amounts: segments, cap: terms.limit })
}
