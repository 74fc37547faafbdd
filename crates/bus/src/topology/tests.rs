//! Subjects are read back as they are written, and belong to the stream they should.

use super::*;

#[test]
fn subjects_read_back() {
    let (job, id) = ("a-1".parse::<JobId>().unwrap(), ShardId { height: 4, index: 17 });
    assert_eq!(parse_outcome(&result(&job, id)), Some((Kind::Result, job.clone(), id)));
    assert_eq!(parse_outcome(&verdict(&job, id)), Some((Kind::Verdict, job.clone(), id)));
    assert_eq!(parse_shard(&shard(Target::Any, &job, id)), Some((job.clone(), id)));
    assert_eq!(parse_outcome("forge.v1.results.a-1"), None);
    assert_eq!(parse_outcome("forge.v1.results.a-1.x"), None);
}

#[test]
fn submitters_read_back() {
    for name in ["default", "alice", "x-1_Y"] {
        let name = name.parse::<Submitter>().unwrap();
        assert_eq!(submitter(&submit(&name)).as_ref(), Some(&name));
        assert_eq!(submitter(&api_submit(&name)), Some(name));
    }
    assert_eq!((submit(&Submitter::default()).as_str(), submitter(SUBMIT)), (SUBMIT, submitter(API_SUBMIT)));
    for nobody in ["forge.v1.jobs.submit.", "forge.v1.jobs.submit.a.b", "forge.v1.jobs.submitter", API_STATUS]
    {
        assert_eq!(submitter(nobody), None, "{nobody}");
    }
}

#[test]
fn every_subject_belongs_to_its_stream_and_to_no_other() {
    let (job, id) = ("j".parse::<JobId>().unwrap(), ShardId { height: 0, index: 0 });
    let subjects = [
        (SUBMIT.to_owned(), Some(Stream::Jobs)),
        (submit(&"alice".parse().unwrap()), Some(Stream::Jobs)),
        (api_submit(&"alice".parse().unwrap()), None),
        (shard(Target::Gpu, &job, id), Some(Stream::Shards)),
        (duplicate(&job, id), Some(Stream::Duplicates)),
        (reduce(&job), Some(Stream::Reduce)),
        (end(&job), Some(Stream::Reduce)),
        (result(&job, id), Some(Stream::Results)),
        (verdict(&job, id), Some(Stream::Results)),
        (ended(&job), None),
        (API_CANCEL.to_owned(), None),
    ];
    for (subject, expected) in subjects {
        let stores = |stream: &Stream| stream.subjects().iter().any(|filter| matches(filter, &subject));
        let found: Vec<_> = STREAMS.into_iter().filter(stores).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{subject}");
    }
    assert!(leavings(&job).iter().all(|(_, filter)| !matches(filter, "forge.v1.results.k.0-0")));
}

#[test]
fn filters_match_as_in_nats() {
    assert!(matches("a.*.c", "a.b.c") && matches("a.>", "a.b.c") && matches("a", "a"));
    assert!(!matches("a.*", "a.b.c") && !matches("a.>", "a") && !matches("a.b", "a"));
}
