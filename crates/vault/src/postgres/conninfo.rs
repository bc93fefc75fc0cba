//! How a server is reached: `key=value` pairs as libpq reads them, and libpq's variables.

use super::tls::Check;
use crate::error::{Result, VaultError};
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use std::path::PathBuf;

/// `sslrootcert` for the authorities that the system believes.
pub(super) const SYSTEM: &str = "system";

/// What libpq would take from the environment and we would have to ignore.
const NOT_OURS: [&str; 4] = ["PGSSLCRL", "PGSSLCRLDIR", "PGCHANNELBINDING", "PGREQUIREAUTH"];

/// Where Debian's servers put their socket.
const SOCKET_FOLDER: &str = "/var/run/postgresql";

/// How a server is reached.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// A directory with the server's socket, a name or an address.
    pub host: String,
    /// The port; it names the socket too.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub dbname: String,
    password: Option<SecretString>,
    /// As it was written; nothing for the usual.
    sslmode: Option<String>,
    files: SslFiles,
}

/// The files of TLS, where they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SslFiles {
    /// The authorities that are believed; `system` for the system's, which is the default.
    pub(super) root: Option<PathBuf>,
    /// Our certificate.
    pub(super) certificate: Option<PathBuf>,
    /// Its key.
    pub(super) key: Option<PathBuf>,
}

/// Where the bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Socket(PathBuf),
    /// This machine, in the clear.
    Loopback(IpAddr, u16),
    /// Any machine, in TLS.
    Tls(String, u16, Check),
}

