//! Clocks of one host that jump, stand still and run away, while those of all others don't.
//!
//! Every process reads its clocks in a page that the kernel maps into it (vDSO). There the lab
//! writes a few instructions of its own (`clock.s`), as a debugger does: it works for a static
//! binary as for any other, whoever reads the clock. What is started later has true clocks again;
//! so have timers of the kernel's, which is why an offset should not last.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use model::Moment;

use crate::cgroup::Cgroup;
use crate::shell::{Done, feed, run};

/// What takes the place of the kernel's function.
const SOURCE: &str = include_str!("clock.s");
/// Where the four numbers stand in it.
const NUMBERS: usize = 8;
/// Names of the function that is replaced.
const NAME: &[u8] = b"__vdso_clock_gettime";
/// A jump: its length in bytes, and its first one.
const JUMP: usize = 5;
/// As above.
const JUMP_CODE: u8 = 0xe9;
/// Of a table of symbols, in an ELF file.
const DYNAMIC_SYMBOLS: u32 = 11;

/// How far a host's clocks are from the true ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Skew {
    /// From this moment on the boot-time clock drifts.
    pub(crate) from: Moment,
    /// Added to the boot-time clock, in nanoseconds.
    pub(crate) offset_ns: i64,
    /// What the boot-time clock gains, in parts of a million.
    pub(crate) gain_ppm: i64,
    /// Added to the wall clock, in nanoseconds.
    pub(crate) wall_ns: i64,
}

impl Skew {
    /// The same without any drift from a moment on: what has been gained stays.
    pub(crate) fn still(self, at: Moment) -> Skew {
        let since = at.since(self.from).0.cast_signed();
        let offset_ns = self.offset_ns + since * self.gain_ppm / 1_000_000;
        Skew { offset_ns, gain_ppm: 0, ..self }
    }

    fn numbers(self) -> Vec<u8> {
        let from = self.from.0.cast_signed();
        [from, self.offset_ns, self.gain_ppm, self.wall_ns].map(i64::to_le_bytes).concat()
    }
}

/// The clocks of all processes that run on a host.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The memory of each, and where its numbers are.
    processes: Vec<(File, u64)>,
}

impl Clock {
    /// Takes hold of the clocks of a host, which must stand still meanwhile. They are true.
    pub(crate) fn take(power: &Cgroup) -> Done<Clock> {
        if !cfg!(target_arch = "x86_64") {
            return Err("clocks can be set on x86-64 alone".into());
        }
        let code = assembled()?;
        let processes = power.everything()?;
        let processes = processes.into_iter().map(|pid| replace(pid, &code));
        Ok(Clock { processes: processes.collect::<Done<_>>()? })
    }

    /// Sets them, while the host stands still. Whoever has ended since needs none.
    pub(crate) fn set(&self, skew: Skew) -> Done {
        let mut set = 0;
        for (memory, at) in &self.processes {
            match memory.write_all_at(&skew.numbers(), *at) {
                Ok(()) => set += 1,
                Err(e) if e.kind() == std::io::ErrorKind::WriteZero => {}
                Err(e) => return Err(format!("a clock: {e}")),
            }
        }
        if set == 0 { Err("all have ended whose clocks were held".into()) } else { Ok(()) }
    }
}

/// The instructions, by the assembler that Rust's linker comes with.
fn assembled() -> Done<Vec<u8>> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (object, binary) = (dir.path().join("clock.o"), dir.path().join("clock.bin"));
    feed(Command::new("as").arg("-o").arg(&object).arg("-"), SOURCE)?;
    let only = ["-O", "binary", "--only-section", ".text"];
    run(Command::new("objcopy").args(only).arg(&object).arg(&binary))?;
    std::fs::read(&binary).map_err(|e| format!("{}: {e}", binary.display()))
}

