//! The table at the end, for people.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Row, Table};

use super::phases::Phases;
use super::summary::{FaultSummary, Summary};

/// Width where standard output is no terminal.
const WIDTH: u16 = 118;

/// The table, what happened in each fault, and the verdict.
#[must_use]
pub(super) fn render(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH);
    }
    table.set_header([
        "fault",
        "outage ms",
        "min",
        "max",
        "acked",
        "lost",
        "twice",
        "unknown",
        "refused",
        "two active ms",
        "detect+fence+decide+commit+promote",
    ]);
    for fault in &summary.faults {
        table.add_row(row(fault));
    }
    for column in 1..10 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let told: Vec<String> = summary
        .faults
        .iter()
        .map(|fault| format!("  {}: {}", fault.fault, fault.evidence))
        .collect();
    let verdict = if summary.is_clean() {
        "No acknowledged order was lost, none was stored twice, never were two active."
    } else {
        "FAILED: the figures that must be 0 are not, or a frozen node was not refused."
    };
    let (profile, runs) = (summary.profile, summary.runs);
    let told = told.join("\n");
    let head = format!("profile {profile}, {runs} run(s), outages as the client saw them");
    format!("{head}\n{table}\n{told}\n\n{verdict}")
}

fn row(fault: &FaultSummary) -> Row {
    let ms = |value: f64| Cell::new(format!("{value:.1}"));
    // A figure that must be 0 stands out where it is not.
    let zero = |text: String, is_zero: bool| {
        let cell = Cell::new(text);
        if is_zero { cell } else { cell.add_attribute(Attribute::Bold) }
    };
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
        zero(format!("{}", fault.two_active_ms.0), fault.two_active_ms.0 == 0.0),
        Cell::new(fault.phases_ms.as_ref().map_or("-".to_owned(), phases)),
    ])
}

fn phases(phases: &Phases) -> String {
    let Phases { detect, decide, commit, fence, promote } = phases;
    format!("{detect:.1}+{fence:.1}+{decide:.1}+{commit:.1}+{promote:.1}")
}

#[cfg(test)]
mod tests {
    use model::{Profile, Span};

    use super::*;
    use crate::demo::judge::Figures;
    use crate::demo::options::Fault;
    use crate::demo::summary::Judged;

    fn rendered(two_active: Span) -> String {
        let figures = Figures { outage: Span::from_ms(412), two_active, ..Figures::default() };
        let evidence = "a → b".to_owned();
        let run = Judged { fault: Fault::NodeCut, figures, evidence, phases: None };
        let faults = vec![FaultSummary::of(&[run]).unwrap()];
        render(&Summary { profile: Profile::Lan, runs: 1, faults })
    }

    #[test]
    fn the_table_says_what_happened_and_whether_it_was_clean() {
        let text = rendered(Span::ZERO);
        for part in ["profile lan", "node-cut", "412.0", "node-cut: a → b", "never were two"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(rendered(Span::from_ms(7)).contains("FAILED"));
    }
}
