//! One process on a data directory: the agent takes it before it reads or writes anything there.

use std::fs::File;
use std::io;

use journal::{OpenError, RealDisk};
use rustix::fs::{FlockOperation, flock};

use super::files::DataDir;
use super::start::AgentError;

/// A data directory that is this process's alone, for as long as this lives.
#[derive(Debug)]
pub(super) struct Sole {
    _directory: File,
}

/// Takes a data directory. Nothing is written.
pub(super) fn take(data: &DataDir) -> Result<Sole, AgentError> {
    let held = || AgentError::Held(data.path().to_path_buf());
    let failed = |error: io::Error| AgentError::Io("take its data directory", error);
    let directory = match File::open(data.path()) {
        // Where there is none, whoever reads its first file says so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(super::files::FileError::NoNode(data.path().to_path_buf()).into());
        }
        opened => opened.map_err(failed)?,
    };
    flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => held(),
        errno => failed(errno.into()),
    })?;
    // Commands that read a stopped node hold its log alone, and so did agents of before.
    if data.log().exists()
        && let Err(error) = RealDisk::open(&data.log())
        && matches!(OpenError::from(error), OpenError::Held { .. })
    {
        return Err(held());
    }
    Ok(Sole { _directory: directory })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::start::AgentOptions;

    fn is_held(data: &DataDir) -> bool {
        match take(data) {
            Ok(_) => false,
            Err(error @ AgentError::Held(_)) => {
                let said = error.to_string();
                assert!(said.contains("another process") && said.contains("fuser -v"), "{said}");
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_second_agent_is_refused_before_anything_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let first = take(&data).unwrap();
        assert!(is_held(&data));
        drop(first);
        assert!(!is_held(&data));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is written");

        std::fs::create_dir(data.log()).unwrap();
        let reader = RealDisk::open(&data.log()).unwrap();
        assert!(is_held(&data), "a command reads its log");
        drop(reader);
        assert!(!is_held(&data));
    }

    #[test]
    fn an_agent_on_a_held_directory_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        std::fs::write(directory.path().join("node.json"), "{}").unwrap();
        let _first = take(&data).unwrap();
        let run = drivers::run_dir::RunDir::new(directory.path().join("run"));
        let options = AgentOptions { data: data.clone(), run, vault: None };
        let refused = crate::node::start::run(&options);
        assert!(matches!(refused, Err(AgentError::Held(_))), "{refused:?}");
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
