//! The profile, where none is named.

use super::Case;
use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Warns where the text names no profile. A specification without a text has always one.
pub(super) fn check(case: &Case<'_>, found: &mut Vec<Diagnostic>) {
    if !case.places.says("cluster.name") || case.places.says("cluster.profile") {
        return;
    }
    let profile = case.spec.profile;
    let lease = crate::rto::words(profile.timers().lease);
    found.push(
        Diagnostic::new(
            Code::ProfileNotNamed,
            format!(
                "no profile is named, so \"{profile}\" applies: a lost node is waited for {lease}"
            ),
            format!(
                "say `profile = \"{profile}\"` if that is meant; `backstay init` measures the \
                 machines and names the one that fits"
            ),
        )
        .at_known(case.places.first(&["cluster.name"]), "this cluster"),
    );
}
