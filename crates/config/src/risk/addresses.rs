//! Addresses that a node would not know where to put.

use model::spec::ResourceKind;
use model::{NodeName, NodeSpec};

use super::{Case, list};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Warns where no interface is named and a node has no link in the address's network: it may
/// have another interface there, of which the configuration knows nothing.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    for (name, resource) in &case.spec.resources {
        let ResourceKind::Address(address) = &resource.kind else { continue };
        if address.interface.is_some() {
            continue;
        }
        let far = |(at, node): &(&NodeName, &NodeSpec)| {
            resource.allows(at, node) && !node.links.iter().any(|link| address.is_near(*link))
        };
        let far: Vec<String> =
            case.spec.nodes.iter().filter(far).map(|(at, _)| at.to_string()).collect();
        if far.is_empty() {
            continue;
        }
        let nodes = list(&far);
        found.push(
            Diagnostic::new(
                Code::NoInterface,
                format!(
                    "{nodes} can't take {address} (\"{name}\") unless an interface there has an \
                     address in its network: no link has"
                ),
                "name the `interface` that is to get it, or allow only nodes that have one",
            )
            .at_known(case.places.resource(name.as_str(), "address"), "far from their links"),
        );
    }
}
