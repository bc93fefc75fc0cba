//! `cluster.toml`. What is accepted is printed and read again: the printed text is what `apply`
//! commits.

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("configuration", "cluster.toml", read, seeds).memory(64 << 20);

fn read(input: &[u8]) {
    let text = Cursor(input).text();
    let parsed = config::parse(&text, "cluster.toml");
    let _shown = config::summary(&parsed.diagnostics);
    let Some(spec) = parsed.spec else { return };
    let printed = config::to_toml(&spec);
    let again = config::parse(&printed, "printed");
    assert_eq!(again.spec, Some(spec), "{printed}");
}

fn seeds() -> Vec<Vec<u8>> {
    let small = r#"[cluster]
name = "a"
profile = "lan"
[[node]]
name = "a"
links = ["10.1.0.1", "10.2.0.1"]
site = "x"
[[node]]
name = "b"
links = ["10.1.0.2", "10.2.0.2"]
[[node]]
name = "w"
links = ["10.3.0.9"]
witness = true
[[resource]]
name = "g"
kind = "process"
command = ["/bin/g", "--x"]
mode = "active-passive"
standby = "hot"
health = [{ tcp = "127.0.0.1:9001", every_ms = 100, failures = 3 }]
rto_ms = 1000
environment = { A = "b" }
[[resource]]
name = "v"
kind = "address"
address = "10.1.0.100/24"
with = "g"
[[hook]]
name = "h"
command = ["/bin/h"]
"#;
    vec![small.as_bytes().to_vec()]
}
