//! What can go wrong with a specification that is right: each rule is a file, speaks in words and
//! says what to do. Most are warnings; a target that the timers can't meet is an error.

mod addresses;
mod domains;
mod health;
mod links;
mod measured;
mod placement;
mod profile;
mod quorum;
mod target;

use model::{ClusterSpec, Profile};

use crate::diagnostic::Diagnostic;
use crate::measurement::{Measurement, problems};
use crate::rto::Allowance;
use crate::sink::Places;

/// What a rule looks at.
pub(crate) struct Case<'a> {
    pub(crate) spec: &'a ClusterSpec,
    pub(crate) places: &'a Places,
    /// The machines, where they were measured.
    pub(crate) measured: Option<&'a Measurement>,
}

impl Case<'_> {
    /// What a budget under that profile allows for.
    pub(crate) fn allowance(&self, profile: Profile) -> Allowance {
        self.measured.map_or_else(|| Allowance::of(profile), |m| m.allowance(profile))
    }

    /// Whether the machines bear that profile, as far as it is known.
    pub(crate) fn bears(&self, profile: Profile) -> bool {
        let voters = self.spec.voters().count();
        self.measured.is_none_or(|measured| problems(profile, measured, voters).is_empty())
    }
}

type Rule = fn(&Case<'_>, &mut Vec<Diagnostic>);

const RULES: [Rule; 8] = [
    quorum::check,
    domains::check,
    links::check,
    placement::check,
    addresses::check,
    health::check,
    target::check,
    profile::check,
];

/// The risks of a specification, with the allowances of its profile.
#[must_use]
pub fn check(spec: &ClusterSpec, places: &Places) -> Vec<Diagnostic> {
    let case = Case { spec, places, measured: None };
    let mut found = Vec::new();
    for rule in RULES {
        rule(&case, &mut found);
    }
    found
}

/// What a measurement adds: whether the profile and the targets hold on these machines.
#[must_use]
pub fn check_measured(
    spec: &ClusterSpec,
    places: &Places,
    measurement: &Measurement,
) -> Vec<Diagnostic> {
    let case = Case { spec, places, measured: Some(measurement) };
    let mut found = Vec::new();
    target::check(&case, &mut found);
    measured::check(&case, measurement, &mut found);
    crate::diagnostic::sort(&mut found);
    found
}

/// Names for a message: `"a", "b"`, cut where there are many.
pub(crate) fn list<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    const SHOWN_MAX: usize = 8;
    let names: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    if names.len() <= SHOWN_MAX {
        return names.join(", ");
    }
    format!("{} and {} more", names[..SHOWN_MAX].join(", "), names.len() - SHOWN_MAX)
}
