//! Entries of the log: their one encoding, and every way in which a chain of them can be wrong.

use super::*;

fn identity(number: u8) -> Identity {
    Identity::from_random([number; 32])
}

fn entry(number: u64, previous: Option<Digest>) -> LogEntryDocument {
    LogEntryDocument {
        schema: LogEntryDocument::SCHEMA.to_owned(),
        number,
        previous,
        time: "2026-11-23T04:21:23.123Z".to_owned(),
        namespace: "jobs".to_owned(),
        job_id: format!("job-{number}").parse().unwrap(),
        job_uid: JobUid([number as u8; 16]),
        manifest: Digest::hash_parts(&[&number.to_le_bytes()]),
        signer: identity(1).id().clone(),
        signature: None,
    }
}

fn signed(entry: LogEntryDocument) -> Vec<u8> {
    entry.sign(&identity(1)).unwrap().1
}

/// The bytes of the first `count` entries.
fn log(count: u64) -> Vec<Vec<u8>> {
    let mut log: Vec<Vec<u8>> = Vec::new();
    for number in 1..=count {
        let previous = log.last().map(|before| Digest::hash_parts(&[before]));
        log.push(signed(entry(number, previous)));
    }
    log
}

/// The faults of each object.
fn faults(log: &[(u64, &[u8])]) -> Vec<Vec<LogFault>> {
    let mut chain = LogChain::new();
    log.iter().map(|(number, bytes)| chain.check(*number, Ok(bytes)).1).collect()
}

#[test]
fn intact_log_has_no_faults_and_a_position() {
    let mut chain = LogChain::new();
    assert_eq!(chain.position(), None);
    for (number, bytes) in (1..).zip(&log(3)) {
        let (entry, faults) = chain.check(number, Ok(bytes));
        assert_eq!((entry.unwrap().number, faults), (number, vec![]));
        let hash = Digest::hash_parts(&[bytes]);
        assert_eq!(chain.position(), Some(LogPosition { number, hash }));
    }
}

