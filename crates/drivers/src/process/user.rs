//! Who a program runs as: names looked up in `/etc/passwd` and `/etc/group`.
//!
//! Only these files are asked: directory services have no place in the path of a failover.

use std::fs;
use std::io;

use model::spec::ProcessSpec;

use crate::sys::Identity;

/// Who a program runs as, and where that user lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What to become; `None` where the launcher's own identity is right.
    pub identity: Option<Identity>,
    /// The user's directory; `/` where unknown.
    pub home: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// Why nobody can be found or become.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A file can't be read.
    #[error("{0} can't be read")]
    Io(&'static str, #[source] io::Error),
    /// No such user.
    #[error("there is no user {0:?} in /etc/passwd")]
    NoUser(String),
    /// No such group.
    #[error("there is no group {0:?} in /etc/group")]
    NoGroup(String),
    /// The launcher lacks the privilege.
    #[error("the launcher runs as an ordinary user (uid {have}) and can't start as uid {want}")]
    NotPermitted {
        /// The launcher.
        have: u32,
        /// The program.
        want: u32,
    },
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn parse_user(line: &str) -> Option<User> {
    let mut field = line.split(':');
    let name = field.next()?.to_owned();
    let uid = field.nth(1)?.parse().ok()?;
    let gid = field.next()?.parse().ok()?;
    let home = field.nth(1)?.to_owned();
    Some(User { name, uid, gid, home })
}

/// The number of a user, by number or by name.
///
/// # Errors
/// [`UserError`].
pub fn number(user: &str) -> Result<u32, UserError> {
    match user.parse() {
        Ok(uid) => Ok(uid),
        Err(_) => {
            let path = "/etc/passwd";
            let passwd = fs::read_to_string(path).map_err(|e| UserError::Io(path, e))?;
            number_from(user, &passwd)
        }
    }
}

pub(crate) fn number_from(name: &str, passwd: &str) -> Result<u32, UserError> {
    let user = passwd.lines().filter_map(parse_user).find(|user| user.name == name);
    user.map(|user| user.uid).ok_or_else(|| UserError::NoUser(name.to_owned()))
}

/// Finds who a process is to run as.
///
/// # Errors
/// [`UserError`].
pub fn account(spec: &ProcessSpec) -> Result<Account, UserError> {
    let read = |path| fs::read_to_string(path).map_err(|e| UserError::Io(path, e));
    let me = rustix::process::geteuid().as_raw();
    account_from(spec, me, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn account_from(
    spec: &ProcessSpec,
    me: u32,
    passwd: &str,
    group: &str,
) -> Result<Account, UserError> {
    let users = || passwd.lines().filter_map(parse_user);
    let user = match &spec.user {
        None => users().find(|u| u.uid == me).unwrap_or(User {
            name: String::new(),
            uid: me,
            gid: rustix::process::getegid().as_raw(),
            home: "/".into(),
        }),
        Some(wanted) => match wanted.parse::<u32>() {
            Ok(uid) => users().find(|u| u.uid == uid).unwrap_or(User {
                name: String::new(),
                uid,
                gid: uid,
                home: "/".into(),
            }),
            Err(_) => users()
                .find(|u| u.name == *wanted)
                .ok_or_else(|| UserError::NoUser(wanted.clone()))?,
        },
    };
    let gid = match &spec.group {
        None => user.gid,
        Some(wanted) => match wanted.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => group_id(group, wanted).ok_or_else(|| UserError::NoGroup(wanted.clone()))?,
        },
    };
    let named = spec.user.is_some() || spec.group.is_some();
    if !named || (me != 0 && user.uid == me && spec.group.is_none()) {
        return Ok(Account { identity: None, home: user.home, uid: user.uid, gid });
    }
    if me != 0 {
        return Err(UserError::NotPermitted { have: me, want: user.uid });
    }
    let mut groups = memberships(group, &user.name);
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    let identity = Identity { uid: user.uid, gid, groups };
    Ok(Account { identity: Some(identity), home: user.home, uid: user.uid, gid })
}

fn group_id(group: &str, name: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut field = line.split(':');
        if field.next()? != name {
            return None;
        }
        field.nth(1)?.parse().ok()
    })
}

fn memberships(group: &str, user: &str) -> Vec<u32> {
    if user.is_empty() {
        return Vec::new();
    }
    let member = |line: &str| {
        let mut field = line.split(':').skip(2);
        let gid = field.next()?.parse().ok()?;
        field.next()?.split(',').any(|name| name == user).then_some(gid)
    };
    group.lines().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ngw:x:990:980::/var/gw:/bin/false\n";
    const GROUP: &str = "root:x:0:\ngw:x:980:\nssl:x:111:www,gw\nother:x:5:www\n";

    #[test]
    fn a_user_is_named_or_numbered() {
        assert_eq!(number_from("gw", PASSWD).ok(), Some(990));
        assert!(number_from("nobody-here", PASSWD).is_err());
        assert_eq!(number("990").ok(), Some(990), "a number needs no entry");
        assert_eq!(number("root").ok(), Some(0));
    }

    fn who(user: Option<&str>, group: Option<&str>, me: u32) -> Result<Account, UserError> {
        let spec = ProcessSpec {
            user: user.map(Into::into),
            group: group.map(Into::into),
            ..ProcessSpec::default()
        };
        account_from(&spec, me, PASSWD, GROUP)
    }

    #[test]
    fn names_numbers_and_supplementary_groups_are_found() {
        let gw = who(Some("gw"), None, 0).unwrap();
        let identity = Identity { uid: 990, gid: 980, groups: vec![980, 111] };
        assert_eq!(gw.identity, Some(identity));
        assert_eq!(gw.home, "/var/gw");
        assert_eq!(who(Some("990"), Some("ssl"), 0).unwrap().gid, 111);
        assert_eq!(who(Some("4711"), None, 0).unwrap().identity.unwrap().gid, 4711);
        assert_eq!(who(None, None, 0).unwrap().identity, None);
        assert_eq!(who(None, None, 0).unwrap().home, "/root");
    }

    #[test]
    fn an_ordinary_user_starts_programs_as_itself_only() {
        assert_eq!(who(Some("gw"), None, 990).unwrap().identity, None);
        assert!(matches!(who(Some("root"), None, 990), Err(UserError::NotPermitted { .. })));
        assert!(matches!(who(Some("nobody"), None, 0), Err(UserError::NoUser(_))));
        assert!(matches!(who(None, Some("nope"), 0), Err(UserError::NoGroup(_))));
    }
}
