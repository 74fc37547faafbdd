//! Parsers invert builders, and every subject belongs to its own stream only.

use forge_contract::{envelope::Target, ids::Submitter, shard::ShardId};

use super::*;

#[test]
fn shard_subjects_parse_back() {
    let (job, id) = ("a-1".parse::<JobId>().unwrap(), ShardId { height: 4, index: 17 });
    let result = (ShardMessageKind::Result, job.clone(), id);
    assert_eq!(parse_shard_message_subject(&result_subject(&job, id)), Some(result));
    let verdict = (ShardMessageKind::Verdict, job.clone(), id);
    assert_eq!(parse_shard_message_subject(&verdict_subject(&job, id)), Some(verdict));
    assert_eq!(parse_shard_subject(&shard_subject(Target::Any, &job, id)), Some((job.clone(), id)));
    assert_eq!(parse_shard_message_subject("forge.v1.results.a-1"), None);
    assert_eq!(parse_shard_message_subject("forge.v1.results.a-1.x"), None);
}

#[test]
fn submit_subjects_parse_back() {
    for name in ["default", "alice", "x-1_Y"] {
        let name = name.parse::<Submitter>().unwrap();
        assert_eq!(parse_submit_subject(&submit_subject(&name)).as_ref(), Some(&name));
        assert_eq!(parse_submit_subject(&api_submit_subject(&name)), Some(name));
    }
    let default = Submitter::default();
    assert_eq!(submit_subject(&default), SUBMIT_SUBJECT);
    assert_eq!(parse_submit_subject(SUBMIT_SUBJECT), parse_submit_subject(API_SUBMIT_SUBJECT));
    let invalid = ["forge.v1.jobs.submit.", "forge.v1.jobs.submit.a.b", "forge.v1.jobs.submitter"];
    for subject in invalid.into_iter().chain([API_STATUS_SUBJECT]) {
        assert_eq!(parse_submit_subject(subject), None, "{subject}");
    }
}

#[test]
fn every_subject_belongs_to_its_own_stream_only() {
    let (job, id) = ("j".parse::<JobId>().unwrap(), ShardId { height: 0, index: 0 });
    let subjects = [
        (SUBMIT_SUBJECT.to_owned(), Some(Stream::Jobs)),
        (submit_subject(&"alice".parse().unwrap()), Some(Stream::Jobs)),
        (api_submit_subject(&"alice".parse().unwrap()), None),
        (shard_subject(Target::Gpu, &job, id), Some(Stream::Shards)),
        (verification_subject(&job, id), Some(Stream::Verifications)),
        (reduce_subject(&job), Some(Stream::Reduce)),
        (end_subject(&job), Some(Stream::Reduce)),
        (result_subject(&job, id), Some(Stream::Results)),
        (verdict_subject(&job, id), Some(Stream::Results)),
        (job_ended_subject(&job), None),
        (API_CANCEL_SUBJECT.to_owned(), None),
    ];
    for (subject, expected) in subjects {
        let stores =
            |stream: &Stream| stream.subjects().iter().any(|filter| subject_matches(filter, &subject));
        let found: Vec<_> = Stream::ALL.into_iter().filter(stores).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{subject}");
    }
    assert!(job_subjects(&job).iter().all(|(_, filter)| !subject_matches(filter, "forge.v1.results.k.0-0")));
}

#[test]
fn filters_match_as_in_nats() {
    for (filter, subject) in [("a.*.c", "a.b.c"), ("a.>", "a.b.c"), ("a", "a")] {
        assert!(subject_matches(filter, subject), "{filter} {subject}");
    }
    for (filter, subject) in [("a.*", "a.b.c"), ("a.>", "a"), ("a.b", "a")] {
        assert!(!subject_matches(filter, subject), "{filter} {subject}");
    }
}
