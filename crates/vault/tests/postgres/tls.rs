//! TLS towards a server: a database on another machine is backed up and streamed, and whoever is
//! not that server is not talked to.

use crate::cluster::{DIGEST, LEDGER, Server, Vault, booking, give, scratch};
use crate::log::while_streaming_from;
use crate::replicated::{back_up_as, restore};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use vault::error::{VaultError, explain};
use vault::postgres::recovery::Target;
use vault::postgres::{ConnInfo, Connection};
use vault::verify::Depth;
use vault::wal::stream::Event;

/// What clients have to say, and what they have to show.
const CLIENTS: &str = "local all all trust\nlocal replication all trust\n\
                       hostssl all,replication certified 127.0.0.1/32 cert\n\
                       hostssl all,replication all 127.0.0.1/32 scram-sha-256\n";
const ROLES: &[&str] = &[
    "CREATE ROLE far REPLICATION LOGIN PASSWORD 'it is far'",
    "CREATE ROLE certified REPLICATION LOGIN",
];

/// Who certifies, and where its certificate lies.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = folder.join(format!("{name}.crt"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// A certificate and its key, for this name; one that has run out where that is asked for.
    fn certify(&self, name: &str, expired: bool) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        if expired {
            params.not_after = date_time_ymd(2020, 1, 1);
            params.not_before = date_time_ymd(2019, 1, 1);
        }
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// What `openssl req -x509` makes: it says of itself that it is an authority.
fn self_signed(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A server that takes nobody from outside but in TLS.
fn make(folder: &Path, authority: &Authority) -> Server {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::new(
        folder,
        &format!("listen_addresses = '127.0.0.1'\nport = {port}\nwal_keep_size = 1GB"),
    );
    server.run(ROLES);
    server.run(LEDGER);
    fs::copy(&authority.file, server.data.join("clients.crt")).unwrap();
    give(&server.data.join("clients.crt"));
    fs::write(server.data.join("pg_hba.conf"), CLIENTS).unwrap();
    server.run(&["ALTER SYSTEM SET ssl_ca_file = 'clients.crt'"]);
    show(&server, &authority.certify("localhost", false));
    server
}

/// The server shows another certificate from now on.
fn show(server: &Server, (certificate, key): &(String, String)) {
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = server.data.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give(&path);
    }
    reload(server, "on");
}

fn reload(server: &Server, ssl: &str) {
    // Off and on again: whoever sees the last setting has not seen an older certificate.
    for setting in ["off", ssl] {
        server.run(&[&format!("ALTER SYSTEM SET ssl = {setting}"), "SELECT pg_reload_conf()"]);
        server.wait_for(&format!("SELECT current_setting('ssl') = '{setting}'"));
    }
}

fn info(port: u16, host: &str, more: &str) -> ConnInfo {
    let text = format!("host={host} port={port} user=far password='it is far' {more}");
    ConnInfo::parse(&format!("{text} dbname=postgres")).unwrap()
}

fn refused(info: &ConnInfo) -> String {
    match Connection::open(info) {
        Ok(_) => panic!("{info:?} was talked to"),
        Err(error) => explain(&error),
    }
}

pub(crate) fn backed_up() {
    let folder = scratch();
    let authority = Authority::new(folder.path(), "ours");
    let server = make(folder.path(), &authority);
    server.run(&["CREATE TABLE big AS SELECT n, repeat(md5(n::text), 8) FROM \
                  generate_series(1, 20000) n"]);
    let root = format!("sslrootcert={}", authority.file.display());
    let safe = |port| info(port, "localhost", &format!("sslmode=verify-full {root}"));
    let mut vault = Vault::new(folder.path());
    // What is altered on its way is noticed by TLS itself, and nothing is recorded.
    let meddler = Meddler::new(server.port, 2_000_000);
    let altered = back_up_as(&mut vault, safe(meddler.port)).map(|o| o.backup.source);
    let what = explain(&altered.unwrap_err());
    assert!(what.contains("decrypt") || what.contains("DecryptError"), "{what}");
    assert!(meddler.altered.load(Ordering::Acquire) > 0);
    assert!(vault.repository.state().backups.is_empty());

    back_up_as(&mut vault, safe(server.port)).unwrap();
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)";
    while_streaming_from(&vault.again(), &server, Some(safe(server.port)), |streaming| {
        assert_eq!(server.one(encrypted), "t");
        (0..200).for_each(|number| server.run(&[&booking(number)]));
        let end = server.position();
        streaming.wait(|e| matches!(e, Event::Stored { upto, .. } if *upto >= end));
    })
    .unwrap();
    let digest = server.one(DIGEST);
    server.kill();
    vault.repository.refresh().unwrap();
    assert!(vault.verify(Depth::Bytes).is_intact());
    assert_eq!(restore(&vault, folder.path(), Target::Latest, 0).one(DIGEST), digest);
}

