//! The documentation knows every key and every code that the parser knows.

use crate::{expect, root};

/// The part of a page between its markers is generated.
fn with_generated(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- generated: {name} -->"), format!("<!-- end: {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{begin} is missing"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{end} is missing"));
    format!("{before}{begin}\n\n{text}{end}{after}")
}

#[test]
fn the_reference_is_the_one_that_the_parser_reads_by() {
    let path = root().join("docs/reference/configuration.md");
    let page = std::fs::read_to_string(&path).expect("the reference is there");
    let page = with_generated(&page, "keys", &config::reference::keys());
    let page = with_generated(&page, "codes", &config::reference::codes());
    let wrong = expect(&path, &page);
    assert!(wrong.is_none(), "run with BLESS=1 to write it anew\n{}", wrong.unwrap_or_default());
}

#[test]
fn every_key_is_documented_with_a_meaning_and_a_default() {
    let page = config::reference::keys();
    for table in config::keys::TABLES {
        assert!(!table.about.is_empty(), "{}", table.heading);
        for key in table.keys {
            assert!(page.contains(&format!("| `{}` |", key.name)), "{}", key.name);
            assert!(key.meaning.ends_with('.') && !key.default.is_empty(), "{}", key.name);
        }
    }
}

/// The blocks of TOML in the guides are what the parser takes.
#[test]
fn every_configuration_in_the_guides_is_accepted() {
    let guides = std::fs::read_dir(root().join("docs/guides")).expect("the guides are there");
    let mut seen = 0;
    for guide in guides {
        let path = guide.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a guide is text");
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            // A schedule of the vault has a table of that name too; the vault's own tests read it.
            let schedule = path.ends_with("vault.md");
            if !block.contains("[cluster]") || schedule {
                continue;
            }
            seen += 1;
            let parsed = config::parse(block, &path.display().to_string());
            assert!(parsed.spec.is_some(), "{}", config::render(&parsed.diagnostics, false));
        }
    }
    assert!(seen > 0, "no guide shows a configuration");
}
