//! Numbers for the kernel, one for each file that has or had a name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The kernel's number of the root.
const ROOT: u64 = 1;

/// Which number has which path, relative to the root.
#[derive(Debug)]
pub(super) struct Names {
    paths: HashMap<u64, PathBuf>,
    numbers: HashMap<PathBuf, u64>,
    last: u64,
}

impl Names {
    pub(super) fn new() -> Names {
        let root = PathBuf::new();
        let numbers = HashMap::from([(root.clone(), ROOT)]);
        Names { paths: HashMap::from([(ROOT, root)]), numbers, last: ROOT }
    }

    /// The path of a number, where it still has a name.
    pub(super) fn path(&self, number: u64) -> Option<&Path> {
        self.paths.get(&number).map(PathBuf::as_path)
    }

    /// The number of a path; a new one where it has none.
    pub(super) fn number(&mut self, path: &Path) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(path.to_owned(), self.last);
        self.paths.insert(self.last, path.to_owned());
        self.last
    }

    /// A name is gone. What is open stays open.
    pub(super) fn remove(&mut self, path: &Path) {
        if let Some(number) = self.numbers.remove(path) {
            self.paths.remove(&number);
        }
    }

    /// A file or directory has another name, and so has all that is below it.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        self.remove(to);
        let moved: Vec<(u64, PathBuf)> = self
            .paths
            .iter()
            .filter_map(|(number, path)| Some((*number, path.strip_prefix(from).ok()?.to_owned())))
            .collect();
        for (number, rest) in moved {
            // Joining nothing would leave a slash behind.
            let (old, new) = match rest.as_os_str().is_empty() {
                true => (from.to_owned(), to.to_owned()),
                false => (from.join(&rest), to.join(&rest)),
            };
            self.numbers.remove(&old);
            self.numbers.insert(new.clone(), number);
            self.paths.insert(number, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_when_it_moves_and_gives_it_to_nobody_else() {
        let mut names = Names::new();
        let file = names.number(Path::new("d/f"));
        assert_eq!(names.number(Path::new("d/f")), file);
        names.rename(Path::new("d"), Path::new("e"));
        assert_eq!(names.path(file), Some(Path::new("e/f")));
        let other = names.number(Path::new("e/g"));
        names.rename(Path::new("e/g"), Path::new("e/f"));
        assert_eq!((names.path(file), names.path(other)), (None, Some(Path::new("e/f"))));
        names.remove(Path::new("e/f"));
        assert!(names.number(Path::new("e/f")) > other);
    }
}
