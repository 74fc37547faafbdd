//! Parsers invert builders, and every subject belongs to its own stream only.

use forge_contract::{
    envelope::Target,
    ids::{PoolName, Submitter},
    shard::ShardId,
};

use super::*;

const JOB: JobUid = JobUid([0xab; 16]);

#[test]
fn shard_subjects_parse_back() {
    let (pool, id) = ("blue".parse::<PoolName>().unwrap(), ShardId { height: 4, index: 17 });
    assert_eq!(parse_result_subject(&result_subject(&pool, JOB, id)), Some((pool.clone(), JOB, id)));
    assert_eq!(parse_verdict_subject(&verdict_subject(JOB, id)), Some((JOB, id)));
    assert_eq!(parse_reduce_subject(&reduce_subject(JOB)), Some(JOB));
    assert_eq!(parse_reduce_subject(&end_subject(JOB)), None);
    assert_eq!(parse_shard_subject(&shard_subject(Target::Any, JobLength::Short, JOB, id)), Some((JOB, id)));
    for length in JobLength::ALL {
        let verification = verification_subject(length, JOB, id);
        assert_eq!(parse_verification_subject(&verification), Some((JOB, id)), "{verification}");
        assert_eq!(parse_shard_subject(&shard_subject(Target::Gpu, length, JOB, id)), Some((JOB, id)));
    }
    let result = result_subject(&pool, JOB, id);
    assert!(subject_matches(&results_filter(JOB), &result));
    assert!(!subject_matches(&results_filter(JobUid([1; 16])), &result));
    assert_eq!(parse_result_subject(&verdict_subject(JOB, id)), None);
    for malformed in ["forge.v1.results.blue", "forge.v1.results.blue.a-1.4-17", "forge.v1.results.a b.x"] {
        assert_eq!(parse_result_subject(malformed), None, "{malformed}");
    }
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
    let (job, id, pool) = (JOB, ShardId { height: 0, index: 0 }, PoolName::default());
    let subjects = [
        (SUBMIT_SUBJECT.to_owned(), Some(Stream::Jobs)),
        (submit_subject(&"alice".parse().unwrap()), Some(Stream::Jobs)),
        (api_submit_subject(&"alice".parse().unwrap()), None),
        (shard_subject(Target::Gpu, JobLength::Short, job, id), Some(Stream::Shards)),
        (verification_subject(JobLength::Short, job, id), Some(Stream::Verifications)),
        (reduce_subject(job), Some(Stream::Reduce)),
        (end_subject(job), Some(Stream::Reduce)),
        (result_subject(&pool, job, id), Some(Stream::Results)),
        (verdict_subject(job, id), Some(Stream::Verdicts)),
        (outcomes_subject(job), Some(Stream::Verdicts)),
        (job_ended_subject(job), None),
        (API_CANCEL_SUBJECT.to_owned(), None),
    ];
    for (subject, expected) in &subjects {
        let stores =
            |stream: &Stream| stream.subjects().iter().any(|filter| subject_matches(filter, subject));
        let found: Vec<_> = Stream::ALL.into_iter().filter(stores).collect();
        assert_eq!(found, expected.iter().copied().collect::<Vec<_>>(), "{subject}");
    }
    for (subject, _) in subjects {
        let is_purged = job_subjects(job).iter().any(|(_, filter)| subject_matches(filter, &subject));
        assert_eq!(parse_job_of_message(&subject), is_purged.then_some(job), "{subject}");
    }
    // Orders may be in the hands of an aggregator that has not carried them out.
    for kept in [result_subject(&pool, JobUid([1; 16]), id), reduce_subject(job), end_subject(job)] {
        assert!(job_subjects(job).iter().all(|(_, filter)| !subject_matches(filter, &kept)), "{kept}");
    }
    for (stream, filter) in job_subjects(job) {
        let subjects = stream.subjects();
        assert!(subjects.iter().any(|all| subject_matches(all, &filter.replace('>', "x"))), "{filter}");
    }
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
