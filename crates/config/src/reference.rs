//! The reference of keys and codes, made from the tables that the parser reads by. A test holds
//! `docs/reference/configuration.md` against it.

use std::fmt::Write;

use crate::code::{Code, Severity};
use crate::keys::{TABLES, Table, Value};

/// The keys of all tables as Markdown.
#[must_use]
pub fn keys() -> String {
    let mut out = String::new();
    for table in TABLES {
        // Writing to a String can't fail.
        let _ = write!(out, "### `{}`\n\n{}\n\n", table.heading, table.about);
        out.push_str(
            "| key | type | unit | default | meaning |\n| --- | --- | --- | --- | --- |\n",
        );
        for key in table.keys {
            let (kind, unit) = (type_of(key.value), unit_of(key.value));
            let _ = writeln!(
                out,
                "| `{}` | {kind} | {unit} | {} | {} |",
                key.name, key.default, key.meaning
            );
        }
        out.push('\n');
    }
    out
}

/// All codes as Markdown.
#[must_use]
pub fn codes() -> String {
    let mut out = String::new();
    for severity in [Severity::Error, Severity::Warning, Severity::Note] {
        let _ = write!(out, "### {}s\n\n| code | meaning |\n| --- | --- |\n", severity.as_str());
        for code in Code::ALL.iter().filter(|code| code.severity() == severity) {
            let _ = writeln!(out, "| `{code}` | {} |", code.meaning());
        }
        out.push('\n');
    }
    out
}

fn words(list: &[&str]) -> String {
    let quoted: Vec<String> = list.iter().map(|word| format!("`\"{word}\"`")).collect();
    quoted.join(", ")
}

fn heading(table: &Table) -> String {
    format!("`{}`", table.heading)
}

fn type_of(value: Value) -> String {
    match value {
        Value::Text => "text".to_string(),
        Value::Flag => "`true` or `false`".to_string(),
        Value::Whole { min, max, .. } => match max {
            max if max == i64::MAX as u64 => format!("whole number from {min}"),
            max => format!("whole number, {min} to {max}"),
        },
        Value::Texts { max } => format!("list of texts, at most {max}"),
        Value::Choice(list) => words(list),
        Value::ChoiceOr(list, table) => format!("{} or a table {}", words(list), heading(table)),
        Value::Table(table) => format!("table {}", heading(table)),
        Value::Tables { table, max } => format!("list of {}, at most {max}", heading(table)),
        Value::Map { max } => format!("table of texts, at most {max}"),
    }
}

fn unit_of(value: Value) -> &'static str {
    match value {
        Value::Whole { unit, .. } => unit,
        _ => "",
    }
}
