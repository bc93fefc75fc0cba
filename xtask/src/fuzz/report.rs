//! What became of all targets, for people and for programs.

use serde_json::json;

use super::run::Ran;

/// A line a target; then all of them.
pub(super) fn table(ran: &[Ran]) -> String {
    let mut out = format!(
        "{:<18} {:>12} {:>9} {:>9} {:>7} {:>8}\n",
        "target", "inputs", "rate/s", "coverage", "corpus", "crashes"
    );
    for ran in ran {
        let said = ran.said;
        out += &format!(
            "{:<18} {:>12} {:>9} {:>9} {:>7} {:>8}\n",
            ran.name,
            said.inputs,
            said.rate,
            said.coverage,
            said.corpus,
            ran.crashes.len()
        );
        out.extend(ran.error.iter().map(|error| format!("    {error}\n")));
        out.extend(ran.crashes.iter().map(|path| format!("    {}\n", path.display())));
    }
    let inputs: u64 = ran.iter().map(|ran| ran.said.inputs).sum();
    let crashes: usize = ran.iter().map(|ran| ran.crashes.len()).sum();
    let targets = format!("{} targets", ran.len());
    out + &format!("{targets:<18} {inputs:>12} {:>9} {:>9} {:>7} {crashes:>8}", "", "", "")
}

/// The same as one JSON text.
pub(super) fn json(ran: &[Ran]) -> String {
    let target = |ran: &Ran| {
        json!({
            "target": ran.name,
            "inputs": ran.said.inputs,
            "rate_per_s": ran.said.rate,
            "coverage": ran.said.coverage,
            "corpus": ran.said.corpus,
            "crashes": ran.crashes.iter().map(|p| p.display().to_string()).collect::<Vec<_>>(),
            "error": ran.error,
        })
    };
    json!({ "targets": ran.iter().map(target).collect::<Vec<_>>() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::run::Said;
    use super::*;

    #[test]
    fn the_table_names_each_crash_and_sums_up() {
        let said = Said { inputs: 40, rate: 4, coverage: 3, corpus: 2 };
        let ran = |name: &str, crashes: &[&str]| Ran {
            name: name.to_owned(),
            said,
            crashes: crashes.iter().map(Into::into).collect(),
            error: None,
        };
        let all = [ran("a", &[]), ran("b", &["crash-1"])];
        let table = table(&all);
        assert!(table.contains("    crash-1\n"), "{table}");
        assert!(table.lines().last().is_some_and(|l| l.contains("2 targets") && l.contains("80")));
        assert!(json(&all).contains(r#""crashes":["crash-1"]"#));
    }
}
