//! What a job's index page says of its result.

use forge_documents::{
    JobResult, headline,
    portfolio_tables::{PortfolioPart, TitledTable, portfolio_tables},
    result_tables::TableWidth,
};
use forge_kernel::request::Request;
use forge_store::{IndexContent, IndexTable};

/// The headline, and of a portfolio the tables of lines, steps and treaties that the summary of a
/// run has.
pub fn index_content(request: &Request, result: &JobResult) -> IndexContent {
    let shown = [PortfolioPart::Lines, PortfolioPart::Steps, PortfolioPart::Treaties];
    let tables = portfolio_tables(request, result, TableWidth::Terminal).into_iter();
    let tables = tables.filter(|titled| shown.contains(&titled.part));
    let table =
        |TitledTable { title, table, .. }| IndexTable { title, header: table.header, rows: table.rows };
    IndexContent { headline: headline(request, result), tables: tables.map(table).collect() }
}
