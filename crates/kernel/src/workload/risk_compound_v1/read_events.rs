//! Reads event loss tables.

use forge_contract::strict::{Node, ObjectReader};

use super::{
    event_tables::{
        ContagionArgs, EventLossArgs, EventTableArgs, FrequencyArgs, MAX_EVENTS, MAX_LINES, MAX_RATE,
        MIN_RATE, default_frequency,
    },
    fields::References,
};
use crate::dyadic::nearest_sum;

/// Reads a table; errors go to the collector of `object`.
pub(super) fn read(mut object: ObjectReader<'_, '_>, references: &References) -> EventTableArgs {
    let rates = read_rates(&mut object);
    if object.node("losses").is_none() {
        object.missing("losses", "a list of lines with the losses of the events");
    }
    let events = rates.as_ref().map(Vec::len);
    let losses =
        object.optional_objects("losses", 1..=MAX_LINES, |loss| read_losses(loss, references, events));
    let losses = losses.unwrap_or_default();
    let line_path = |at: usize| format!("/losses/{at}/line");
    let has_error: Vec<bool> = (0..losses.len()).map(|at| object.has_error_within(&line_path(at))).collect();
    for (at, loss) in losses.iter().enumerate().filter(|(at, _)| !has_error[*at]) {
        let mut earlier = losses[..at].iter().zip(&has_error).filter(|(_, has_error)| !**has_error);
        if earlier.any(|(earlier, _)| earlier.line == loss.line) {
            let message = "is the line of an earlier element too: give the losses of a line once";
            object.error_at(&line_path(at), message);
        }
    }
    let frequency = read_frequency(&mut object);
    object.finish();
    EventTableArgs { rates: rates.unwrap_or_default(), losses, frequency }
}

/// The rates. Where one has an error, all are 0.
fn read_rates(object: &mut ObjectReader<'_, '_>) -> Option<Vec<f64>> {
    if object.node("rates").is_none() {
        object.missing("rates", "a list of the expected numbers of occurrences of the events in a year");
        return None;
    }
    let rates = object.optional_numbers("rates", 1..=MAX_EVENTS, 0.0..=MAX_RATE)?;
    for (event, &rate) in rates.iter().enumerate() {
        if rate > 0.0 && rate < MIN_RATE {
            let message = format!("must be 0, or at least {MIN_RATE:e}; it is {rate:e}");
            object.error_at(&format!("/rates/{event}"), message);
        }
    }
    if object.has_error_within("/rates") {
        return Some(vec![0.0; rates.len()]);
    }
    let total = nearest_sum(&rates);
    if total == 0.0 {
        object.error("rates", "must have a positive element");
    } else if total > MAX_RATE {
        object.error("rates", format!("must add up to at most {MAX_RATE}; they add up to {total}"));
    }
    Some(rates)
}

/// The losses of a line, one for each of `events`: those that are missing are 0.
fn read_losses(
    mut object: ObjectReader<'_, '_>,
    references: &References,
    events: Option<usize>,
) -> EventLossArgs {
    let line = references.read_line(&mut object);
    if object.node("amounts").is_none() {
        object.missing("amounts", "a list of the losses of the events");
    }
    let amounts = object.optional_numbers("amounts", 1..=MAX_EVENTS, 0.0..=references.largest);
    let mut amounts = amounts.unwrap_or_default();
    if let Some(events) = events.filter(|&events| events != amounts.len())
        && object.node("amounts").is_some()
        && !object.has_error_within("/amounts")
    {
        let message = format!("must have as many elements as `rates`, {events}; it has {}", amounts.len());
        object.error("amounts", message);
    }
    object.finish();
    amounts.resize(events.unwrap_or(0), 0.0);
    EventLossArgs { line, amounts }
}

fn read_frequency(object: &mut ObjectReader<'_, '_>) -> FrequencyArgs {
    const NEGATIVE_BINOMIAL: &str = "negative_binomial";
    match object.node("frequency") {
        None => default_frequency(),
        Some(Node::String(name)) if name == "poisson" => FrequencyArgs::Poisson,
        Some(Node::Object(members)) if members.iter().any(|(name, _)| name == NEGATIVE_BINOMIAL) => {
            let mut frequency = object.optional_object("frequency");
            let contagion = frequency.required_object(NEGATIVE_BINOMIAL).map(|mut law| {
                let contagion = law.required_number("contagion", 0.0..=1000.0);
                law.finish();
                contagion
            });
            frequency.finish();
            FrequencyArgs::NegativeBinomial(ContagionArgs { contagion: contagion.unwrap_or_default() })
        }
        Some(_) => {
            let message =
                "must be \"poisson\", or an object such as {\"negative_binomial\": {\"contagion\": 0.35}}";
            object.error("frequency", message);
            FrequencyArgs::Poisson
        }
    }
}