pub(crate) fn who_is_not_the_server() {
    let folder = scratch();
    let (ours, theirs) =
        (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let server = make(folder.path(), &ours);
    let port = server.port;
    let root = |authority: &Authority| format!("sslrootcert={}", authority.file.display());
    let full = format!("sslmode=verify-full {}", root(&ours));
    let is_taken = |info: &ConnInfo| drop(Connection::open(info).unwrap());

    is_taken(&info(port, "localhost", &full));
    // Its address is in no certificate: its issuer alone is right.
    is_taken(&info(port, "127.0.0.1", &format!("sslmode=verify-ca {}", root(&ours))));
    let what = refused(&info(port, "127.0.0.1", &full));
    assert!(what.contains("not valid for name"), "{what}");
    for mode in ["verify-full", "verify-ca"] {
        let other = format!("sslmode={mode} {}", root(&theirs));
        let what = refused(&info(port, "localhost", &other));
        let says_what_to_do = what.contains("UnknownIssuer") && what.contains("sslrootcert=FILE");
        assert!(says_what_to_do, "{what}");
    }
    let what = refused(&info(port, "localhost", "sslmode=verify-full sslrootcert=system"));
    assert!(what.contains("UnknownIssuer") || what.contains("believes no authority"), "{what}");
    let what = refused(&info(port, "localhost", "sslmode=disable"));
    assert!(what.contains("no encryption") || what.contains("SSL off"), "{what}");

    show(&server, &ours.certify("localhost", true));
    let error = Connection::open(&info(port, "localhost", &full)).err().unwrap();
    assert!(matches!(&error, VaultError::Refused(what) if what.contains("expired")), "{error:?}");
    show(&server, &theirs.certify("localhost", false));
    assert!(refused(&info(port, "localhost", &full)).contains("UnknownIssuer"));

    // Its own certificate is named, as most have it who made one by hand; another's of the same
    // name is another.
    let (mine, named) = (self_signed("localhost"), folder.path().join("named.crt"));
    fs::write(&named, &mine.0).unwrap();
    show(&server, &mine);
    let own = format!("sslmode=verify-full sslrootcert={}", named.display());
    is_taken(&info(port, "localhost", &own));
    show(&server, &self_signed("localhost"));
    refused(&info(port, "localhost", &own));

    show(&server, &ours.certify("localhost", false));
    clients_show_theirs(&server, &ours, folder.path());
    reload(&server, "off");
    assert!(refused(&info(port, "localhost", &full)).contains("no TLS"));
    // What may pass is tried again, a stream goes on by that; what will not is the end.
    for (answer, passes) in [
        (&b"N"[..], false),
        (b"E0the server is too busy", true),
        (b"S and whatever comes to mind", true),
        (b"S", true),
        (b"", true),
    ] {
        let error = Connection::open(&info(impostor(answer), "localhost", &full)).err().unwrap();
        assert_eq!(matches!(error, VaultError::Postgres { .. }), passes, "{answer:?}: {error:?}");
        assert_eq!(matches!(error, VaultError::Refused(_)), !passes, "{answer:?}: {error:?}");
    }
}

/// A server that wants to see a certificate; a key that others may read is none.
fn clients_show_theirs(server: &Server, authority: &Authority, folder: &Path) {
    let (certificate, key) = authority.certify("certified", false);
    let (certificate_file, key_file) = (folder.join("client.crt"), folder.join("client.key"));
    fs::write(&certificate_file, certificate).unwrap();
    fs::write(&key_file, key).unwrap();
    let text = format!(
        "host=localhost port={} user=certified dbname=postgres sslmode=verify-full \
         sslrootcert={} sslcert={} sslkey={}",
        server.port,
        authority.file.display(),
        certificate_file.display(),
        key_file.display(),
    );
    let certified = ConnInfo::parse(&text).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&certified).contains("others may read"));
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut connection = Connection::open(&certified).unwrap();
    assert_eq!(connection.row("SELECT current_user", 1).unwrap(), ["certified"]);
    let bare = text.split(" sslcert").next().unwrap();
    refused(&ConnInfo::parse(bare).unwrap());
}

/// Answers a request for TLS like this, once.
fn impostor(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).unwrap();
        // It may have gone by now.
        let _ = client.write_all(answer);
        let _ = client.shutdown(Shutdown::Write);
    });
    port
}

/// Passes on what client and server say, and alters one byte of what the server says.
struct Meddler {
    port: u16,
    altered: std::sync::Arc<AtomicU64>,
}

impl Meddler {
    fn new(server: u16, at: u64) -> Meddler {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let altered = std::sync::Arc::new(AtomicU64::new(0));
        let count = std::sync::Arc::clone(&altered);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                let (from_client, to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(from_client, to_server, None, &AtomicU64::new(0)));
                let count = std::sync::Arc::clone(&count);
                std::thread::spawn(move || pass(server, client, Some(at), &count));
            }
        });
        Meddler { port, altered }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, alter_at: Option<u64>, altered: &AtomicU64) {
    let (mut buffer, mut passed) = (vec![0; 64 << 10], 0u64);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let place = alter_at.and_then(|at| at.checked_sub(passed)).filter(|p| *p < length as u64);
        if let Some(place) = place {
            buffer[place as usize] ^= 1;
            altered.fetch_add(1, Ordering::AcqRel);
        }
        passed += length as u64;
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Either side may have closed it already.
    let _ = to.shutdown(Shutdown::Both);
}
