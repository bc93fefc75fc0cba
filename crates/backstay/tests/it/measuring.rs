//! `init` measures and picks the profile; `measure` does the same without founding anything.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A busy machine can stand still for longer than any profile bears; it is tried again then.
const TRIES: usize = 10;
/// Where nodes are measured, unless said otherwise.
const HEARTBEAT: u16 = 7401;

/// A directory with a configuration of nodes a and b, one link each.
struct Site {
    dir: tempfile::TempDir,
    b: Ipv4Addr,
}

impl Site {
    fn new(profile: &str) -> Site {
        static DRAWN: AtomicU8 = AtomicU8::new(1);
        let id = std::process::id();
        let third = DRAWN.fetch_add(1, Ordering::Relaxed);
        let at = |last| Ipv4Addr::new(127, 64 + (id % 60) as u8, third, last);
        let dir = tempfile::tempdir().unwrap();
        let node = |name, at| format!("[[node]]\nname = \"{name}\"\nlinks = [\"{at}\"]\n");
        let text = format!(
            "# ours\n[cluster]\nname = \"t\"\n{profile}\n{}{}",
            node("a", at(1)),
            node("b", at(2))
        );
        std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
        Site { dir, b: at(2) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path("cluster.toml")).unwrap()
    }

    fn command(&self, words: &[&str], data: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(words).arg("--config").arg(self.path("cluster.toml"));
        command.arg("--data").arg(self.path(data));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words, "data").output().unwrap()
    }

    /// Runs until the machine was quiet enough for some profile.
    fn until_quiet(&self, words: &[&str]) -> Output {
        for _ in 0..TRIES {
            let output = self.run(words);
            if output.status.code() != Some(3) {
                return output;
            }
        }
        panic!("this machine bears no profile: {:?}", self.run(words));
    }
}

fn says(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn founded(data: &Path) -> bool {
    data.join("node.json").exists()
}

#[test]
fn where_nobody_answers_the_profile_is_none_for_own_sites_and_is_written_with_the_reason() {
    let site = Site::new("");
    let words = ["init", "--node", "a", "--measure", "300ms", "--wait", "100ms", "--json"];
    let output = site.until_quiet(&words);
    assert_eq!(output.status.code(), Some(0), "{}", says(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let profile = told["profile"].as_str().unwrap();
    assert!(["cloud", "wan"].contains(&profile), "{told}");
    assert!(told["reason"].is_string() && told["lapses"].is_null(), "{told}");
    assert_eq!(told["measurement"]["unknown"][0], "b", "{told}");
    let line = format!("name = \"t\"\nprofile = \"{profile}\"  # by `backstay init`: ");
    assert!(site.text().starts_with("# ours\n[cluster]\n"), "{}", site.text());
    assert!(site.text().contains(&line), "{}", site.text());
    assert!(founded(&site.path("data")));
    // What is next to the data is found by `check` without being named.
    let check = Command::new(env!("CARGO_BIN_EXE_backstay"))
        .args(["check", "--data"])
        .args([site.path("data"), site.path("cluster.toml")])
        .output()
        .unwrap();
    let said = says(&check);
    assert!(check.status.success() && said.contains("no link was measured"), "{said}");
}

#[test]
fn a_node_that_answers_is_measured_with_its_link_and_its_machine() {
    let site = Site::new("");
    let mut answering = site.command(&["measure", "--answer", "--node", "b"], "b").spawn().unwrap();
    let words = ["measure", "--node", "a", "--for", "500ms", "--wait", "1m", "--json"];
    let output = site.run(&words);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        answering.kill().unwrap();
        panic!("{error}: {}", says(&output))
    });
    let status = answering.wait().unwrap();
    assert!(status.success() && output.status.success(), "{}", says(&output));
    let measured = &told["measurement"];
    assert_eq!(
        (&measured["nodes"][0]["name"], &measured["nodes"][1]["name"]),
        (&Value::from("a"), &Value::from("b"))
    );
    let link = &measured["links"][0];
    assert_eq!((&link["from"], &link["to"]), (&Value::from("a"), &Value::from("b")), "{told}");
    assert!(measured["unknown"].as_array().unwrap().is_empty(), "{told}");
    assert!(told["lapses"]["lease_slots"].as_u64().unwrap() > 0, "{told}");
    let file = std::fs::read_to_string(site.path("data/measurement.toml")).unwrap();
    assert!(config::Measurement::parse(&file).is_ok(), "{file}");
    assert!(!founded(&site.path("data")) && !site.text().contains("profile"));
}

/// Sends every datagram back after this long, until the flag is set.
fn slow_echo(socket: UdpSocket, delay: Duration, stop: Arc<AtomicBool>) {
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut waiting = std::collections::VecDeque::new();
    let mut bytes = [0; 600];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            waiting.push_back((Instant::now() + delay, bytes[..length].to_vec(), from));
        }
        while waiting.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let (_, datagram, from) = waiting.pop_front().unwrap();
            socket.send_to(&datagram, from).unwrap();
        }
    }
}

