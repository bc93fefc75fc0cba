//! Addresses, each case in a network namespace of its own: `bs0` is the interface of the node,
//! `bs1` the other end of its cable, where a test listens and plays another host.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

use drivers::address::PacketKind;
use drivers::contract::{Ability, Bench, Habit, Subject, epoch, name, process_resource};
use drivers::guard::Statement;
use drivers::protocol::{Event, Phase, Refusal, Role, Why};
use drivers::sys;
use libtest_mimic::Failed;
use model::spec::{ProcessSpec, Promote, ResourceKind};
use model::{AddressSpec, Moment, ResourceSpec};
use rustix::process::Signal;

use crate::bench;
use crate::faults::{check, until};
use crate::subject::program;

type Test = Box<dyn FnOnce() -> Result<(), Failed> + Send>;
type Run = fn(&mut Bench, &Addresses) -> Result<(), String>;

macro_rules! table {
    ($($case:ident),* $(,)?) => {
        fn own() -> Vec<(&'static str, Run)> {
            vec![$((stringify!($case), $case as Run)),*]
        }
    };
}

table! {
    an_address_is_announced_again_and_again_and_at_once_after_a_conflict,
    an_address_goes_with_the_lease_although_its_keeper_is_frozen,
    an_address_goes_with_a_lost_guard,
    an_address_goes_with_a_lost_launcher,
    an_address_goes_with_a_stopped_launcher,
    the_next_launcher_takes_down_what_the_last_one_left,
    an_address_that_is_removed_is_a_failure,
    a_lost_carrier_is_a_failure,
    an_address_that_is_there_already_is_refused,
    an_address_of_no_network_here_is_refused,
    an_address_looks_while_what_it_goes_with_is_promoted,
    without_a_lease_no_address_comes_up,
}

/// Versions of IP.
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// Every case, where this machine lets us.
pub(crate) fn all(cgroups: bool) -> Vec<(String, Test)> {
    if let Err(why) = may_have_namespaces() {
        eprintln!("no network namespaces here: the tests of addresses are left out: {why}");
        return Vec::new();
    }
    let subject = Addresses::new("ipv4", cgroups);
    let suite = drivers::contract::cases(&subject).into_iter().map(|case| case.name);
    let names: Vec<&str> = suite.chain(own().into_iter().map(|(name, _)| name)).collect();
    let of = |family: &'static str, name: &str| {
        let case = name.to_owned();
        let mode = if cgroups { "cgroups" } else { "process-groups" };
        let run: Test = Box::new(move || Ok(in_namespace(&format!("{family}/{mode}"), &case)?));
        (format!("addresses::{family}::{name}"), run)
    };
    FAMILIES.iter().flat_map(|family| names.iter().map(|name| of(family, name))).collect()
}

fn may_have_namespaces() -> Result<(), String> {
    let output = Command::new("unshare").args(["--net", "ip", "link", "show", "lo"]).output();
    done(output.map_err(|e| e.to_string())?).map(drop)
}

fn done(output: Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}

fn ip(words: &str) -> Result<String, String> {
    let output = Command::new("ip").args(words.split(' ')).output();
    done(output.map_err(|e| e.to_string())?).map_err(|error| format!("ip {words}: {error}"))
}

fn in_namespace(mode: &str, case: &str) -> Result<(), String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(exe)
        .args(["in-namespace", mode, case])
        .output()
        .map_err(|e| e.to_string())?;
    done(output).map(drop)
}

