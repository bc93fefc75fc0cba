//! Authority, certificates, tokens and the files that hold them.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use agent::identity::token::{TEXT_MAX, TokenTextError};
use agent::identity::{
    Authority, CertificateRequest, ClusterId, Credential, DatagramKey, Fingerprint, Identity,
    IdentityError, IdentityFiles, JoinToken, NodeKey, Role, Subject, TrustBundle, Validity,
    can_write, wall_s, write_file,
};
use model::NodeName;

use crate::support::Issuer;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

#[test]
fn a_certificate_says_who_its_holder_is() {
    let issuer = Issuer::new();
    for role in Role::ALL {
        let caller = issuer.credential(role, "a").caller();
        assert_eq!((caller.role, caller.name.as_str()), (role, "a"));
        assert_eq!((caller.cluster, caller.expired), (issuer.cluster, false));
        let renewal_s = caller.renew_at_s() - wall_s();
        assert!((19 * 86_400..=20 * 86_400).contains(&renewal_s), "after two thirds of 30 days");
    }
    assert!(issuer.expired(Role::Voter, "a").caller().expired);
}

#[test]
fn serials_and_fingerprints_never_repeat() {
    let issuer = Issuer::new();
    let prints: BTreeSet<_> =
        (0..20).map(|_| issuer.credential(Role::Voter, "a").caller().fingerprint).collect();
    assert_eq!(prints.len(), 20);
}

#[test]
fn an_authority_is_read_back_and_issues_on() {
    let issuer = Issuer::new();
    let pem = issuer.authority.certificate().to_pem();
    let again = Authority::from_pem(&pem, &issuer.authority.key_pem()).unwrap();
    assert_eq!(again.fingerprint(), issuer.authority.fingerprint());
    let other = Issuer::new();
    let mixed = Authority::from_pem(&pem, &other.authority.key_pem());
    assert!(matches!(mixed, Err(IdentityError::KeyMismatch)));
    let leaf = issuer.credential(Role::Voter, "a").chain_pem();
    assert!(Authority::from_pem(&leaf, &issuer.authority.key_pem()).is_err(), "no authority");
}

#[test]
fn an_authority_issues_for_its_own_cluster_and_for_whoever_holds_the_key() {
    let issuer = Issuer::new();
    let key = NodeKey::generate().unwrap();
    let request = CertificateRequest::from_pem(&key.request().unwrap()).unwrap();
    let subject = Subject { cluster: ClusterId::random(), role: Role::Voter, name: name("a") };
    let validity = Validity::days(wall_s(), 30);
    let refused = issuer.authority.issue(&subject, &request, &[], validity);
    assert!(matches!(refused, Err(IdentityError::Request(_))));
    let subject = Subject { cluster: issuer.cluster, ..subject };
    let many = vec!["127.0.0.1".parse().unwrap(); 17];
    let refused = issuer.authority.issue(&subject, &request, &many, validity);
    assert!(matches!(refused, Err(IdentityError::Request(_))));

    // A request whose signature does not fit was not made by the key's holder.
    let pem = key.request().unwrap();
    let body = pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let mut der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
    *der.last_mut().unwrap() ^= 1;
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        data_encoding::BASE64.encode(&der)
    );
    assert!(CertificateRequest::from_pem(&forged).is_err());
    assert!(CertificateRequest::from_pem(&"x".repeat(5_000)).is_err());
    assert!(CertificateRequest::from_pem("").is_err());
}

#[test]
fn an_operators_credential_is_one_file() {
    let issuer = Issuer::new();
    let credential = issuer.credential(Role::Operator, "ann");
    let again = Credential::from_pem(&credential.to_pem()).unwrap();
    assert_eq!(again.caller(), credential.caller());
    assert_eq!(again.bundle(), credential.bundle());
    let stolen = credential.chain_pem();
    let own = NodeKey::generate().unwrap();
    let mismatch = Credential::new(issuer.bundle(), &stolen, own);
    assert!(matches!(mismatch, Err(IdentityError::KeyMismatch)));
    assert!(Credential::from_pem(&stolen).is_err(), "no key");
    assert!(Credential::from_pem("").is_err());
}

