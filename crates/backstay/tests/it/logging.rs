//! What the three processes log, for machines.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn the_log_is_lines_of_json_where_that_is_asked() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (file, data, run) = (path("cluster.toml"), path("data"), path("run"));
    let text = "[cluster]\nname = \"t\"\nprofile = \"lan\"\n[[node]]\nname = \"a\"\n\
                links = [\"127.0.0.1\"]\n";
    std::fs::write(&file, text).unwrap();
    let backstay = || Command::new(env!("CARGO_BIN_EXE_backstay"));
    let init = ["init", "--no-measure", "--config", &file, "--node", "a", "--data", &data];
    assert!(backstay().args(init).output().unwrap().status.success());
    let words = ["launcher", "--json", "--data", &data, "--run", &run, "--cgroups", "off"];
    let mut launcher = backstay().args(words).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let read = BufReader::new(launcher.stderr.take().unwrap()).read_line(&mut line);
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    read.unwrap();
    let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    for key in ["timestamp", "level", "message", "target"] {
        assert!(said[key].is_string(), "no {key} in {said}");
    }
}
