//! How often leases would lapse with nothing wrong but lost datagrams.
//!
//! Heartbeats go out every `h` on all links at once, and so do acknowledgements, each naming the
//! newest heartbeat received. A lease that was renewed by a heartbeat sent at 0 must be renewed
//! by another sent and acknowledged before `L − k`, the last round trip included. So of the
//! `n = (L − k − round trip) / h` slots, some heartbeat must arrive in one and an acknowledgement
//! in the same or a later one. With `p` the chance that a slot is lost on all links at once
//! (losses taken as independent), no such pair exists where all heartbeats are lost (`pⁿ`), or
//! where the first arrives in slot `a` and all acknowledgements from there on are lost
//! (`pᵃ⁻¹ · (1 − p) · pⁿ⁻ᵃ⁺¹`, summed over `a`): together `pⁿ · (1 + n · (1 − p))`.

use std::fmt;

use model::{Profile, Span};
use serde::Serialize;

use crate::measurement::Measurement;
use crate::rto::words;

const YEAR_S: f64 = 365.25 * 86_400.0;

/// Slots in a window: how many heartbeats may be lost in a row, and one more.
#[must_use]
pub fn slots(window: Span, round_trip: Span, heartbeat: Span) -> u64 {
    (window - round_trip).0 / heartbeat.0.max(1)
}

/// The chance that a slot is lost on all links at once. Without a link everything is lost.
#[must_use]
pub fn slot_loss(loss_by_link: &[f64]) -> f64 {
    loss_by_link.iter().map(|loss| loss.clamp(0.0, 1.0)).product()
}

/// The chance that a window of `n` slots has no heartbeat with an acknowledgement after it.
#[must_use]
pub fn window_chance(slot_loss: f64, n: u64) -> f64 {
    let n = n as f64;
    (slot_loss.powf(n) * (1.0 + n * (1.0 - slot_loss))).clamp(0.0, 1.0)
}

/// The chance that a lease lapses in one window with nothing wrong.
#[must_use]
pub fn lease_chance(
    heartbeat: Span,
    lease: Span,
    stopping: Span,
    round_trip: Span,
    loss_by_link: &[f64],
) -> f64 {
    let n = slots(lease - stopping, round_trip, heartbeat);
    window_chance(slot_loss(loss_by_link), n)
}

/// The chance that fewer than `needed` of `others` windows succeed, each failing with `chance`.
fn too_few(chance: f64, others: usize, needed: usize) -> f64 {
    let choose = |n: usize, k: usize| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
    (0..needed.min(others + 1))
        .map(|good| {
            let bad = others - good;
            choose(others, good) * (1.0 - chance).powi(good as i32) * chance.powi(bad as i32)
        })
        .sum::<f64>()
        .clamp(0.0, 1.0)
}

/// How often windows of this chance fail in so many seconds. A window begins with every heartbeat;
/// a run of losses is counted where it begins, with a slot that was not lost.
#[must_use]
pub fn lapses_within(seconds: f64, heartbeat: Span, chance: f64, slot_loss: f64) -> f64 {
    seconds * 1e9 / heartbeat.0 as f64 * chance * (1.0 - slot_loss).max(1e-3)
}

/// Lapses to be expected of a profile on measured machines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lapses {
    /// Chance that a heartbeat is lost on all links at once.
    pub slot_loss: f64,
    /// Heartbeats in a window of `L − k`, its last round trip taken off.
    pub lease_slots: u64,
    /// Chance that one node's lease lapses in a window of `L − k`.
    pub lease_chance: f64,
    /// How often a year that happens to one node.
    pub leases_per_year: f64,
    /// Chance that the coordinator's authority lapses in a window of `P`.
    pub authority_chance: f64,
    /// How often a year that happens.
    pub authorities_per_year: f64,
}

impl Lapses {
    /// The more frequent of the two.
    #[must_use]
    pub fn per_year(&self) -> f64 {
        self.leases_per_year.max(self.authorities_per_year)
    }
}

/// What to expect of a profile with the measured losses; none where no link was measured.
#[must_use]
pub fn expect(profile: Profile, measured: &Measurement, voters: usize) -> Option<Lapses> {
    let timers = profile.timers();
    let losses = measured.loss_by_link();
    if losses.is_empty() {
        return None;
    }
    let (round_trip, loss) = (measured.allowance(profile).round_trip, slot_loss(&losses));
    let lease_slots = slots(timers.lease - timers.stopping, round_trip, timers.heartbeat);
    let lease_chance = window_chance(loss, lease_slots);
    let voter_chance = window_chance(loss, slots(timers.promise, round_trip, timers.heartbeat));
    let others = voters.saturating_sub(1);
    let authority_chance = too_few(voter_chance, others, voters / 2);
    let rate = |chance: f64| lapses_within(YEAR_S, timers.heartbeat, chance, loss);
    Some(Lapses {
        slot_loss: loss,
        lease_slots,
        lease_chance,
        leases_per_year: rate(lease_chance),
        authority_chance,
        authorities_per_year: rate(authority_chance),
    })
}

