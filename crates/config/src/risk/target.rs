//! Recovery-time targets against the timers, with the sum shown.

use model::spec::ResourceSpec;
use model::{Profile, ResourceName, Span};

use super::Case;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::rto::{self, Budget, Failure, words};

/// Refuses targets that the timers alone can't meet, and warns where a limit that the operator
/// set is longer than what the target leaves.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    for (name, resource) in &case.spec.resources {
        let Some(target) = resource.rto_ms.map(Span::from_ms) else { continue };
        let mut budgets = rto::budgets(case.spec, resource, case.allowance(case.spec.profile));
        budgets.retain(|budget| budget.failure != Failure::ProcessHung);
        let broken: Vec<&Budget> = budgets.iter().filter(|b| b.total() >= target).collect();
        let place = case.places.resource(name.as_str(), "rto_ms");
        if !broken.is_empty() {
            let sums: Vec<String> = broken
                .iter()
                .map(|budget| format!("{}: {}", budget.failure.as_str(), budget.sum()))
                .collect();
            found.push(
                Diagnostic::new(
                    Code::RtoImpossible,
                    format!(
                        "profile \"{}\" can't bring \"{name}\" back within {}, however fast \
                         it starts\n{}",
                        case.spec.profile,
                        words(target),
                        sums.join("\n")
                    ),
                    advice(case, resource, target),
                )
                .at_known(place, "can't be met"),
            );
            continue;
        }
        if let Some(worst) = budgets.iter().max_by_key(|budget| budget.total()) {
            limit(case, name, resource, target, worst, found);
        }
    }
}

/// Names the profile that would meet the target.
fn advice(case: &Case<'_>, resource: &ResourceSpec, target: Span) -> String {
    let fits = |profile: Profile| {
        let spec = model::ClusterSpec { profile, ..case.spec.clone() };
        let budgets = rto::budgets(&spec, resource, case.allowance(profile));
        let mut counted = budgets.iter().filter(|b| b.failure != Failure::ProcessHung);
        counted.all(|b| b.total() < target) && case.bears(profile)
    };
    match Profile::ALL.into_iter().rev().find(|profile| fits(*profile)) {
        Some(profile) => format!(
            "profile \"{profile}\" can, if the machines bear it (`backstay init` measures them); \
             or raise `rto_ms`"
        ),
        None if case.measured.is_some() => {
            "no profile that these machines bear can; raise `rto_ms` or mend the machines".into()
        }
        None => "no profile can; raise `rto_ms`".to_string(),
    }
}

/// A limit that was set by hand and is longer than what is left.
fn limit(
    case: &Case<'_>,
    name: &ResourceName,
    resource: &ResourceSpec,
    target: Span,
    worst: &Budget,
    found: &mut Vec<Diagnostic>,
) {
    let process = resource.kind.program();
    let (key, ms) = match worst.rest {
        "promotion" => ("promote_ms", process.promote_ms),
        _ => ("start_ms", process.start_ms),
    };
    let left = target - worst.total();
    let said = case.places.says(&format!("resource.{name}.{key}"));
    if !said || Span::from_ms(ms) <= left {
        return;
    }
    found.push(
        Diagnostic::new(
            Code::RtoLimit,
            format!(
                "of the {} target, {} go to the cluster in the worst case ({}); {} are \
                 left for the {}, whose limit is {ms} ms",
                words(target),
                words(worst.total()),
                worst.failure.as_str(),
                words(left),
                worst.rest
            ),
            format!(
                "measure how long its {} takes; a limit is no promise, so it may well be longer, \
                 but then a slow one misses the target",
                worst.rest
            ),
        )
        .at_known(case.places.resource(name.as_str(), key), "longer than what is left"),
    );
}
