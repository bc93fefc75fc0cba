//! The profile against the measured machines.

use model::Profile;

use super::Case;
use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::lapse;
use crate::measurement::{LAPSES_PER_YEAR_NOTED, Measurement, pick_profile, problems};

/// Refuses a profile that the measurement breaks, and tells the rate of lapses where it is worth
/// telling.
pub(super) fn check(case: &Case<'_>, measurement: &Measurement, found: &mut Vec<Diagnostic>) {
    let profile = case.spec.profile;
    let voters = case.spec.voters().count();
    let place = case.places.first(&["cluster.profile", "cluster.name"]);
    let broken = problems(profile, measurement, voters);
    if !broken.is_empty() {
        let (fits, _) = pick_profile(measurement, voters);
        let help = if problems(fits, measurement, voters).is_empty() {
            format!("use profile \"{fits}\", which fits, or mend the machines and measure again")
        } else {
            "no profile fits these machines: mend them and measure again".to_string()
        };
        found.push(
            Diagnostic::new(
                Code::ProfileRefused,
                format!("the measured machines break profile \"{profile}\"\n{}", broken.join("\n")),
                help,
            )
            .at_known(place, "does not fit"),
        );
        return;
    }
    if let Some(gap) = measurement.gap().filter(|_| profile < Profile::Cloud) {
        found.push(
            Diagnostic::new(
                Code::NotMeasured,
                format!("profile \"{profile}\" was not measured to the end: {gap}"),
                "run `backstay measure --answer` on the others and measure again, or take \
                 \"cloud\"",
            )
            .at_known(place, "this profile"),
        );
    }
    if let Some(lapses) = lapse::expect(profile, measurement, voters)
        && lapses.per_year() > LAPSES_PER_YEAR_NOTED
    {
        found.push(
            Diagnostic::new(
                Code::LeaseLapse,
                lapses.to_string(),
                "add a link, find the loss, or use a slower profile",
            )
            .at_known(place, "this profile"),
        );
    }
}
