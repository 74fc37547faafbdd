//! Every event of one year.

use forge_contract::program::{MAX_AMOUNT, Occurrence};
use forge_kernel::{
    request::Request,
    workload::ModelParts,
    years::{LineTrace, YearTrace, trace_year},
};
use serde_json::json;

use crate::{
    error::CommandError,
    text::data_table::{ColumnRole, DataCell, DataColumn, DataTable, format_minor_units},
    year_record::YearRecord,
    year_table::{CEDED_BY_TREATY, TableReport, treaty_columns, year_table},
};

/// Lists the events of a year.
pub fn explain_year(record: &YearRecord, number: u64) -> Result<TableReport, CommandError> {
    record.check_number("--year", number)?;
    let request = record.request();
    let trace = trace_year(&request.program, request.root_seed, number);
    let compared = record.check_total(&trace.figures)?;
    let program = &request.program;
    let totals = year_table(request, [&trace.figures]).json_rows().remove(0);
    let members = json!({
        "schema": "forge.explain.v1",
        "view": "year",
        "job_id": record.job.id,
        "result": record.result,
        "years": record.years,
        "recomputed": 1,
        "compared_with": compared.map(|_| "largest_total"),
        "base": program.base as f64 / f64::from(program.units),
        "year_limit": (program.cap < MAX_AMOUNT).then(|| program.cap as f64 / f64::from(program.units)),
        "totals": totals,
    });
    let noun = request.profile().vocabulary.iterations;
    Ok(TableReport {
        title: format!("Job {}: number {number} of its {noun}", record.job.id),
        table: event_table(request, &trace),
        parts_title: "What each treaty pays",
        notes: notes(request, &trace, compared),
        members: members.as_object().cloned().unwrap_or_default(),
    })
}

/// A row for each line that an event strikes, then one for each line of which treaties on the
/// year's amount take something.
fn event_table(request: &Request, trace: &YearTrace) -> DataTable {
    let parts = request.parts();
    let key = |name, heading| DataColumn::new(name, heading, ColumnRole::Key);
    let figure = |name, heading| DataColumn::new(name, heading, ColumnRole::Figure);
    let mut columns = vec![
        key("kind", "Kind"),
        key("event", "Event"),
        key("group", "Group"),
        key("line", "Line"),
        figure("ground_up", "Ground-up"),
        figure("gross", "Gross"),
        figure("ceded", "Ceded"),
        figure("net", "Net"),
    ];
    columns.extend(treaty_columns(&parts.treaties));
    let mut rows = Vec::new();
    let mut events = 0;
    for occurrence in &trace.occurrences {
        let (kind, event) = match request.program.groups[occurrence.group].occurrence {
            Occurrence::Annual => ("annual", DataCell::Absent),
            Occurrence::Claim { .. } | Occurrence::Strike => {
                events += 1;
                ("event", DataCell::Count(events))
            }
        };
        let group = DataCell::Text(parts.groups[occurrence.group].name.clone());
        let of_line = |line| event_row(&parts, kind, &event, &group, line);
        rows.extend(occurrence.lines.iter().map(of_line));
    }
    let closing = trace.closing.iter().filter(|line| line.all_ceded() > 0);
    rows.extend(closing.map(|line| closing_row(&parts, line)));
    DataTable { units: request.program.units, parts: CEDED_BY_TREATY, columns, rows }
}

fn event_row(
    parts: &ModelParts,
    kind: &str,
    event: &DataCell,
    group: &DataCell,
    line: &LineTrace,
) -> Vec<DataCell> {
    let ceded = line.all_ceded();
    let cells = [
        DataCell::Text(kind.to_owned()),
        event.clone(),
        group.clone(),
        DataCell::Text(parts.lines[line.line].name.clone()),
        DataCell::Amount(line.ground_up),
        DataCell::Amount(line.gross),
        DataCell::Amount(ceded),
        DataCell::Amount(line.gross - ceded),
    ];
    cells.into_iter().chain(line.ceded.iter().map(|&amount| DataCell::Amount(amount))).collect()
}

/// What treaties on the year's amount take of a line. It has no loss of its own.
fn closing_row(parts: &ModelParts, line: &LineTrace) -> Vec<DataCell> {
    let cells = [
        DataCell::Text("year".to_owned()),
        DataCell::Absent,
        DataCell::Absent,
        DataCell::Text(parts.lines[line.line].name.clone()),
        DataCell::Absent,
        DataCell::Absent,
        DataCell::Amount(line.all_ceded()),
        DataCell::Absent,
    ];
    cells.into_iter().chain(line.ceded.iter().map(|&amount| DataCell::Amount(amount))).collect()
}

fn notes(request: &Request, trace: &YearTrace, compared: Option<&str>) -> Vec<String> {
    let (program, figures) = (&request.program, &trace.figures);
    let parts = request.parts();
    let amount = |amount| format_minor_units(amount, program.units);
    let mut notes = vec![format!("Gross {}", amount(figures.gross))];
    for ((part, treaty), &premium) in parts.treaties.iter().zip(&figures.treaties).zip(&figures.premiums) {
        let premium = match premium {
            0 => String::new(),
            premium => format!(", for a reinstatement premium of {}", amount(premium)),
        };
        notes.push(format!("{} pays {}{premium}", part.name, amount(treaty.amount)));
    }
    if program.base > 0 {
        notes.push(format!("{} is added in every iteration", amount(program.base)));
    }
    if figures.net == program.cap {
        notes.push(format!("The total is cut to {}", amount(program.cap)));
    }
    notes.push(format!("Net {}", amount(figures.net)));
    let sums = match sum_of_rows(trace, program.base).min(program.cap.into()) == u128::from(figures.net) {
        true => "The rows add up to these figures",
        false => "Amounts of this number are too large to be added up exactly: the figures are saturated",
    };
    notes.push(match compared {
        Some(place) => format!("{sums}, and the net amount is at most the largest one of {place}."),
        None => format!("{sums}. The job kept nothing to compare them with."),
    });
    notes
}

/// The base and what the rows leave after treaties, without saturation.
fn sum_of_rows(trace: &YearTrace, base: u64) -> u128 {
    let lines = || trace.occurrences.iter().flat_map(|occurrence| &occurrence.lines);
    let gross: u128 = lines().map(|line| u128::from(line.gross)).sum();
    let ceded: u128 = lines().chain(&trace.closing).map(|line| u128::from(line.all_ceded())).sum();
    u128::from(base) + gross - ceded
}
