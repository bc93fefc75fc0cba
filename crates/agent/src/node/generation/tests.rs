use std::path::Path;

use model::state::EventKind;

use super::*;
use crate::node::found::{FoundOptions, found};
use crate::node::stopped::{self, StoppedError};

const SPEC: &str = r#"
[cluster]
name = "exchange-a"
profile = "lan"
[[node]]
name = "a"
links = ["127.0.0.1"]
[[node]]
name = "b"
links = ["127.0.0.2"]
[[node]]
name = "w"
links = ["127.0.0.3"]
witness = true
[[resource]]
name = "gateway"
kind = "process"
command = ["/bin/true"]
mode = "active-passive"
"#;

fn founded(path: &Path) -> DataDir {
    let data = DataDir::new(path.join("data"));
    let spec = config::parse(SPEC, "cluster.toml").spec.expect("a sound specification");
    let node = "a".parse().unwrap();
    let text = SPEC.to_owned();
    found(FoundOptions { spec, text, node, data: data.clone() }).unwrap();
    data
}

fn told() -> Told {
    let off = vec!["b".parse().unwrap(), "w".parse().unwrap()];
    Told { by: "carla".to_owned(), why: "the rack burnt".to_owned(), off, above: None }
}

fn read(data: &DataDir) -> Stopped {
    stopped::read(data).unwrap()
}

#[test]
fn a_recovered_node_is_alone_under_a_new_id_and_keeps_its_old_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = founded(dir.path());
    let before = read(&data);
    let (old, node) = (before.whole.clone(), before.node.clone());
    let begun = recover(&data, before, &told()).unwrap();
    let after = read(&data);
    assert_eq!(after.whole.generation, begun.generation);
    assert!(begun.generation > old.generation);
    assert_eq!(after.node, NodeFile { replica: begun.replica, ran: false, ..node });
    assert_eq!(after.whole.members.len(), 1);
    assert_eq!(after.whole.replica_of(&after.node.node), Some(begun.replica));
    assert_eq!(after.end.index, begun.index);
    assert!(after.end.term >= TERM_MARGIN, "{:?}", after.end);
    let event = &after.whole.history.back().unwrap().what;
    assert!(matches!(event, EventKind::Refounded { by, .. } if by == "carla"), "{event:?}");
    assert!(begun.aside.unwrap().join("x").parent().unwrap().is_dir(), "the old log is kept");
    assert!(!complete(&data).unwrap(), "nothing is left to do");
}

#[test]
fn a_recovery_that_broke_off_anywhere_is_the_old_or_the_new_and_never_between() {
    // What is on disk after each step, made by undoing the steps after it.
    for steps in 0..=4 {
        let dir = tempfile::tempdir().unwrap();
        let data = founded(dir.path());
        let (old, old_node) = (read(&data).whole.clone(), data.node().unwrap());
        let begun = recover(&data, read(&data), &told()).unwrap();
        let (aside, new_node) = (begun.aside.clone().unwrap(), data.node().unwrap());
        let pending = Pending { aside: aside.clone(), node: new_node.clone() };
        let write_pending = || {
            let text = serde_json::to_string(&pending).unwrap();
            write_file(&data.path().join(PENDING), text.as_bytes(), 0o644).unwrap();
        };
        let next = data.path().join(NEXT_LOG);
        if steps < 4 {
            data.set_node(&old_node).unwrap();
        }
        if steps < 3 {
            std::fs::rename(data.log(), &next).unwrap();
        }
        if steps < 2 {
            std::fs::rename(&aside, data.log()).unwrap();
        }
        if steps > 0 {
            write_pending();
        }
        assert_eq!(complete(&data).unwrap(), steps > 0, "after {steps} steps");
        let now = read(&data);
        let expected = if steps > 0 { begun.generation } else { old.generation };
        let node = if steps > 0 { new_node } else { old_node };
        assert_eq!((now.whole.generation, &now.node), (expected, &node), "after {steps} steps");
        if steps == 0 {
            // The half-written log is in nobody's way.
            drop(now);
            assert!(recover(&data, read(&data), &told()).is_ok());
        }
    }
}

#[test]
fn nothing_is_recovered_beside_a_running_agent_or_in_a_generation_that_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let data = founded(dir.path());
    let running = read(&data);
    assert!(matches!(stopped::read(&data), Err(StoppedError::Running)));
    drop(running);
    data.supersede(77).unwrap();
    assert!(matches!(stopped::read(&data), Err(StoppedError::Superseded(77))));
}

fn importing(state: ClusterState, path: &Path, node: &str, authority: Option<Authority>) -> Import {
    let data = DataDir::new(path.join("imported"));
    Import { state, node: node.parse().unwrap(), data, authority }
}

#[test]
fn an_import_with_the_old_authority_is_the_same_cluster_in_a_higher_generation() {
    let dir = tempfile::tempdir().unwrap();
    let data = founded(dir.path());
    let state = read(&data).whole.clone();
    let authority = IdentityFiles::new(data.path()).load_authority().unwrap();
    let target = importing(state.clone(), dir.path(), "b", authority);
    let imported = target.data.clone();
    let begun = import(target, &told()).unwrap();
    let after = read(&imported);
    assert_eq!(after.whole.cluster_id, state.cluster_id);
    assert!(after.whole.generation > state.generation);
    assert!(after.whole.last_epoch > state.last_epoch);
    assert_eq!(after.whole.wait_out.map(|w| w.ms), Some(begun.wait_ms));
    assert!(after.whole.awaited.keys().any(|name| name.as_str() == "a"));
    assert_eq!(after.whole.members.len(), 1);
    let again = importing(state, dir.path(), "b", None);
    assert!(matches!(again.check(), Err(BeginError::Exists(_))));
}

#[test]
fn an_import_without_it_is_another_cluster_and_two_of_one_file_differ() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = founded(one.path());
    let state = read(&data).whole.clone();
    let first = import(importing(state.clone(), one.path(), "b", None), &told()).unwrap();
    let second = import(importing(state.clone(), other.path(), "b", None), &told()).unwrap();
    assert_ne!(first.generation, second.generation);
    assert_ne!(first.cluster_id, second.cluster_id);
    assert_ne!(first.cluster_id, format!("{:032x}", state.cluster_id));
    let imported = read(&DataDir::new(one.path().join("imported"))).whole.clone();
    assert!(imported.awaited.is_empty(), "nobody's certificate is good any more");
}

#[test]
fn neither_a_witness_nor_a_strangers_authority_founds_anything() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = read(&founded(dir.path())).whole.clone();
    let check = |node: &str| importing(state.clone(), dir.path(), node, None).check();
    assert!(matches!(check("w"), Err(BeginError::NoVoter(..))));
    assert!(matches!(check("z"), Err(BeginError::NoVoter(..))));
    let theirs = IdentityFiles::new(founded(other.path()).path()).load_authority().unwrap();
    let strange = importing(state, dir.path(), "b", theirs).check();
    assert!(matches!(strange, Err(BeginError::Authority { .. })));
}
