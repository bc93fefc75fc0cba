//! How a server is reached: `key=value` pairs as libpq reads them, and libpq's variables.

use crate::error::{Result, VaultError};
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use std::path::PathBuf;

/// Where Debian's servers put their socket.
const SOCKET_FOLDER: &str = "/var/run/postgresql";

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// A directory with the server's socket, or a loopback address.
    pub host: String,
    /// The port; it names the socket too.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub dbname: String,
    password: Option<SecretString>,
}

/// Where the bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Socket(PathBuf),
    Loopback(IpAddr, u16),
}

impl ConnInfo {
    /// Reads `host=… port=… user=… dbname=… password=…`; what is missing comes from `PGHOST`,
    /// `PGPORT`, `PGUSER`, `PGDATABASE` and `PGPASSWORD`, and then from the usual defaults.
    ///
    /// # Errors
    /// Where a pair is malformed or its key unknown.
    pub fn parse(text: &str) -> Result<ConnInfo> {
        ConnInfo::parse_with(text, |name| std::env::var(name).ok())
    }

    fn parse_with(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<ConnInfo> {
        let bad = |what: String| {
            let write = "write pairs like `host=/run/postgresql port=5432 user=postgres`";
            VaultError::Refused(format!("{what}; {write}"))
        };
        let take = |name: &str, default: &str| variable(name).unwrap_or(default.to_owned());
        let user = take("PGUSER", "postgres");
        let mut info = ConnInfo {
            host: take("PGHOST", SOCKET_FOLDER),
            port: 0,
            dbname: take("PGDATABASE", "postgres"),
            user,
            password: variable("PGPASSWORD").map(SecretString::from),
        };
        let mut port = take("PGPORT", "5432");
        for (key, value) in pairs(text).ok_or_else(|| bad("a value is malformed".to_owned()))? {
            match key.as_str() {
                "host" => info.host = value,
                "port" => port = value,
                "user" => info.user = value,
                "dbname" => info.dbname = value,
                "password" => info.password = Some(SecretString::from(value)),
                other => return Err(bad(format!("`{other}` is no known key"))),
            }
        }
        info.port = port.parse().map_err(|_| bad(format!("`{port}` is no port")))?;
        Ok(info)
    }

    /// A server on a private socket.
    pub fn local(folder: &std::path::Path, user: &str, dbname: &str) -> ConnInfo {
        let (host, port, password) = (folder.display().to_string(), 5432, None);
        ConnInfo { host, port, user: user.to_owned(), dbname: dbname.to_owned(), password }
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|p| p.expose_secret())
    }

    /// The pairs without the password, for people.
    pub fn shown(&self) -> String {
        let ConnInfo { host, port, user, dbname, .. } = self;
        format!("host={host} port={port} user={user} dbname={dbname}")
    }

    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        if self.host.starts_with('/') {
            let socket = format!("{}/.s.PGSQL.{}", self.host, self.port);
            return Ok(Endpoint::Socket(PathBuf::from(socket)));
        }
        let address = match self.host.as_str() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            text => text.parse::<IpAddr>().ok().filter(IpAddr::is_loopback),
        };
        address.map(|ip| Endpoint::Loopback(ip, self.port)).ok_or_else(|| {
            VaultError::Refused(format!(
                "`{}` is neither a socket's directory nor this machine: what a database writes \
                 does not cross a network in the clear. Run the vault on the database's machine, \
                 or give the near end of a tunnel",
                self.host
            ))
        })
    }
}

/// `key=value` pairs; a value may stand in single quotes, and `\` takes the next character.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(found);
        }
        let mut key = String::new();
        loop {
            match chars.next()? {
                '=' => break,
                c => key.push(c),
            }
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\'') if quoted => break,
                None if quoted => return None,
                None => break,
                Some(c) if c.is_whitespace() && !quoted => break,
                Some('\\') => value.push(chars.next()?),
                Some(c) => value.push(c),
            }
        }
        found.push((key.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConnInfo> {
        ConnInfo::parse_with(text, |name| (name == "PGUSER").then(|| "someone".to_owned()))
    }

    #[test]
    fn pairs_variables_and_defaults_are_joined() {
        assert_eq!(parse("host=/tmp port = 6000").unwrap().port, 6000);
        assert!(parse("port=high").unwrap_err().to_string().contains("no port"));
        let info = parse("host='/tmp/a b' port=6000 password=it\\'s").unwrap();
        assert_eq!(info.shown(), "host=/tmp/a b port=6000 user=someone dbname=postgres");
        assert_eq!(info.password(), Some("it's"));
        assert!(!format!("{info:?}").contains("it's"), "{info:?}");
        assert!(parse("sslmode=require").is_err());
        assert!(parse("host='open").is_err());
    }

    #[test]
    fn only_this_machine_is_reached() {
        let at = |host: &str| parse(&format!("host={host}")).unwrap().endpoint();
        assert_eq!(at("/run/x").unwrap(), Endpoint::Socket("/run/x/.s.PGSQL.5432".into()));
        assert!(at("127.0.0.5").is_ok() && at("localhost").is_ok() && at("::1").is_ok());
        assert!(at("10.0.0.1").is_err() && at("db.example.org").is_err());
    }
}
