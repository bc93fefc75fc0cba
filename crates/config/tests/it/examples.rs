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

/// The design's own example, as it is written there, is right but for the kind that this version
/// can't run yet.
#[test]
fn the_designs_example_fails_by_its_address_resource_alone() {
    let text = include_str!("design.toml");
    let parsed = config::parse(text, "design.toml");
    let errors: Vec<_> = parsed.diagnostics.iter().filter(|d| d.is_error()).collect();
    assert_eq!(errors.len(), 1, "{}", config::render(&parsed.diagnostics, false));
    assert_eq!(errors[0].code, config::Code::NotSupported);
    let process_only = text.split("[[resource]]\nname = \"gateway-address\"").next();
    let parsed = config::parse(process_only.unwrap_or_default(), "design.toml");
    assert!(parsed.spec.is_some(), "{}", config::render(&parsed.diagnostics, false));
}