/// The sum behind [`expect`] for an operator, a line each: what is lost, how many slots a lease
/// has, and what follows.
#[must_use]
pub fn render(profile: Profile, measured: &Measurement, voters: usize) -> String {
    let Some(lapses) = expect(profile, measured, voters) else {
        return format!(
            "how often a lease of profile \"{profile}\" would lapse with nothing wrong is not \
             known: no link was measured\n"
        );
    };
    let timers = profile.timers();
    let round_trip = measured.allowance(profile).round_trip;
    let percent = |share: &f64| format!("{:.2} %", share * 100.0);
    let links: Vec<String> = measured.loss_by_link().iter().map(percent).collect();
    let slots = format!(
        "({} - {} - {}) / {} = {}",
        words(timers.lease),
        words(timers.stopping),
        words(round_trip),
        words(timers.heartbeat),
        lapses.lease_slots
    );
    let row = |what: &str, value: String, formula: &str| {
        format!("  {what:<27}{value}   {formula}").trim_end().to_string() + "\n"
    };
    let small = |chance: f64| if chance == 0.0 { "0".into() } else { format!("{chance:.1e}") };
    let chance = |chance: f64, rate: f64| format!("{}, {}", small(chance), rate_words(rate));
    format!("profile \"{profile}\" with nothing wrong but the measured loss\n")
        + &row(
            "heartbeat lost, all links",
            format!("{} = {}", links.join(" x "), small(lapses.slot_loss)),
            "p",
        )
        + &row("heartbeats in a lease", slots, "n = (L - k - round trip) / h")
        + &row(
            "a lease lapses",
            chance(lapses.lease_chance, lapses.leases_per_year),
            "pⁿ (1 + n (1 - p))",
        )
        + &row(
            "the authority lapses",
            chance(lapses.authority_chance, lapses.authorities_per_year),
            "the same over P, for a quorum",
        )
}

/// A rate as people say it.
fn rate_words(per_year: f64) -> String {
    match per_year {
        rate if rate >= 8_766.0 => format!("{:.0} times an hour", rate / 8_766.0),
        rate if rate >= 365.25 => format!("{:.0} times a day", rate / 365.25),
        rate if rate >= 1.0 => format!("{rate:.0} times a year"),
        rate if rate >= 1e-3 => format!("once in {:.0} years", 1.0 / rate),
        _ => "less than once in 1000 years".to_string(),
    }
}

impl fmt::Display for Lapses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "with nothing wrong but the measured loss, a lease would lapse {} (chance {:.1e} in a \
             window) and the coordinator's authority {} ({:.1e})",
            rate_words(self.leases_per_year),
            self.lease_chance,
            rate_words(self.authorities_per_year),
            self.authority_chance
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The closed form against counting every pattern of lost and arrived slots.
    #[test]
    fn the_formula_equals_the_sum_over_all_patterns() {
        for (p, n) in [(0.3, 1_u64), (0.3, 3), (0.5, 5), (0.01, 4), (0.0, 3), (1.0, 2)] {
            let mut chance = 0.0;
            for pattern in 0_u32..1 << (2 * n) {
                let arrives = |bit: u64| pattern & (1 << bit) != 0;
                let renewed = (0..n).any(|a| arrives(a) && (a..n).any(|b| arrives(n + b)));
                if !renewed {
                    let factor = |bit| if arrives(bit) { 1.0 - p } else { p };
                    chance += (0..2 * n).map(factor).product::<f64>();
                }
            }
            let formula = window_chance(p, n);
            assert!((formula - chance).abs() < 1e-12, "p={p} n={n}: {formula} {chance}");
        }
    }

    #[test]
    fn a_second_link_squares_the_loss_and_no_link_loses_everything() {
        assert!((slot_loss(&[0.1, 0.2]) - 0.02).abs() < 1e-12);
        assert!((slot_loss(&[]) - 1.0).abs() < 1e-12);
        let (h, l, k) = (Span::from_ms(20), Span::from_ms(500), Span::from_ms(30));
        let one = lease_chance(h, l, k, Span::from_ms(2), &[0.3]);
        let two = lease_chance(h, l, k, Span::from_ms(2), &[0.3, 0.3]);
        assert!(two < one * 1e-9, "{two} {one}");
    }

    #[test]
    fn authority_needs_a_quorum_of_others() {
        assert!((too_few(0.1, 2, 1) - 0.01).abs() < 1e-12, "both of two must be lost");
        assert!((too_few(0.1, 1, 1) - 0.1).abs() < 1e-12);
        assert!(too_few(0.1, 0, 0).abs() < 1e-12, "alone it needs nobody");
    }
}
