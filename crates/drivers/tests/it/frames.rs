//! Garbage and oversized frames on every socket: dropped and counted, never a crash.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use drivers::contract::{Bench, Habit, Subject, name};
use drivers::protocol::{Event, FRAME_BYTES_MAX, Request, Role, encode_frame};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType, connect, send, socket};

use crate::bench;
use crate::faults::Run;
use crate::subject::Programs;

pub(crate) fn all() -> Vec<(&'static str, Run)> {
    vec![
        ("garbage_from_an_agent_ends_its_connection_and_nothing_else", from_an_agent),
        ("an_agent_of_another_version_is_told_ours_and_not_heard", of_another_version),
        ("garbage_on_the_guard_s_socket_is_dropped", on_the_guard_s_socket),
        ("garbage_from_a_program_ends_its_connection_and_nothing_else", from_a_program),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Connects, sends, and waits until the other side hangs up.
fn send_and_wait_for_the_end(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut stream = UnixStream::connect(path).map_err(text)?;
    // The other side may hang up before it has read everything.
    drop(stream.write_all(bytes));
    stream.set_read_timeout(Some(drivers::contract::WAIT)).map_err(text)?;
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(format!("not hung up: {error}")),
    }
}

fn still_serves(bench: &mut Bench, pid: u32) -> Result<(), String> {
    bench.reconnect()?;
    let events = bench.settle()?;
    let fine = events.iter().any(
        |e| matches!(e, Event::Instances { running, .. } if running.iter().any(|i| i.pid == pid)),
    );
    if fine { Ok(()) } else { Err(format!("{events:?}")) }
}

fn from_an_agent(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let ticks = bench.file("ticks");
    bench.specify("x", Programs.resource(&Habit::Plain { ticks: ticks.clone() }))?;
    let pid = bench.run("x", Role::Active, 1)?;
    let path = bench.run_dir.launcher_socket();
    let oversized = ((FRAME_BYTES_MAX + 1) as u32).to_le_bytes().to_vec();
    let nonsense = [&8u32.to_le_bytes()[..], &[0xFF; 8]].concat();
    let text_like = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    for bytes in [oversized, nonsense, text_like] {
        send_and_wait_for_the_end(&path, &bytes)?;
    }
    bench.wait_for_ticks(&ticks)?;
    still_serves(&mut bench, pid)
}

fn of_another_version(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    bench.specify("x", Programs.resource(&Habit::Plain { ticks: bench.file("ticks") }))?;
    let pid = bench.run("x", Role::Active, 1)?;
    let mut stream = UnixStream::connect(bench.run_dir.launcher_socket()).map_err(text)?;
    let stop = Request::Stop {
        resource: name("x"),
        number: drivers::contract::NUMBER,
        epoch: Some(drivers::contract::epoch(9)),
        reason: String::new(),
        at_once: false,
    };
    for request in [&stop, &Request::Hello { version: 999 }, &stop] {
        stream.write_all(&encode_frame(request).map_err(text)?).map_err(text)?;
    }
    stream.set_read_timeout(Some(drivers::contract::WAIT)).map_err(text)?;
    let mut first = [0u8; 5];
    stream.read_exact(&mut first).map_err(text)?;
    drop(stream);
    still_serves(&mut bench, pid)
}

fn on_the_guard_s_socket(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let ticks = bench.file("ticks");
    bench.specify("x", Programs.resource(&Habit::Plain { ticks: ticks.clone() }))?;
    let pid = bench.run("x", Role::Active, 1)?;
    // A guard is on duty: the stranger is sent away whatever it says.
    let guard = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).map_err(text)?;
    let path = bench.run_dir.guard_socket();
    connect(&guard, &SocketAddrUnix::new(path.as_path()).map_err(text)?).map_err(text)?;
    if let Err(error) = send(&guard, &[0xFF; 4_000], SendFlags::NOSIGNAL) {
        // Sent away before it said anything.
        assert!(matches!(error, Errno::PIPE | Errno::CONNRESET), "{error}");
    }
    drop(guard);
    still_serves(&mut bench, pid)?;
    // Without one, it is taken for a guard, and heard as garbage.
    bench.ask_stop("x", 1)?;
    bench.expect("stopped", |e| matches!(e, Event::Stopped(_)))?;
    Bench::signal(bench.guard_pid(), rustix::process::Signal::KILL)?;
    bench.guard.take().ok_or("a guard")?.wait().map_err(text)?;
    bench.expect("the loss", |e| matches!(e, Event::GuardLost))?;
    let guard = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).map_err(text)?;
    connect(&guard, &SocketAddrUnix::new(path.as_path()).map_err(text)?).map_err(text)?;
    for bytes in [&[0xFF; 4_000][..], &[0xEE; 3], &[9, 9]] {
        send(&guard, bytes, SendFlags::NOSIGNAL).map_err(text)?;
    }
    bench.ask_start("x", Role::Active, 2)?;
    bench.expect("a refusal", |e| matches!(e, Event::Refused { .. }))?;
    drop(guard);
    bench.start_guard()?;
    bench.run("x", Role::Active, 2).map(drop)
}

fn from_a_program(cgroups: bool) -> Result<(), String> {
    let (_dir, mut bench) = bench::start(cgroups, &[], &[])?;
    let ticks = bench.file("ticks");
    bench.specify("x", Programs.resource(&Habit::Plain { ticks }))?;
    let pid = bench.run("x", Role::Active, 1)?;
    let path = bench.run_dir.instance_socket(&name("x"));
    send_and_wait_for_the_end(&path, b"{\"event\":\"rule the world\"}\n")?;
    send_and_wait_for_the_end(&path, &[b'x'; 100_000])?;
    send_and_wait_for_the_end(&path, &[0xFF, 0, b'\n'])?;
    still_serves(&mut bench, pid)
}
