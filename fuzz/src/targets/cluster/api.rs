//! Bodies and queries of the API, each as its handler reads it, and the answers a client reads.

use agent::api::access::Route;
use agent::api::call::{CreateToken, Elsewhere, Issued, JoinBody, Problem, RejoinBody, RenewBody};
use agent::fuzzing;
use model::Operation;

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("api", "bodies, queries and answers of the API", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let choice = input.byte() % 12;
    let bytes = input.0;
    match choice {
        0 => drop(round::json::<CreateToken>(bytes)),
        1 => drop(round::json::<JoinBody>(bytes)),
        2 => drop(round::json::<RejoinBody>(bytes)),
        3 => drop(round::json::<RenewBody>(bytes)),
        4 => drop(round::json::<Issued>(bytes)),
        5 => drop(round::json::<Problem>(bytes)),
        6 => drop(round::json::<Elsewhere>(bytes)),
        7 => drop(round::json::<Operation>(bytes)),
        8 => drop(round::json::<model::Outcome>(bytes)),
        9 => drop(round::json::<model::Refusal>(bytes)),
        10 => {
            let _is_one = fuzzing::events_query(&input.text());
        }
        _ => {
            for route in [Route::CreateToken, Route::Join, Route::Rejoin, Route::Renew] {
                let _is_one = fuzzing::body(route, bytes);
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let digits = "0123456789abcdef".repeat(4);
    let texts = [
        (0, r#"{"role":"voter","name":"c","life_ms":60000}"#.to_owned()),
        (2, format!(r#"{{"datagram_key":"{digits}"}}"#)),
        (3, r#"{"request":"-----BEGIN CERTIFICATE REQUEST-----"}"#.to_owned()),
        (5, r#"{"code":"no","message":"what","help":"do"}"#.to_owned()),
        (6, r#"{"coordinator":"a","address":"127.0.0.1:7000"}"#.to_owned()),
        (7, r#"{"switchover":{"resource":"x","to":"b"}}"#.to_owned()),
        (10, "after=1&limit=5&wait_ms=100".to_owned()),
        (1, format!(r#"{{"secret":"{digits}","name":"c","request":"x","datagram_key":null}}"#)),
        (11, format!(r#"{{"secret":"{digits}","name":"c","request":"x","datagram_key":null}}"#)),
    ];
    texts.iter().map(|(choice, text)| [&[*choice][..], text.as_bytes()].concat()).collect()
}