impl ConnInfo {
    /// Reads `host=… port=… user=… dbname=… password=…` and `sslmode=… sslrootcert=… sslcert=…
    /// sslkey=…`; what is missing comes from `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`,
    /// `PGPASSWORD`, `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT` and `PGSSLKEY`, and then from the
    /// usual defaults.
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
        if let Some(name) = NOT_OURS.into_iter().find(|name| variable(name).is_some()) {
            return Err(bad(format!("{name} asks for a check that we don't make: unset it")));
        }
        let take = |name: &str, default: &str| variable(name).unwrap_or(default.to_owned());
        let user = take("PGUSER", "postgres");
        // As libpq has it: what lies in the user's own directory is used.
        let own = |name: &str| {
            let folder = PathBuf::from(variable("HOME")?).join(".postgresql");
            Some(folder.join(name)).filter(|path| path.exists())
        };
        let file =
            |name: &str, usual: &str| variable(name).map(PathBuf::from).or_else(|| own(usual));
        let mut info = ConnInfo {
            host: take("PGHOST", SOCKET_FOLDER),
            port: 0,
            dbname: take("PGDATABASE", "postgres"),
            user,
            password: variable("PGPASSWORD").map(SecretString::from),
            sslmode: variable("PGSSLMODE"),
            files: SslFiles {
                root: file("PGSSLROOTCERT", "root.crt"),
                certificate: file("PGSSLCERT", "postgresql.crt"),
                key: file("PGSSLKEY", "postgresql.key"),
            },
        };
        let mut port = take("PGPORT", "5432");
        for (key, value) in pairs(text).ok_or_else(|| bad("a value is malformed".to_owned()))? {
            match key.as_str() {
                "host" => info.host = value,
                "port" => port = value,
                "user" => info.user = value,
                "dbname" => info.dbname = value,
                "password" => info.password = Some(SecretString::from(value)),
                "sslmode" => info.sslmode = Some(value),
                "sslrootcert" => info.files.root = Some(PathBuf::from(value)),
                "sslcert" => info.files.certificate = Some(PathBuf::from(value)),
                "sslkey" => info.files.key = Some(PathBuf::from(value)),
                other => return Err(bad(format!("`{other}` is no known key"))),
            }
        }
        info.port = port.parse().map_err(|_| bad(format!("`{port}` is no port")))?;
        Ok(info)
    }

    /// A server on a private socket.
    pub fn local(folder: &std::path::Path, user: &str, dbname: &str) -> ConnInfo {
        let (host, port) = (folder.display().to_string(), 5432);
        let (user, dbname) = (user.to_owned(), dbname.to_owned());
        let files = SslFiles::default();
        ConnInfo { host, port, user, dbname, password: None, sslmode: None, files }
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|p| p.expose_secret())
    }

    pub(super) fn files(&self) -> &SslFiles {
        &self.files
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
        let here = match self.host.as_str() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            text => text.parse::<IpAddr>().ok().filter(IpAddr::is_loopback),
        };
        let tls = |check| Ok(Endpoint::Tls(self.host.clone(), self.port, check));
        let mode = self.sslmode.as_deref();
        // The system's authorities certify anybody: without the name they say nothing.
        let own_root = self.files.root.as_ref().is_some_and(|root| root.as_os_str() != SYSTEM);
        match (mode, here) {
            (Some("verify-full"), _) | (None, None) => tls(Check::Name),
            // As libpq has it: where an authority is named, it is asked.
            (Some("verify-ca" | "require"), _) if own_root => tls(Check::Issuer),
            (None | Some("disable" | "allow" | "prefer"), Some(ip)) => {
                Ok(Endpoint::Loopback(ip, self.port))
            }
            (Some("disable" | "allow" | "prefer"), None) => Err(VaultError::Refused(format!(
                "`{}` is another machine: what a database writes does not cross a network in the \
                 clear. Leave sslmode away (verify-full), or give the near end of a tunnel",
                self.host
            ))),
            (Some("verify-ca" | "require"), _) => Err(VaultError::Refused(
                "this sslmode leaves open who the server is: write verify-full, or verify-ca with \
                 the server's own certificate or its authority's as sslrootcert"
                    .to_owned(),
            )),
            (Some(other), _) => {
                Err(VaultError::Refused(format!("`{other}` is no sslmode; write verify-full")))
            }
        }
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
        assert!(parse("sslcompression=1").is_err());
        assert!(parse("host='open").is_err());
        let asks = |name: &str| (name == "PGSSLCRL").then(|| "/etc/crl.pem".to_owned());
        assert!(ConnInfo::parse_with("", asks).unwrap_err().to_string().contains("PGSSLCRL"));
    }

    #[test]
    fn other_machines_are_reached_in_tls_alone() {
        let at = |text: &str| parse(text).unwrap().endpoint();
        let tls = |host: &str, check| Endpoint::Tls(host.to_owned(), 5432, check);
        assert_eq!(at("host=/run/x").unwrap(), Endpoint::Socket("/run/x/.s.PGSQL.5432".into()));
        for here in ["127.0.0.5", "localhost", "::1"] {
            for mode in ["", "sslmode=disable", "sslmode=prefer"] {
                let endpoint = at(&format!("host={here} {mode}")).unwrap();
                assert!(matches!(endpoint, Endpoint::Loopback(..)), "{endpoint:?}");
            }
        }
        assert_eq!(
            at("host=localhost sslmode=verify-full").unwrap(),
            tls("localhost", Check::Name)
        );
        assert_eq!(at("host=db.example.org").unwrap(), tls("db.example.org", Check::Name));
        assert_eq!(at("host=10.0.0.1").unwrap(), tls("10.0.0.1", Check::Name));
        for mode in ["verify-ca", "require"] {
            let named = format!("host=10.0.0.1 sslmode={mode} sslrootcert=/etc/ca.pem");
            assert_eq!(at(&named).unwrap(), tls("10.0.0.1", Check::Issuer));
        }
        for (mode, why) in [
            ("disable", "in the clear"),
            ("allow", "in the clear"),
            ("prefer", "in the clear"),
            ("require", "who the server is"),
            ("verify-ca", "who the server is"),
            ("verify-ca sslrootcert=system", "who the server is"),
            ("verify", "no sslmode"),
        ] {
            let refused = at(&format!("host=db.example.org sslmode={mode}")).unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
    }
}
