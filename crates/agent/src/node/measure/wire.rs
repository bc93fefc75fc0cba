//! The datagrams of a measurement. They are clear text, since there is no cluster and no key yet:
//! nothing but the choice of a profile rests on them, and nothing is answered with more bytes
//! than were asked with.

use config::measurement::NodeMeasurement;

/// A datagram that is sent back as it came.
const ECHO: [u8; 8] = *b"bsmeas01";
/// Asks for the figures of the machine.
const ASK: [u8; 8] = *b"bsmeas02";
/// Begins them.
const FIGURES: [u8; 8] = *b"bsmeas03";
/// Magic and number.
pub(super) const ECHO_BYTES: usize = 16;
/// A question, and the most that answers it.
pub(super) const ASK_BYTES: usize = 512;
/// Room for any of them, and one more to see what is too large.
pub(super) const BUFFER_BYTES: usize = ASK_BYTES + 1;

/// What a datagram asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// To come back as it is.
    Echo,
    /// The figures of the machine.
    Figures,
}

pub(super) fn echo(number: u64) -> [u8; ECHO_BYTES] {
    let mut datagram = [0; ECHO_BYTES];
    datagram[..ECHO.len()].copy_from_slice(&ECHO);
    datagram[ECHO.len()..].copy_from_slice(&number.to_be_bytes());
    datagram
}

/// The number of an echo that came back.
pub(super) fn echoed(datagram: &[u8]) -> Option<u64> {
    let number = datagram.strip_prefix(&ECHO)?;
    number.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn ask() -> [u8; ASK_BYTES] {
    let mut datagram = [0; ASK_BYTES];
    datagram[..ASK.len()].copy_from_slice(&ASK);
    datagram
}

/// What is asked for; none where it is nothing of ours.
pub(super) fn asked(datagram: &[u8]) -> Option<Asked> {
    match datagram.len() {
        ECHO_BYTES if datagram.starts_with(&ECHO) => Some(Asked::Echo),
        ASK_BYTES if datagram.starts_with(&ASK) => Some(Asked::Figures),
        _ => None,
    }
}

/// The answer to a question for figures; none where they are too long for one.
pub(super) fn figures(of: &NodeMeasurement) -> Option<Vec<u8>> {
    let plain = postcard::to_allocvec(of).ok()?;
    let datagram = [&FIGURES, plain.as_slice()].concat();
    (datagram.len() <= ASK_BYTES).then_some(datagram)
}

/// Figures out of their datagram; none where they are no figures that a machine can have.
pub(super) fn figured(datagram: &[u8]) -> Option<NodeMeasurement> {
    let plain = datagram.strip_prefix(&FIGURES)?;
    let found: NodeMeasurement = postcard::from_bytes(plain).ok()?;
    let numbers = [found.stall_max_ms, found.fsync_p99_ms, found.fsync_max_ms];
    numbers.iter().all(|ms| ms.is_finite() && *ms >= 0.0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> NodeMeasurement {
        NodeMeasurement {
            name: "b".to_string(),
            stall_max_ms: 1.5,
            fsync_p99_ms: 2.0,
            fsync_max_ms: 9.0,
            realtime: true,
        }
    }

    #[test]
    fn datagrams_are_read_back_and_nothing_else_is() {
        assert_eq!(asked(&echo(7)), Some(Asked::Echo));
        assert_eq!(echoed(&echo(7)), Some(7));
        assert_eq!(asked(&ask()), Some(Asked::Figures));
        let datagram = figures(&some()).expect("they are short");
        assert_eq!(figured(&datagram), Some(some()));
        for wrong in [&b""[..], b"bsmeas01", b"something else!!", &ask()[..100], &datagram] {
            assert_eq!(asked(wrong), None, "{wrong:?}");
        }
        assert_eq!(echoed(&ask()), None);
        for end in 0..datagram.len() {
            assert_eq!(figured(&datagram[..end]), None, "cut at {end}");
        }
        let nonsense = NodeMeasurement { stall_max_ms: f64::NAN, ..some() };
        assert_eq!(figures(&nonsense).and_then(|datagram| figured(&datagram)), None);
        let long = NodeMeasurement { name: "x".repeat(ASK_BYTES), ..some() };
        assert_eq!(figures(&long), None);
    }
}
