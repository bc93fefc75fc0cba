//! What `init` measured: the datagrams that nodes answer with, in clear, and the file.

use config::Measurement;
use config::measurement::NodeMeasurement;

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("measurement", "measurements, as datagrams and as a file", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 2 {
        0 => {
            if let Some(found) = agent::fuzzing::measured(input.0) {
                let numbers = [found.stall_max_ms, found.fsync_p99_ms, found.fsync_max_ms];
                assert!(numbers.iter().all(|ms| ms.is_finite() && *ms >= 0.0));
            }
        }
        _ => {
            let Ok(found) = Measurement::parse(&input.text()) else { return };
            let _losses = found.loss_by_link();
            let printed = found.to_toml();
            let again = Measurement::parse(&printed).expect("what was printed is read");
            assert_eq!(again.to_toml(), printed);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let node = NodeMeasurement {
        name: "b".to_owned(),
        stall_max_ms: 1.5,
        fsync_p99_ms: 2.0,
        fsync_max_ms: 9.0,
        realtime: true,
    };
    let figures = [&b"\0bsmeas03"[..], &round::encoded(&node)].concat();
    let echo = b"\0bsmeas01\0\0\0\0\0\0\0\x07".to_vec();
    vec![figures, echo]
}
