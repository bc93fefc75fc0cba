//! `tidy`: holds the tree against STYLE.md, rule by rule. A rule is a file; what may break one,
//! and why, stands in `tidy.allow`.

mod allow;
mod documented;
mod forbidden;
mod functions;
mod lengths;
mod places;
mod scan;
mod unfinished;
mod walk;

use crate::flags::Flags;
use scan::File;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the root.
    pub(crate) path: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// The rule.
    pub(crate) rule: &'static str,
    /// What is wrong.
    pub(crate) text: String,
}

type Rule = fn(&File, &mut Vec<Finding>);

/// Rules for Rust files.
const RUST: &[Rule] = &[
    functions::check,
    lengths::check,
    unfinished::check,
    places::check,
    documented::check,
    forbidden::check,
];
/// Rules for all other texts.
const TEXT: &[Rule] = &[forbidden::check];

/// Looks at the whole tree and prints what it finds.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    Flags::read(arguments, &[], &[])?;
    let root = crate::root();
    let files = walk::texts(&root)?;
    let mut findings = Vec::new();
    for (path, text) in &files {
        findings.extend(look(path, text));
    }
    let allowed = match std::fs::read_to_string(root.join(allow::FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("can't read {}: {error}", allow::FILE)),
    };
    let mut findings = allow::apply(&allowed, findings);
    findings.sort();
    for Finding { path, line, rule, text } in &findings {
        println!("{path}:{line}: {rule}: {text}");
    }
    match findings.len() {
        0 => {
            println!("{} files are tidy", files.len());
            Ok(())
        }
        count => Err(format!("{count} places break STYLE.md")),
    }
}

/// What one text breaks.
fn look(path: &str, text: &str) -> Vec<Finding> {
    let file = File::new(path, text);
    let mut findings = Vec::new();
    for rule in if path.ends_with(".rs") { RUST } else { TEXT } {
        rule(&file, &mut findings);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `line rule` for each finding.
    fn found(path: &str, text: &str) -> Vec<String> {
        let mut findings = look(path, text);
        findings.sort();
        findings.iter().map(|f| format!("{} {}", f.line, f.rule)).collect()
    }

    #[test]
    fn each_rule_finds_its_breach_and_nothing_in_clean_code() {
        let clean =
            "//! Docs.\n\n/// `todo!` in words, \"unsafe\" too.\nfn f() {\n    g(\"{\");\n}\n";
        assert_eq!(found("crates/x/src/lib.rs", clean), Vec::<String>::new());
        let long = format!("//! Docs.\nfn f() {{\n{}}}\n", "    g();\n".repeat(69));
        assert_eq!(found("a.rs", &long), ["2 function-length"]);
        let fits = format!("//! Docs.\nfn f() {{\n{}}}\n", "    g();\n".repeat(68));
        assert_eq!(found("a.rs", &fits), Vec::<String>::new());
        let wide = format!("//! Docs.\n// {}\n", "é".repeat(98));
        assert_eq!(found("a.rs", &wide), ["2 line-length"]);
        assert_eq!(found("a.rs", "fn f() {}\n"), ["1 module-docs"]);
        let unfinished = "//! Docs.\nfn f() {\n    todo!()\n}\n#[ignore]\n#[test]\nfn g() {}\n";
        assert_eq!(found("a.rs", unfinished), ["3 unfinished", "5 unfinished"]);
        let unsafety = "//! Docs.\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(found("a.rs", unsafety), ["3 unsafe"]);
        assert_eq!(found("crates/drivers/src/sys/mod.rs", unsafety), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_is_counted_without_its_tests() {
        let code = format!("//! Docs.\n{}", "const A: u8 = 1;\n".repeat(499));
        assert_eq!(found("a.rs", &code), Vec::<String>::new());
        let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{}}}\n", "    // x\n".repeat(50));
        assert_eq!(found("a.rs", &tests), Vec::<String>::new());
        let longer = format!("{code}const B: u8 = 1;\n");
        assert_eq!(found("a.rs", &longer), ["501 file-length"]);
        assert_eq!(found("crates/x/tests/it/a.rs", &longer), Vec::<String>::new());
    }
}
