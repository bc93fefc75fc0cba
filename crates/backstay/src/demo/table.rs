//! The tables at the end, for people: what the client saw, and where the time went.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Row, Table};

use super::phases::Phases;
use super::summary::{FaultSummary, Summary};

/// Columns that the output fits into.
const WIDTH: usize = 100;

/// The tables, what happened in each fault, and the verdict.
#[must_use]
pub(super) fn render(summary: &Summary) -> String {
    let figures = table(
        &["fault", "median", "min", "max", "acked", "lost", "twice", "unknown", "stale", "both ms"],
        summary.faults.iter().map(row),
    );
    let phases = table(
        &["fault", "detect", "fence", "decide", "commit", "promote"],
        summary.faults.iter().filter_map(|f| Some(phases(f.fault, f.phases_ms.as_ref()?))),
    );
    let told: Vec<String> =
        summary.faults.iter().map(|f| wrapped(&format!("{}: {}", f.fault, f.evidence))).collect();
    let verdict = if summary.is_clean() {
        "No acknowledged order was lost, none was stored twice, never were two active."
    } else {
        "FAILED: the figures that must be 0 are not, or a frozen node was not refused."
    };
    let (profile, runs, told) = (summary.profile, summary.runs, told.join("\n"));
    format!(
        "profile {profile}, {runs} run(s): how long the client went without an order, in ms\n\
         {figures}\n\
         acked, twice: orders acknowledged, and stored twice; stale: writes refused for an old \
         epoch;\nboth ms: time with two active instances\n\n\
         where the cluster's time went, in ms (median)\n{phases}\n\n{told}\n\n{verdict}"
    )
}

/// A table whose first column is words and whose others are numbers.
fn table(header: &[&str], rows: impl Iterator<Item = Row>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header).add_rows(rows);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((1, u16::from(number + 1 == header.len())));
        if number > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn ms(value: f64) -> Cell {
    Cell::new(format!("{value:.1}"))
}

fn row(fault: &FaultSummary) -> Row {
    // A figure that must be 0 stands out where it is not.
    let zero = |text: String, is_zero: bool| {
        let cell = Cell::new(text);
        if is_zero { cell } else { cell.add_attribute(Attribute::Bold) }
    };
    let two_active_ms = fault.two_active_ms.0;
    Row::from([
        Cell::new(fault.fault),
        ms(fault.outage_ms.median),
        ms(fault.outage_ms.min),
        ms(fault.outage_ms.max),
        Cell::new(fault.acknowledged),
        zero(fault.lost.to_string(), fault.lost == 0),
        zero(fault.duplicated.to_string(), fault.duplicated == 0),
        Cell::new(fault.unknown),
        Cell::new(fault.refused_stale),
        zero(format!("{two_active_ms:.1}"), two_active_ms == 0.0),
    ])
}

fn phases(fault: &str, phases: &Phases) -> Row {
    let Phases { detect, decide, commit, fence, promote } = *phases;
    let figures = [detect, fence, decide, commit, promote].map(ms);
    Row::from([Cell::new(fault)].into_iter().chain(figures).collect::<Vec<Cell>>())
}

/// Breaks a text between words, with everything after its first line indented.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::from(" "));
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, String::from("   ")));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use model::{Profile, Span};

    use super::*;
    use crate::demo::judge::Figures;
    use crate::demo::options::Fault;
    use crate::demo::summary::Judged;

    fn rendered(two_active: Span) -> String {
        let fault = Fault::CoordinatorAndActiveKilled;
        let outage = Span::from_ms(1_412);
        let figures = Figures { outage, acknowledged: 99_999, two_active, ..Figures::default() };
        let evidence = "a → b; ".to_owned() + &"because of this and that ".repeat(8);
        let phases = Some(Phases { detect: 310.5, ..Phases::default() });
        let run = Judged { fault, figures, evidence, phases };
        let faults = vec![FaultSummary::of(&[run]).unwrap()];
        render(&Summary { profile: Profile::Lan, runs: 1, faults })
    }

    #[test]
    fn the_table_says_what_happened_and_whether_it_was_clean() {
        let text = rendered(Span::ZERO);
        for part in ["profile lan", "1412.0", "310.5", "killed: a → b", "never were two"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(rendered(Span::from_ms(7)).contains("FAILED"));
    }

    #[test]
    fn every_line_fits_and_no_word_is_broken() {
        let text = rendered(Span::from_ms(7_777));
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        }
        let told = text.split("killed: a").nth(1).unwrap();
        let words = told.split_whitespace().filter(|w| *w == "because").count();
        assert_eq!(words, 8, "{text}");
    }
}
