//! Health checks against the recovery-time target.

use model::Span;

use super::Case;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::rto::words;

/// Warns where a hung instance is noticed only after the target has passed, and notes resources
/// with a target and no check at all.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    for (name, resource) in &case.spec.resources {
        let Some(target) = resource.rto_ms.map(Span::from_ms) else { continue };
        let Some(check) = resource.health.iter().min_by_key(|check| check.detect_ms()) else {
            found.push(
                Diagnostic::new(
                    Code::NoHealth,
                    format!(
                        "\"{name}\" has a target but no health check: a hung process is never \
                         noticed"
                    ),
                    "add `health = [{ tcp = \"127.0.0.1:…\", every_ms = 100 }]`",
                )
                .at_known(case.places.resource(name.as_str(), "rto_ms"), "a target"),
            );
            continue;
        };
        let detect = Span::from_ms(check.detect_ms());
        if detect < target {
            continue;
        }
        found.push(
            Diagnostic::new(
                Code::HealthTooSlow,
                format!(
                    "a hung \"{name}\" is noticed after {} ms × {} + {} ms = {}, and its \
                     target is {}",
                    check.every_ms,
                    check.failures,
                    check.timeout_ms,
                    words(detect),
                    words(target)
                ),
                "check more often, or with fewer failures in a row",
            )
            .at_known(case.places.resource(name.as_str(), "health"), "too slow"),
        );
    }
}
