//! Failure domains whose loss takes the quorum.

use std::collections::BTreeMap;

use model::NodeName;
use model::spec::DomainKind;

use super::{Case, list};
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Warns of each domain that holds so many voters that the rest is no quorum, and notes kinds of
/// domain that only some voters name.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    let voters: Vec<_> = case.spec.nodes.iter().filter(|(_, node)| node.voter).collect();
    if voters.len() < 3 {
        return;
    }
    let quorum = voters.len() / 2 + 1;
    let mut named_any = false;
    for kind in DomainKind::ALL {
        let mut domains: BTreeMap<&str, Vec<&NodeName>> = BTreeMap::new();
        for (name, node) in &voters {
            if let Some(domain) = node.domains.get(kind) {
                domains.entry(domain).or_default().push(name);
            }
        }
        named_any |= !domains.is_empty();
        let in_one_site = kind == DomainKind::Site && domains.len() == 1;
        for (domain, names) in domains {
            if voters.len() - names.len() < quorum && !(in_one_site && names.len() == voters.len())
            {
                found.push(shared(case, kind, domain, &names, voters.len()));
            }
        }
    }
    if !named_any {
        found.push(
            Diagnostic::new(
                Code::NoDomains,
                "no voter says which site, rack or power feed it is in, so it can't be judged \
                 whether one loss takes the quorum",
                "add `rack` and `power`, and `site` where there are several, to each [[node]]",
            )
            .at_known(case.places.first(&["cluster.name"]), "this cluster"),
        );
    }
}

fn shared(
    case: &Case<'_>,
    kind: DomainKind,
    domain: &str,
    names: &[&NodeName],
    voters: usize,
) -> Diagnostic {
    let kind = kind.as_str();
    let what = if kind == "power" { "power feed" } else { kind };
    let left = voters - names.len();
    Diagnostic::new(
        Code::SharedDomain,
        format!(
            "the loss of {what} \"{domain}\" takes {} of {voters} voters ({}): the {left} left \
             {} no quorum, and everything stops",
            names.len(),
            list(names),
            if left == 1 { "is" } else { "are" }
        ),
        format!("move a voter to another {what}, or put a witness there"),
    )
    .at_known(case.places.node(names[0].as_str(), kind), format!("this {what}"))
}
