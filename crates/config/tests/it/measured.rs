//! Measurements and the profile that follows from them.

use config::measurement::{LinkMeasurement, NodeMeasurement, problems};
use config::{Measurement, pick_profile};
use model::Profile;

/// Two links, three quiet machines of one rack.
fn quiet() -> Measurement {
    let link = |link: usize| LinkMeasurement {
        link,
        from: "a".to_string(),
        to: "b".to_string(),
        loss_percent: 0.0,
        late_p999_ms: 0.4,
        silence_max_ms: 11.0,
    };
    let node = |name: &str| NodeMeasurement {
        name: name.to_string(),
        stall_max_ms: 2.0,
        fsync_p99_ms: 1.0,
        fsync_max_ms: 5.0,
        realtime: true,
    };
    Measurement {
        version: config::measurement::MEASUREMENT_VERSION,
        seconds: 60,
        cluster: "t".to_string(),
        unknown: Vec::new(),
        links: vec![link(0), link(1)],
        nodes: vec![node("a"), node("b"), node("c")],
    }
}

fn pick(change: impl Fn(&mut Measurement)) -> (Profile, String) {
    let mut measured = quiet();
    change(&mut measured);
    pick_profile(&measured, 3)
}

#[test]
fn each_weakness_of_the_machines_leads_to_the_profile_that_bears_it() {
    assert_eq!(pick(|_| {}).0, Profile::Fast);
    let (profile, reason) = pick(|m| m.nodes[1].realtime = false);
    assert_eq!(profile, Profile::Lan);
    assert!(reason.contains("\"b\" was not granted real-time priority"), "{reason}");
    assert_eq!(pick(|m| m.nodes[0].stall_max_ms = 20.0).0, Profile::Lan);
    assert_eq!(pick(|m| m.nodes[0].stall_max_ms = 60.0).0, Profile::Cloud);
    assert_eq!(pick(|m| m.nodes[0].stall_max_ms = 150.0).0, Profile::Wan);
    assert_eq!(pick(|m| m.nodes[2].fsync_p99_ms = 100.0).0, Profile::Cloud);
    assert_eq!(pick(|m| m.nodes[2].fsync_max_ms = 1_000.0).0, Profile::Lan);
    let slow = |m: &mut Measurement| m.links.iter_mut().for_each(|l| l.late_p999_ms = 80.0);
    assert_eq!(pick(slow).0, Profile::Cloud);
    let silent = |m: &mut Measurement| m.links.iter_mut().for_each(|l| l.silence_max_ms = 1_500.0);
    assert_eq!(pick(silent).0, Profile::Wan);
    let (profile, reason) = pick(|m| m.nodes[0].stall_max_ms = 300.0);
    assert!(profile == Profile::Wan && reason.contains("no profile fits"), "{reason}");
}

#[test]
fn one_good_link_makes_up_for_a_bad_one() {
    let bad = |m: &mut Measurement| {
        m.links[0].silence_max_ms = 5_000.0;
        m.links[0].late_p999_ms = 900.0;
        m.links[0].loss_percent = 30.0;
    };
    assert_eq!(pick(bad).0, Profile::Fast);
}

#[test]
fn thirty_percent_loss_on_one_link_breaks_the_fastest_profile() {
    let lossy = |m: &mut Measurement| {
        m.links.truncate(1);
        m.links[0].loss_percent = 30.0;
    };
    let (profile, reason) = pick(lossy);
    assert_eq!(profile, Profile::Lan, "{reason}");
    let mut measured = quiet();
    lossy(&mut measured);
    let told = problems(Profile::Fast, &measured, 3).join("\n");
    assert!(told.contains("a lease would lapse"), "{told}");
}

#[test]
fn a_measurement_survives_its_file_and_nonsense_is_refused() {
    let measured = quiet();
    assert_eq!(Measurement::parse(&measured.to_toml()), Ok(measured.clone()));
    let broken: [fn(&mut Measurement); 5] = [
        |m| m.version = 99,
        |m| m.links[0].loss_percent = f64::NAN,
        |m| m.links[0].loss_percent = 101.0,
        |m| m.nodes[0].stall_max_ms = -1.0,
        |m| m.nodes.clear(),
    ];
    for change in broken {
        let mut measured = measured.clone();
        change(&mut measured);
        assert!(Measurement::parse(&measured.to_toml()).is_err(), "{measured:?}");
    }
    assert!(Measurement::parse("colour = 1").is_err());
    let missing = Measurement::load(std::path::Path::new("no-such-file"));
    assert!(missing.is_err_and(|error| error.to_string().contains("no-such-file")));
}

#[test]
fn what_was_not_measured_keeps_the_profiles_for_own_sites_away() {
    let (profile, reason) = pick(|m| m.links.clear());
    assert_eq!(profile, Profile::Cloud);
    assert!(reason.contains("no link was measured"), "{reason}");
    let (profile, reason) = pick(|m| m.unknown.push("c".to_string()));
    assert_eq!(profile, Profile::Cloud);
    assert!(reason.contains("\"c\" did not answer"), "{reason}");
    let worse = |m: &mut Measurement| {
        m.links.clear();
        m.nodes[0].stall_max_ms = 150.0;
    };
    assert_eq!(pick(worse).0, Profile::Wan, "what was measured still counts");
    let mut measured = quiet();
    measured.links.clear();
    assert!(problems(Profile::Lan, &measured, 3).is_empty(), "nothing measured breaks it");
    assert_eq!(config::lapse::expect(Profile::Lan, &measured, 3), None);
    let told = config::lapse::render(Profile::Lan, &measured, 3);
    assert!(told.contains("not known"), "{told}");
}

#[test]
fn the_sum_of_lapses_shows_its_parts() {
    let mut measured = quiet();
    measured.links[0].loss_percent = 30.0;
    measured.links[1].loss_percent = 50.0;
    let told = config::lapse::render(Profile::Lan, &measured, 3);
    for part in ["30.00 % x 50.00 % = 1.5e-1", "(500 ms - 30 ms - 0.4 ms) / 20 ms = 23"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
}