/// The child's side of a test.
pub(crate) fn run_in_namespace(mode: &str, case: &str) -> ExitCode {
    let (family, mode) = mode.split_once('/').expect("family/mode");
    let subject = Addresses::new(if family == "ipv4" { "ipv4" } else { "ipv6" }, mode == "cgroups");
    let run = || {
        subject.set_up()?;
        let (_place, mut bench) = bench::start(subject.cgroups, &[], &[])?;
        let suite = drivers::contract::cases(&subject);
        match own().into_iter().find(|(name, _)| *name == case) {
            Some((_, run)) => run(&mut bench, &subject),
            None => {
                let found = suite.into_iter().find(|c| c.name == case).ok_or("no such case")?;
                (found.run)(&mut bench, &subject)
            }
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The driver `address` under test.
struct Addresses {
    ip: IpAddr,
    prefix: u8,
    cgroups: bool,
    /// The other host, where a case has one.
    other: OnceCell<OtherHost>,
}

impl Addresses {
    fn new(family: &str, cgroups: bool) -> Addresses {
        let (ip, prefix) = if family == "ipv4" { ("10.77.0.100", 24) } else { ("fd77::100", 64) };
        let ip = ip.parse().expect("an address");
        Addresses { ip, prefix, cgroups, other: OnceCell::new() }
    }

    /// The namespace's interfaces. The kernel must not answer at the far end for the near one.
    fn set_up(&self) -> Result<(), String> {
        ip("link set lo up")?;
        ip("link add bs0 address 02:00:00:00:00:01 type veth peer name bs1")?;
        let far = "/proc/sys/net/ipv6/conf/bs1/disable_ipv6";
        std::fs::write(far, "1").map_err(|e| e.to_string())?;
        ip("link set bs1 arp off up")?;
        ip("link set bs0 up")?;
        ip("address add 10.77.0.1/24 dev bs0")?;
        ip("address add fd77::1/64 dev bs0 nodad").map(drop)
    }

    fn spec(&self) -> ResourceSpec {
        let kind = AddressSpec { ip: self.ip, prefix: self.prefix, interface: None };
        let kind = ResourceKind::Address(kind);
        ResourceSpec { kind, ..process_resource(ProcessSpec::default()) }
    }

    /// Whether the address is on an interface of this node.
    fn is_up(&self) -> bool {
        // Nothing else can be bound to.
        std::net::UdpSocket::bind((self.ip, 0)).is_ok()
    }

    fn bring_up(&self, bench: &mut Bench) -> Result<u32, String> {
        bench.specify("x", self.spec())?;
        let keeper = bench.run("x", Role::Standby, 1)?;
        check(!self.is_up(), "a standby holds nothing")?;
        bench.ask_promote("x", 2)?;
        bench.expect("active", |e| matches!(e, Event::Active { .. }))?;
        check(self.is_up(), "what is active is up")?;
        Ok(keeper)
    }

    fn wait_until_down(&self) -> Result<Moment, String> {
        until("the end of the address", || (!self.is_up()).then(sys::now))
    }

    fn other(&self) -> Result<&OtherHost, String> {
        if self.other.get().is_none() {
            let other = OtherHost::new(self.ip)?;
            drop(self.other.set(other));
        }
        self.other.get().ok_or_else(|| "no other host".to_owned())
    }
}

impl Subject for Addresses {
    fn resource(&self, habit: &Habit) -> ResourceSpec {
        if *habit == Habit::FailsToPromote {
            let other = OtherHost::new(self.ip).expect("another host");
            std::thread::spawn(move || other.answer_everything());
        }
        self.spec()
    }

    fn has(&self, ability: Ability) -> bool {
        ability != Ability::Program
    }

    fn last_act(&self, _ticks: &Path) -> Option<Moment> {
        self.is_up().then(sys::now)
    }

    fn refusal(&self) -> &str {
        "is in use by the host with the hardware address 02:00:00:00:00:02"
    }
}

/// Another host on the far end of the cable, made of frames.
struct OtherHost {
    socket: OwnedFd,
    ip: IpAddr,
}

impl OtherHost {
    fn new(ip: IpAddr) -> Result<OtherHost, String> {
        // The namespace's own /sys is not mounted: `ip` asks the kernel.
        let line = self::ip("-o link show bs1")?;
        let index = line.split(':').next().and_then(|n| n.parse().ok()).ok_or("no index")?;
        let kind = if ip.is_ipv4() { PacketKind::Arp } else { PacketKind::Neighbours };
        let socket = sys::packet_socket(index, kind).map_err(|e| e.to_string())?;
        Ok(OtherHost { socket, ip })
    }

    /// Claims the address.
    fn claim(&self) -> Result<(), String> {
        let own = [2, 0, 0, 0, 0, 2];
        let frame = match self.ip {
            IpAddr::V4(ip) => {
                let mut frame = vec![0xff; 6];
                frame.extend(own);
                frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
                frame.extend(own);
                frame.extend(ip.octets());
                frame.extend([0xff; 6]);
                frame.extend(ip.octets());
                frame
            }
            IpAddr::V6(ip) => {
                let mut frame = vec![0x33, 0x33, 0, 0, 0, 1];
                frame.extend(own);
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]);
                frame.extend(ip.octets());
                frame.extend(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets());
                // Nobody but a kernel checks the sum, and none receives this.
                frame.extend([136, 0, 0, 0, 0x20, 0, 0, 0]);
                frame.extend(ip.octets());
                frame
            }
        };
        let sent = rustix::net::send(&self.socket, &frame, rustix::net::SendFlags::empty());
        sent.map(drop).map_err(|e| e.to_string())
    }

    /// The next frame about the address that the node sent: whether it is a probe.
    fn next_frame(&self) -> Option<bool> {
        let mut buffer = [0u8; 128];
        let (len, _) =
            rustix::net::recv(&self.socket, &mut buffer[..], rustix::net::RecvFlags::empty())
                .ok()?;
        let frame = &buffer[..len];
        if frame.get(6..12) != Some(&[2, 0, 0, 0, 0, 1]) {
            return None;
        }
        match self.ip {
            IpAddr::V4(ip) if frame.get(38..42) == Some(&ip.octets()) => {
                Some(frame[28..32] == [0; 4])
            }
            IpAddr::V6(ip) if frame.get(62..78) == Some(&ip.octets()) => Some(frame[54] == 135),
            _ => None,
        }
    }

    /// Waits for an announcement.
    fn wait_for_announcement(&self) -> Result<Moment, String> {
        until("an announcement", || (self.next_frame() == Some(false)).then(sys::now))
    }

    /// Answers every probe, until its process ends.
    fn answer_everything(&self) {
        loop {
            if self.next_frame() == Some(true) {
                self.claim().expect("a frame");
            }
            std::thread::park_timeout(std::time::Duration::from_micros(100));
        }
    }
}

fn an_address_is_announced_again_and_again_and_at_once_after_a_conflict(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    let other = subject.other()?;
    subject.bring_up(bench)?;
    for _ in 0..8 {
        other.wait_for_announcement()?;
    }
    // From here on one comes every second; a conflict does not wait for it.
    let calm = other.wait_for_announcement()?;
    other.claim()?;
    let again = other.wait_for_announcement()?;
    check(subject.is_up(), "a conflict takes nothing away")?;
    let claimed = until("the conflict in the log", || {
        let log = std::fs::read_to_string(bench.file("log").join("x.log")).ok()?;
        log.contains("is claimed by 02:00:00:00:00:02 too").then_some(())
    });
    claimed.map_err(|e| format!("{e}, announced again after {} ms", again.since(calm).as_ms()))
}

fn an_address_goes_with_the_lease_although_its_keeper_is_frozen(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    let keeper = subject.bring_up(bench)?;
    Bench::signal(keeper, Signal::STOP)?;
    let end = bench.drop_lease().ok_or("there was a lease")?;
    let down = subject.wait_until_down()?;
    check(down <= end, &format!("down {} ms after the lease", down.since(end).as_ms()))?;
    bench.expect("the guard's word", |e| matches!(e, Event::Burnt { empty: true, .. }))?;
    let text = std::fs::read_to_string(bench.run_dir.statements()).map_err(|e| e.to_string())?;
    let stated = text.lines().filter_map(Statement::parse).any(|s| {
        s.resource == "x" && s.epoch == epoch(2) && s.empty && s.seen_by.ends_with("+netlink")
    });
    check(stated, &format!("the guard states that the address is gone: {text}"))
}

fn an_address_goes_with_a_lost_guard(bench: &mut Bench, subject: &Addresses) -> Result<(), String> {
    subject.bring_up(bench)?;
    Bench::signal(bench.guard_pid(), Signal::KILL)?;
    subject.wait_until_down()?;
    let gone = bench.expect("its end", |e| matches!(e, Event::Stopped(_)))?;
    check(matches!(gone, Event::Stopped(g) if g.why == Why::GuardLost), "for that reason")
}

fn an_address_goes_with_a_lost_launcher(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    let keeper = subject.bring_up(bench)?;
    // It could not even see that its launcher is gone.
    Bench::signal(keeper, Signal::STOP)?;
    Bench::signal(bench.launcher_pid(), Signal::KILL)?;
    subject.wait_until_down().map(drop)
}

fn an_address_goes_with_a_stopped_launcher(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    subject.bring_up(bench)?;
    Bench::signal(bench.launcher_pid(), Signal::STOP)?;
    let end = bench.drop_lease().ok_or("there was a lease")?;
    let down = subject.wait_until_down()?;
    check(down <= end, "before the lease's end")?;
    Bench::signal(bench.launcher_pid(), Signal::CONT)?;
    bench.settle()?;
    check(!subject.is_up(), "nothing brings it back")
}

fn the_next_launcher_takes_down_what_the_last_one_left(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    let keeper = subject.bring_up(bench)?;
    // Nobody is left who could take it down.
    for pid in [bench.guard_pid(), keeper, bench.launcher_pid()] {
        Bench::signal(pid, Signal::STOP)?;
    }
    for pid in [bench.guard_pid(), keeper, bench.launcher_pid()] {
        Bench::signal(pid, Signal::KILL)?;
    }
    check(subject.is_up(), "it was left behind")?;
    for child in [bench.launcher.take(), bench.guard.take()].into_iter().flatten() {
        drop({ child }.wait());
    }
    bench.start_launcher()?;
    check(!subject.is_up(), "a launcher that serves has taken it down")
}

fn an_address_that_is_removed_is_a_failure(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    subject.bring_up(bench)?;
    ip(&format!("address del {}/{} dev bs0", subject.ip, subject.prefix))?;
    match bench.expect("its end", |e| matches!(e, Event::Exited(_)))? {
        Event::Exited(gone) => check(gone.output_tail.contains("was removed"), &gone.output_tail),
        other => Err(format!("{other:?}")),
    }
}

fn a_lost_carrier_is_a_failure(bench: &mut Bench, subject: &Addresses) -> Result<(), String> {
    subject.bring_up(bench)?;
    ip("link set bs1 down")?;
    match bench.expect("its end", |e| matches!(e, Event::Exited(_)))? {
        Event::Exited(gone) => check(gone.output_tail.contains("no carrier"), &gone.output_tail)?,
        other => return Err(format!("{other:?}")),
    }
    check(!subject.is_up(), "and the address is gone")
}

fn an_address_that_is_there_already_is_refused(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    let options = if subject.ip.is_ipv6() { " nodad" } else { "" };
    ip(&format!("address add {}/{} dev bs0{options}", subject.ip, subject.prefix))?;
    bench.specify("x", subject.spec())?;
    bench.ask_start("x", Role::Active, 1)?;
    let why = bench.expect("a refusal", |e| matches!(e, Event::Refused { .. }))?;
    let said = |why: &Refusal| why.to_string().contains("and not by Backstay");
    check(matches!(&why, Event::Refused { why, .. } if said(why)), &format!("{why:?}"))?;
    check(subject.is_up(), "what is not ours is left alone")
}

fn an_address_of_no_network_here_is_refused(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    let far = if subject.ip.is_ipv4() { "192.0.2.7" } else { "2001:db8::7" };
    let address = |interface: Option<&str>| AddressSpec {
        ip: far.parse().expect("an address"),
        prefix: subject.prefix,
        interface: interface.map(str::to_owned),
    };
    for (interface, words) in [(None, "in the network of"), (Some("eth9"), "no interface")] {
        let kind = ResourceKind::Address(address(interface));
        bench.specify("x", ResourceSpec { kind, ..subject.spec() })?;
        bench.ask_start("x", Role::Standby, 1)?;
        let why = bench.expect("a refusal", |e| matches!(e, Event::Refused { .. }))?;
        let said = |why: &Refusal| why.to_string().contains(words);
        check(matches!(&why, Event::Refused { why, .. } if said(why)), &format!("{why:?}"))?;
    }
    let kind = ResourceKind::Address(address(Some("bs0")));
    bench.specify("x", ResourceSpec { kind, ..subject.spec() })?;
    bench.run("x", Role::Active, 2)?;
    check(std::net::UdpSocket::bind((far, 0)).is_ok(), "on the interface that was named")
}

fn an_address_looks_while_what_it_goes_with_is_promoted(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    let other = subject.other()?;
    let service = ProcessSpec { promote: Promote::Socket, ..program(&["--talk", "yes"]) };
    bench.specify("m", process_resource(service))?;
    bench.specify("x", ResourceSpec { with: Some(name("m")), ..subject.spec() })?;
    bench.run("m", Role::Standby, 1)?;
    bench.run("x", Role::Standby, 1)?;
    bench.ask_promote("m", 2)?;
    until("a probe ahead of the order", || (other.next_frame() == Some(true)).then_some(()))?;
    let of = |resource: &str| {
        let resource = name(resource);
        move |e: &Event| matches!(e, Event::Active { resource: r, .. } if *r == resource)
    };
    bench.expect("the service", of("m"))?;
    check(!subject.is_up(), "a look is no promotion")?;
    // What is claimed after the look is looked for again.
    while other.next_frame().is_some() {}
    other.claim()?;
    bench.ask_promote("x", 3)?;
    until("another probe", || (other.next_frame() == Some(true)).then_some(()))?;
    bench.expect("the address", of("x"))?;
    check(subject.is_up(), "nobody has it any more")
}

fn without_a_lease_no_address_comes_up(
    bench: &mut Bench,
    subject: &Addresses,
) -> Result<(), String> {
    bench.specify("x", subject.spec())?;
    bench.run("x", Role::Standby, 1)?;
    let end = bench.drop_lease().ok_or("there was a lease")?;
    until("the end of the lease", || (sys::now() > end).then_some(()))?;
    bench.ask_promote("x", 2)?;
    let no = |e: &Event| matches!(e, Event::Refused { why: Refusal::NoLease, .. });
    bench.expect("a refusal", no)?;
    let events = bench.settle()?;
    let standby = events.iter().any(|e| {
        matches!(e, Event::Instances { running, .. }
            if running.iter().any(|i| i.resource == name("x") && i.phase == Phase::Standby))
    });
    check(standby && !subject.is_up(), "it stays a standby")
}
