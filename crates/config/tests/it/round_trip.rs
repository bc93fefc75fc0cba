//! The merged text is self-contained: reading it gives the same specification, in one form.

use crate::directories;

#[test]
fn the_merged_text_means_the_same_and_is_a_fixed_point() {
    let mut seen = 0;
    for case in directories("tests/cases") {
        let loaded = config::load(&case.join("cluster.toml"));
        let Some(spec) = loaded.spec else { continue };
        seen += 1;
        let again = config::parse(&loaded.text, "merged");
        assert_eq!(again.spec.as_ref(), Some(&spec), "{}\n{}", case.display(), loaded.text);
        assert_eq!(config::to_toml(&spec), loaded.text);
    }
    assert!(seen > 10, "{seen} cases are accepted");
}

/// Every key that the parser knows survives, with a value that is not its default.
#[test]
fn every_key_survives_the_way_there_and_back() {
    let text = include_str!("every-key.toml");
    let parsed = config::parse(text, "every-key.toml");
    let spec =
        parsed.spec.unwrap_or_else(|| panic!("{}", config::render(&parsed.diagnostics, false)));
    let printed = config::to_toml(&spec);
    assert_eq!(config::parse(&printed, "printed").spec, Some(spec), "{printed}");
    for table in config::keys::TABLES {
        for key in table.keys.iter().filter(|key| key.name != "include") {
            assert!(text.contains(key.name), "every-key.toml lacks {}", key.name);
            assert!(printed.contains(key.name), "the printed text lacks {}", key.name);
        }
    }
}