#[test]
fn bytes_are_canonical_and_their_signature_binds_every_member() {
    let (entry, bytes) = entry(2, Some(Digest([3; 32]))).sign(&identity(1)).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.starts_with(r#"{"job_id":"job-2","job_uid":"0202"#), "{text}");
    assert_eq!(LogEntryDocument::parse(&bytes), Ok(entry.clone()));
    assert!(entry.is_signature_valid());
    type Change = fn(&mut LogEntryDocument);
    let changes: [Change; 8] = [
        |entry| entry.number = 3,
        |entry| entry.previous = None,
        |entry| entry.time = "2026-11-23T04:21:23.124Z".to_owned(),
        |entry| entry.namespace = "other".to_owned(),
        |entry| entry.job_id = "job-3".parse().unwrap(),
        |entry| entry.job_uid = JobUid([9; 16]),
        |entry| entry.manifest = Digest([9; 32]),
        |entry| entry.signer = identity(2).id().clone(),
    ];
    for change in changes {
        let mut changed = entry.clone();
        change(&mut changed);
        assert!(!changed.is_signature_valid(), "{changed:?}");
    }
    // The same bytes signed under the domain of another statement.
    let payload = entry.signing_payload().unwrap();
    let json = payload.strip_prefix(b"forge/v1/log-entry\0".as_slice()).unwrap();
    let other = identity(1).sign(&[b"forge/v1/manifest\0", json].concat());
    assert!(!LogEntryDocument { signature: Some(other), ..entry }.is_signature_valid());
}

#[test]
fn every_kind_of_tampering_is_named() {
    let log = log(4);
    let missing = faults(&[(1, &log[0]), (3, &log[2]), (4, &log[3])]);
    assert_eq!(missing, [vec![], vec![LogFault::Gap { first: 2, last: 2 }], vec![]]);
    assert_eq!(missing[1][0].to_string(), "comes after a gap: entry 2 is missing");
    let [beheaded] = &faults(&[(4, &log[3])])[..] else { panic!() };
    assert_eq!(beheaded[0].to_string(), "comes after a gap: entries 1 to 3 are missing");

    // Signed again by its signer: only the next entry contradicts it.
    let previous = Some(Digest::hash_parts(&[&log[0]]));
    let replaced = signed(LogEntryDocument { namespace: "other".to_owned(), ..entry(2, previous) });
    let link = LogFault::BrokenLink {
        stated: Some(Digest::hash_parts(&[&log[1]])),
        found: Some(Digest::hash_parts(&[&replaced])),
    };
    assert!(link.to_string().starts_with("follows an entry with SHA-256 "), "{link}");
    let changed = faults(&[(1, &log[0]), (2, &replaced), (3, &log[2]), (4, &log[3])]);
    assert_eq!(changed, [vec![], vec![], vec![link], vec![]]);

    let moved = faults(&[(1, &log[0]), (2, &log[2])]);
    assert!(matches!(moved[1][..], [LogFault::WrongNumber(3), LogFault::BrokenLink { .. }]), "{moved:?}");
    let first = faults(&[(1, &log[1])]);
    assert!(
        matches!(first[0][..], [LogFault::WrongNumber(2), LogFault::BrokenLink { found: None, .. }]),
        "{first:?}"
    );
    let mut forged = LogEntryDocument::parse(&log[0]).unwrap();
    forged.job_id = "another".parse().unwrap();
    let forged = to_canonical_json(&forged).unwrap();
    assert_eq!(faults(&[(1, &forged)]), [[LogFault::InvalidSignature]]);

    // An entry may lack the hash of the one before only if that one is missing or unreadable.
    let orphan = signed(entry(2, None));
    let faults_after = |first: Result<&[u8], &str>| {
        let mut chain = LogChain::new();
        chain.check(1, first);
        chain.check(2, Ok(&orphan)).1
    };
    assert!(matches!(faults_after(Ok(&log[0]))[..], [LogFault::BrokenLink { .. }]));
    assert!(faults_after(Err("it is too large")).is_empty());
    let unreadable = LogChain::new().check(1, Err("it is too large")).1;
    assert_eq!(unreadable[0].to_string(), "cannot be read: it is too large");
}

#[test]
fn objects_that_are_no_entries_are_refused_with_the_reason() {
    let good = signed(entry(1, None));
    let text = String::from_utf8(good).unwrap();
    let refused = |text: &str| LogEntryDocument::parse(text.as_bytes()).unwrap_err().to_string();
    let replaced = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        refused(&text.replacen(from, to, 1))
    };
    assert!(refused("").starts_with("cannot be read: "));
    assert!(refused(&" ".repeat(MAX_LOG_ENTRY_BYTES + 1)).contains("too large"));
    assert_eq!(replaced("log-entry.v1", "log-entry.v2"), "has another schema than forge.log-entry.v1");
    assert_eq!(replaced("04:21", "4:21"), "has a time that is not written as 2026-11-23T04:21:23.123Z");
    assert_eq!(replaced(r#""jobs""#, r#""a.b""#), "names no valid namespace");
    assert_eq!(replaced("{", "{ "), "is not canonical JSON");
    assert!(replaced("{", r#"{"more":1,"#).contains("unknown field"));
    assert!(replaced("{", r#"{"number":1,"#).contains("number"), "a duplicate key");
    assert!(replaced(r#""number":1"#, r#""number":9007199254740993"#).contains("number"));
    let unsigned = LogEntryDocument { signature: None, ..LogEntryDocument::parse(text.as_bytes()).unwrap() };
    let unsigned = String::from_utf8(to_canonical_json(&unsigned).unwrap()).unwrap();
    assert_eq!(refused(&unsigned), "is not signed");
    // A key of order 1, under which anyone can sign.
    let weak = "UAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABVBG";
    assert!(replaced(identity(1).id().as_str(), weak).contains("not weak"));
    assert!(entry(MAX_LOG_NUMBER + 1, None).sign(&identity(1)).is_err());
}

#[test]
fn positions_are_a_number_and_a_hash() {
    let position = LogPosition { number: 17, hash: Digest([0x8f; 32]) };
    assert_eq!(position.to_string().parse(), Ok(position));
    let hash = position.hash;
    for text in [format!("{hash}"), format!("+1:{hash}"), format!("0:{hash}"), "1:8f".to_owned()] {
        assert_eq!(text.parse::<LogPosition>(), Err(InvalidLogPosition), "{text}");
    }
}
