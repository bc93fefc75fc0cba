//! The examples are accepted, and say nothing unexpected.

use crate::root;

#[test]
fn every_example_is_accepted_with_the_warnings_it_is_meant_to_have() {
    let expected = [
        ("order-gateway/cluster.toml", vec![]),
        ("two-nodes-and-witness/cluster.toml", vec![]),
        ("one-link-lab/cluster.toml", vec!["one-link"]),
    ];
    for (name, codes) in expected {
        let loaded = config::load(&root().join("examples").join(name));
        let text = config::render(&loaded.diagnostics, false);
        assert!(loaded.spec.is_some(), "{text}");
        let found: Vec<&str> = loaded.diagnostics.iter().map(|d| d.code.as_str()).collect();
        assert_eq!(found, codes, "{name}\n{text}");
    }
}

/// The design's own example, as it is written there.
#[test]
fn the_designs_example_is_accepted() {
    let parsed = config::parse(include_str!("design.toml"), "design.toml");
    let text = config::render(&parsed.diagnostics, false);
    assert!(!parsed.diagnostics.iter().any(config::Diagnostic::is_error), "{text}");
    let spec = parsed.spec.expect(&text);
    let address = &spec.resources[&model::ResourceName::new("gateway-address").expect("a name")];
    assert_eq!(address.standby, model::spec::Standby::Hot, "its keepers wait");
}