#[test]
fn a_bundle_holds_a_few_authorities_of_one_cluster() {
    let issuer = Issuer::new();
    let next = Issuer::of(issuer.cluster).authority;
    let both = issuer.bundle().with(next.certificate().clone()).unwrap();
    assert_eq!(TrustBundle::from_pem(&both.to_pem()).unwrap(), both);
    assert_eq!(both.with(next.certificate().clone()).unwrap(), both, "once is enough");
    let only_next = both.without(issuer.authority.fingerprint()).unwrap();
    assert_eq!(only_next.authorities().len(), 1);
    let none = only_next.without(next.fingerprint());
    assert!(matches!(none, Err(IdentityError::BundleSize { count: 0, .. })));
    let mixed = issuer.bundle().with(Issuer::new().authority.certificate().clone());
    assert!(matches!(mixed, Err(IdentityError::BundleClusters)));
    let more = |bundle: TrustBundle| {
        bundle.with(Issuer::of(issuer.cluster).authority.certificate().clone())
    };
    let full = more(both).unwrap();
    assert!(matches!(more(full), Err(IdentityError::BundleSize { count: 4, max: 3 })));
}

fn token() -> JoinToken {
    let addresses = vec!["10.1.0.1:7402".parse().unwrap(), "[fd00::1]:7402".parse().unwrap()];
    let authority = Fingerprint([3; 32]);
    JoinToken::new(ClusterId::random(), authority, Role::Member, Some(name("n")), addresses)
}

#[test]
fn a_token_is_read_back_and_every_typo_is_told() {
    let token = token();
    let text = token.to_text();
    assert!(JoinToken::from_text(&format!("  {}\n", *text)).unwrap() == token);
    for at in 0..text.len() {
        let mut typo = text.as_bytes().to_vec();
        typo[at] = if typo[at] == b'A' { b'B' } else { b'A' };
        let typo = String::from_utf8(typo).unwrap();
        let expect = match at < "backstay-join-1.".len() {
            true => TokenTextError::Prefix,
            false => TokenTextError::Checksum,
        };
        assert_eq!(JoinToken::from_text(&typo).unwrap_err(), expect, "{typo}");
        assert!(JoinToken::from_text(&text[..at]).is_err(), "cut at {at}");
    }
    let long = format!("backstay-join-1.{}", "A".repeat(TEXT_MAX));
    assert_eq!(JoinToken::from_text(&long).unwrap_err(), TokenTextError::TooLong);
    assert!(!format!("{token:?}").contains(&data_encoding::HEXLOWER.encode(token.secret())));
}

struct OnDisk {
    directory: tempfile::TempDir,
    files: IdentityFiles,
    issuer: Issuer,
}

fn on_disk() -> OnDisk {
    let directory = tempfile::tempdir().unwrap();
    let files = IdentityFiles::new(directory.path());
    let issuer = Issuer::new();
    assert!(!files.exist());
    let credential = issuer.credential(Role::Voter, "a");
    files.save(&Identity { credential, datagram: DatagramKey::generate() }).unwrap();
    assert!(files.exist());
    OnDisk { directory, files, issuer }
}

impl OnDisk {
    fn path(&self, file: &str) -> std::path::PathBuf {
        self.directory.path().join("identity").join(file)
    }

    fn chmod(&self, file: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(file), mode).unwrap();
    }
}

