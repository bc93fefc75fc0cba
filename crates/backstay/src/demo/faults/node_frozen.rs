//! Agent, launcher, guard and service of the active node stand still for longer than the lease,
//! the service with an order in hand. When they wake, the order must be refused.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use model::Span;
use rustix::process::Signal;

use super::signal_service;
use crate::demo::error::{DemoError, system};
use crate::demo::judge::Freeze;
use crate::demo::stage::{Act, Scene, Stage};
use crate::demo::wait;
use crate::orders::records::now;
use crate::orders::wire::OrderRequest;

/// How long the server works on the order in hand: long enough that it is in hand when the
/// freeze comes, on a busy machine too.
const WORK: Span = Span::from_ms(1_000);
/// From the order's sending to the freeze.
const HEAD_START: Duration = Duration::from_millis(100);
/// Leases slept through after the freeze.
const LEASES: u64 = 3;
/// Longest wait for the refusal after the waking, and for the answer about the order in hand.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);

pub(super) fn play(stage: &mut Stage, scene: &Scene) -> Result<Act, DemoError> {
    let mut in_hand = hand_over(stage.premises.orders(scene.active))?;
    wait::pass(HEAD_START)?;
    let fault = now();
    stage.cluster.signal_parts(scene.active, Signal::STOP);
    if !signal_service(stage, scene.active, Signal::STOP)? {
        return Err(DemoError::Answer("the active order server"));
    }
    let successor = stage.service.until_succeeded(scene.holder.epoch);
    let slept = successor.and_then(|_| {
        let end = fault + (stage.lease * LEASES).max(WORK * 2);
        wait::pass(Duration::from_nanos(end.since(now()).0))
    });
    // The service wakes first: it must be refused by the store, not only be killed in time.
    let (healing, woken) = (now(), now());
    signal_service(stage, scene.active, Signal::CONT)?;
    let refused = match slept {
        Ok(()) => stage.service.until_refused(woken, REFUSAL_WAIT),
        Err(error) => Err(error),
    };
    stage.cluster.signal_parts(scene.active, Signal::CONT);
    let answer = answer(&mut in_hand);
    let note = match refused? {
        true => {
            format!("woken with an order in hand: the store refused it, the server said {answer:?}")
        }
        false => format!("woken with an order in hand: NOT refused, the server said {answer:?}"),
    };
    let instance = scene.holder.instance.clone();
    let freeze = Some(Freeze { instance, from: fault, to: now() });
    Ok(Act { fault, healing, freeze, note: Some(note) })
}

/// Sends an order that the server works on for a while.
fn hand_over(server: SocketAddr) -> Result<BufReader<TcpStream>, DemoError> {
    let order = format!("in-hand-{:x}", now().0);
    let request = OrderRequest::Order { order, attempt: now().0, work_ms: WORK.as_ms() };
    let send = || {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(REFUSAL_WAIT))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        Ok(BufReader::new(stream))
    };
    send().map_err(system("send the order that is in hand during the freeze"))
}

/// What the server said about it; it may be killed before it says anything.
fn answer(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) | Err(_) => "nothing".to_owned(),
        Ok(_) => line.split(' ').next().unwrap_or_default().trim_end().to_owned(),
    }
}