/// Puts the code behind a process's page of the kernel's, and a jump to it where the function
/// begins. Returns its memory, and where the numbers are.
fn replace(pid: u32, code: &[u8]) -> Done<(File, u64)> {
    let failed = |e: std::io::Error| format!("clocks of process {pid}: {e}");
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(failed)?;
    let (begin, end) = page(&maps).ok_or_else(|| format!("process {pid} has no vDSO"))?;
    let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
    let memory = memory.map_err(failed)?;
    let mut image = vec![0; (end - begin) as usize];
    memory.read_exact_at(&mut image, begin).map_err(failed)?;
    let function = symbol(&image, NAME).ok_or("the vDSO has no clock_gettime")?;
    if image[function] == JUMP_CODE {
        return Err(format!("the clocks of process {pid} are held already"));
    }
    // Behind the last of its sections there is nothing up to the end of the page.
    let used = image.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let place = used.next_multiple_of(16);
    if place + code.len() > image.len() {
        return Err(format!("{} bytes don't fit behind {used} of the vDSO", code.len()));
    }
    memory.write_all_at(code, begin + place as u64).map_err(failed)?;
    let way = i32::try_from(place as i64 - (function + JUMP) as i64).map_err(|e| e.to_string())?;
    let jump = [&[JUMP_CODE][..], &way.to_le_bytes()].concat();
    memory.write_all_at(&jump, begin + function as u64).map_err(failed)?;
    Ok((memory, begin + (place + NUMBERS) as u64))
}

/// Where the page lies.
fn page(maps: &str) -> Option<(u64, u64)> {
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (begin, end) = line.split(' ').next()?.split_once('-')?;
    Some((u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// Where a symbol of an ELF image lies; the offsets are those of ELF64's headers.
fn symbol(image: &[u8], name: &[u8]) -> Option<usize> {
    let bytes = |at: usize, length: usize| image.get(at..at + length);
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?) as usize);
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes(at, 4)?.try_into().ok()?));
    let u64_at =
        |at: usize| usize::try_from(u64::from_le_bytes(bytes(at, 8)?.try_into().ok()?)).ok();
    let (sections, size, count) = (u64_at(0x28)?, u16_at(0x3a)?, u16_at(0x3c)?);
    let section = |number: usize| sections + number * size;
    let symbols = (0..count).find(|n| u32_at(section(*n) + 4) == Some(DYNAMIC_SYMBOLS))?;
    let (first, length) = (u64_at(section(symbols) + 0x18)?, u64_at(section(symbols) + 0x20)?);
    let strings = u64_at(section(u32_at(section(symbols) + 0x28)? as usize) + 0x18)?;
    let named = |at: &usize| {
        let name_at = strings + u32_at(*at).unwrap_or(0) as usize;
        bytes(name_at, name.len() + 1).is_some_and(|found| found == [name, &[0]].concat())
    };
    let at = (first..first + length).step_by(24).find(named)?;
    u64_at(at + 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_reads_the_clocks_that_it_is_given() {
        if !cfg!(target_arch = "x86_64") {
            return;
        }
        let wall = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let (wall_before, before) = (wall(), drivers::sys::now());
        // This very one.
        let held = replace(std::process::id(), &assembled().unwrap()).unwrap();
        let clock = Clock { processes: vec![held] };
        let skew = Skew { from: before, offset_ns: 0, gain_ppm: 0, wall_ns: 3_600_000_000_000 };
        clock.set(skew).unwrap();
        let jumped = wall() - wall_before;
        // A thousand times as fast, which a moment is enough for.
        let skew = Skew { gain_ppm: 1_000_000_000, ..skew };
        clock.set(skew).unwrap();
        let ran = drivers::sys::now().since(before);
        clock.set(Skew { offset_ns: 5_000_000_000, ..Skew::default() }).unwrap();
        let stepped = drivers::sys::now().since(before);
        clock.set(Skew::default()).unwrap();
        assert!((3_600..3_700).contains(&jumped), "{jumped}");
        assert!(ran > model::Span::from_ms(1_000), "{ran:?}");
        assert!(stepped > model::Span::from_ms(5_000), "{stepped:?}");
        assert!(stepped < model::Span::from_ms(60_000), "{stepped:?}");
    }

    #[test]
    fn what_a_clock_gained_stays_when_it_is_still_again() {
        let skew = Skew { from: Moment(100), gain_ppm: 2_000_000, offset_ns: 5, wall_ns: 7 };
        let still = skew.still(Moment(110));
        assert_eq!((still.offset_ns, still.gain_ppm, still.wall_ns), (25, 0, 7));
    }
}