#[test]
fn a_named_profile_that_the_measurement_breaks_is_refused_with_the_sum() {
    let site = Site::new("profile = \"lan\"");
    let before = site.text();
    let socket = UdpSocket::bind((site.b, HEARTBEAT)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let echo = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || slow_echo(socket, Duration::from_millis(150), stop))
    };
    let words = ["init", "--node", "a", "--measure", "1s", "--wait", "10s"];
    let output = site.run(&words);
    let json = site.run(&[&words[..], &["--json"]].concat());
    stop.store(true, Ordering::Relaxed);
    echo.join().unwrap();
    let said = says(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for part in
        ["break profile \"lan\"", "+ round trip ", "the grace", "--no-measure", "profile-refused"]
    {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
    assert_eq!(json.status.code(), Some(3));
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    let codes: Vec<&str> =
        told.as_array().unwrap().iter().filter_map(|d| d["code"].as_str()).collect();
    assert!(codes.contains(&"profile-refused"), "{told}");
    assert!(!founded(&site.path("data")) && site.text() == before);
    assert!(site.path("data/measurement.toml").exists());
    let forced = site.run(&["init", "--node", "a", "--no-measure"]);
    assert!(forced.status.success() && founded(&site.path("data")), "{}", says(&forced));
    assert_eq!(site.text(), before);
}

#[test]
fn bad_input_is_told_before_a_minute_is_spent() {
    let site = Site::new("");
    let check = |words: &[&str], data: &str, status: i32, part: &str| {
        let began = Instant::now();
        let output = site.command(words, data).output().unwrap();
        let said = says(&output);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(part), "{words:?}: {part:?} is not in\n{said}");
        assert!(began.elapsed() < Duration::from_secs(50), "{words:?} measured first");
    };
    check(&["init", "--node", "a", "--measure", "5h"], "data", 2, "between");
    check(&["init", "--node", "a", "--measure", "soon"], "data", 2, "no duration");
    let both = ["init", "--node", "a", "--measure", "1s", "--no-measure"];
    check(&both, "data", 2, "cannot be used with");
    check(&["init", "--node", "nobody"], "data", 1, "nobody is not in the configuration");
    check(&["measure", "--node", "nobody"], "data", 1, "nobody is not in");
    check(&["measure", "--node", "a", "--answer", "--for", "1s"], "data", 2, "cannot be used");
    std::fs::write(site.path("file"), "").unwrap();
    check(&["init", "--node", "a", "--wait", "10ms"], "file/data", 1, "can't be made");
    let taken = UdpSocket::bind((site.b, HEARTBEAT)).unwrap();
    check(&["measure", "--node", "b", "--answer"], "data", 1, "can't be listened on");
    drop(taken);
    let none = site.run(&["init", "--node", "a", "--no-measure"]);
    assert!(none.status.success(), "{}", says(&none));
    check(&["init", "--node", "a"], "data", 1, "already holds a node");
}