#[test]
fn an_identity_is_read_back_and_its_keys_are_private() {
    let disk = on_disk();
    let identity = disk.files.load().unwrap();
    assert_eq!(identity.credential.caller().name, name("a"));
    for key in ["node.key", "datagram.key"] {
        let mode = std::fs::metadata(disk.path(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
        for exposed in [0o640, 0o604, 0o644] {
            disk.chmod(key, exposed);
            let error = disk.files.load().unwrap_err();
            assert!(matches!(error, IdentityError::KeyExposed { .. }), "{key} {exposed:o}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        disk.chmod(key, 0o600);
    }
    disk.files.load().unwrap();
}

#[test]
fn a_renewed_certificate_replaces_the_old_one_only_where_it_fits_the_key() {
    let disk = on_disk();
    let identity = disk.files.load().unwrap();
    let validity = Validity::days(wall_s(), 30);
    let chain = disk.issuer.chain(Role::Voter, "a", identity.credential.key(), validity);
    let renewed = disk.files.replace_certificate(&chain).unwrap();
    let print = renewed.credential.caller().fingerprint;
    assert_ne!(print, identity.credential.caller().fingerprint);
    assert_eq!(disk.files.load().unwrap().credential.caller().fingerprint, print);

    let strange = disk.issuer.credential(Role::Voter, "a").chain_pem();
    assert!(matches!(disk.files.replace_certificate(&strange), Err(IdentityError::KeyMismatch)));
    assert!(disk.files.replace_certificate("garbage").is_err());
    assert_eq!(disk.files.load().unwrap().credential.caller().fingerprint, print);
    // What a crash left beside the file does not stand in the way.
    std::fs::write(disk.path("node.pem.new"), "half").unwrap();
    disk.files.replace_certificate(&chain).unwrap();
    assert!(!disk.path("node.pem.new").exists());
}

#[test]
fn damaged_files_are_told_apart() {
    for (file, content) in [
        ("authority.pem", String::new()),
        ("node.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        ("node.key", "no key".to_string()),
        ("datagram.key", "00ff".to_string()),
        ("node.pem", "x".repeat(70_000)),
    ] {
        let disk = on_disk();
        std::fs::write(disk.path(file), content).unwrap();
        assert!(disk.files.load().is_err(), "{file}");
        std::fs::remove_file(disk.path(file)).unwrap();
        let missing = disk.files.load().unwrap_err();
        assert!(matches!(missing, IdentityError::File { .. }), "{file}: {missing}");
        assert!(missing.to_string().contains(file), "{missing}");
    }
}

#[test]
fn the_authority_is_kept_where_it_may_issue() {
    let disk = on_disk();
    assert!(disk.files.load_authority().unwrap().is_none());
    disk.files.save_authority(&disk.issuer.authority).unwrap();
    let authority = disk.files.load_authority().unwrap().unwrap();
    assert_eq!(authority.fingerprint(), disk.issuer.authority.fingerprint());
    disk.chmod("authority.key", 0o644);
    let exposed = disk.files.load_authority();
    assert!(matches!(exposed, Err(IdentityError::KeyExposed { .. })));
}

#[test]
fn start_numbers_only_grow() {
    let disk = on_disk();
    assert_eq!(disk.files.next_start(1_000).unwrap(), 1_000);
    assert_eq!(disk.files.next_start(900).unwrap(), 1_001, "the wall clock went back");
    assert_eq!(disk.files.next_start(5_000).unwrap(), 5_000);
    std::fs::write(disk.path("start"), "x").unwrap();
    assert!(disk.files.next_start(6_000).is_err());
}

/// A file beside the test program, gone with this.
struct Bare(std::path::PathBuf);

impl Drop for Bare {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_named_without_a_directory_is_written_where_one_stands() {
    let bare = Bare(format!("operator-{}.pem", std::process::id()).into());
    for text in ["old", "new"] {
        can_write(&bare.0).unwrap();
        write_file(&bare.0, text.as_bytes(), 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&bare.0).unwrap(), text);
    }
}

#[test]
fn what_can_not_be_written_is_told_before_anything_is_spent() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/operator.pem");
    for path in [directory.path(), &missing] {
        assert!(matches!(can_write(path), Err(IdentityError::File { .. })), "{path:?}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
    can_write(&directory.path().join("operator.pem")).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
}
