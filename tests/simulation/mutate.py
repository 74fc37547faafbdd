#!/usr/bin/env python3
"""Plants known bugs in a copy of the services, one at a time, and checks that the simulation finds
each of them: `python3 tests/simulation/mutate.py [NAME…]`. Takes an hour on two cores.

A bug is a replacement of text that occurs exactly once in its file, so that a change of the services
which moves the place is noticed.
"""

import filecmp
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "target" / "mutations"
# Seeds within which every bug must be found.
SEEDS = int(os.environ.get("SEEDS", "300"))

PLANNER, AGGREGATOR, SERVICE = "services/planner/src/", "services/aggregator/src/", "crates/service/src/"
VERIFIER = "services/verifier/src/"

# Name, what is wrong, file, text, replacement.
MUTATIONS = [
    (
        "ack-before-record", "a submission is acknowledged although its admission failed",
        PLANNER + "submission_handler.rs",
        'Err(error) => return retry_later("admitting the submission", &error),',
        "Err(_) => return Settlement::Ack,",
    ),
    (
        "lost-dedup", "a second submission of an id replaces the record of the first",
        SERVICE + "job_records.rs",
        "let revision = bus.compare_and_set(bucket, record.job_id.as_str(), json(record).into(), None).await?;",
        "let revision = Some(bus.put(bucket, record.job_id.as_str(), json(record).into()).await?);",
    ),
    (
        "overwritten-end", "a terminal record is changed",
        SERVICE + "job_records.rs",
        "if record.state.is_terminal() || !change(&mut record) {",
        "if !change(&mut record) {",
    ),
    (
        "quota-race", "a charge overwrites that of another planner",
        PLANNER + "quota_ledger.rs",
        "if self.bus.compare_and_set(&bucket, key, json.into(), revision).await?.is_some() {",
        "let _ = revision;\n            if self.bus.put(&bucket, key, json.into()).await.is_ok() {",
    ),
    (
        "quota-kept", "the quota of ended jobs is not released",
        PLANNER + "quota_ledger.rs",
        "Ok::<_, BusError>((!ended).then_some(name))",
        "let _ = ended;\n            Ok::<_, BusError>(Some(name))",
    ),
    (
        "lost-redispatch", "a shard that was taken and never answered is not dispatched again",
        PLANNER + "job_driver/dispatcher.rs",
        "*self.overdue.entry(shard).or_default() += 1;\n            self.in_flight.remove(&shard);\n"
        "            self.queue_retry(shard);\n",
        "*self.overdue.entry(shard).or_default() += 1;\n",
    ),
    (
        "ignored-reopening", "a shard whose accepted result was refuted is not dispatched again",
        PLANNER + "job_driver/dispatcher.rs",
        "if self.withdraw_acceptance(shard) {\n                    self.queue_retry(shard);",
        "if self.withdraw_acceptance(shard) {",
    ),
    (
        "lost-order", "an order to reduce is acknowledged although the job was not reduced",
        AGGREGATOR + "job_reducer.rs",
        'Err(error) => return retry_later("reading the record of a job to reduce", &error),',
        "Err(_) => return Settlement::Ack,",
    ),
    (
        "result-counted-twice", "a second result of a shard is merged again",
        AGGREGATOR + "reduction/receipt.rs",
        "if is_accepted || self.limits.is_rejected(task_id, pool) {\n            return",
        "if is_accepted {\n            self.accepted.remove(&position);\n        }\n"
        "        if self.limits.is_rejected(task_id, pool) {\n            return",
    ),
    (
        "verdict-ignored", "a refuted result stays accepted",
        AGGREGATOR + "result_collector/verdict_check.rs",
        "VerdictEffect::RestartRequired => Err(Interruption::RestartRequired),",
        "VerdictEffect::RestartRequired => Ok(()),",
    ),
    (
        "unverified-end", "a job completes before its results are verified",
        AGGREGATOR + "reduction.rs",
        "self.run_end.is_some() && self.verifications.is_empty()",
        "self.run_end.is_some()",
    ),
    (
        "early-purge", "the messages of a job that is being reduced are removed by the janitor",
        AGGREGATOR + "janitor.rs",
        "messages.into_iter().filter(|(uid, _)| !orders.contains(uid))",
        "messages.into_iter().filter(|(uid, _)| orders.contains(uid) || !orders.contains(uid))",
    ),
    (
        "left-verdicts", "verdicts that arrive after the end of their job stay",
        AGGREGATOR + "janitor.rs",
        "const STREAMS: [Stream; 4] = "
        "[Stream::Shards, Stream::Verifications, Stream::Results, Stream::Verdicts];",
        "const STREAMS: [Stream; 3] = [Stream::Shards, Stream::Verifications, Stream::Results];",
    ),
    (
        "left-error", "error.json that an aggregator stored before the next one completed the job stays",
        AGGREGATOR + "termination.rs",
        "        // An order to end the job may have stored one, unaware of the completion.\n"
        "        self.remove_error_document(&record, uid).await;\n",
        "        let _ = self.remove_error_document(&record, uid);\n",
    ),
    (
        "left-error-of-order", "error.json that a cancellation stores after the job has completed stays",
        AGGREGATOR + "termination.rs",
        "        self.remove_error_document(&record, job_uid).await;\n",
        "        let _ = self.remove_error_document(&record, job_uid);\n",
    ),
    (
        "stuck-reducing", "a job that is taken over stays in state `reducing`",
        AGGREGATOR + "result_collector.rs",
        "            record.state = JobState::Running;\n",
        "            record.state = record.state.max(JobState::Running);\n",
    ),
    (
        "missing-log-entry", "a job is recorded as completed before its manifest is in the log",
        AGGREGATOR + "publisher.rs",
        "        self.record_in_log(completed, &manifest, stored_before).await?;\n",
        "        let _ = self.record_in_log(completed, &manifest, stored_before);\n",
    ),
    (
        "stale-absence", "a record or key that a stale read does not show is taken for none",
        SERVICE + "job_records.rs",
        "let is_last = started.elapsed() >= MISSING_RECORD_GRACE_PERIOD;",
        "let is_last = started.elapsed() >= Duration::ZERO;",
    ),
    (
        "uncounted-failures", "attempts of workers that fail are not counted",
        PLANNER + "job_driver/dispatcher.rs",
        "        failed.push(task);\n",
        "        let _ = &mut *failed;\n",
    ),
    (
        "lost-reopening", "shards whose accepted results a next aggregator does not find stay closed",
        AGGREGATOR + "result_collector.rs",
        "        self.reduction.reopen(lost);\n",
        "        drop(lost);\n",
    ),
    (
        "dropped-verdict", "a verdict is dropped because a stale read does not show its verifier",
        AGGREGATOR + "result_collector/verdict_check.rs",
        "        self.deferred_verdicts.push(shard, verdict);\n",
        "        drop(verdict);\n",
    ),
    (
        "unexecuted-verdict", "a verifier confirms a result without a comparison",
        VERIFIER + "verifier.rs",
        "let judgement = if execution.hash == claim.result_hash {",
        "let judgement = if execution.hash == claim.result_hash || claim.pool == claim.pool {",
    ),
    (
        "left-key", "the key of an ended job stays",
        AGGREGATOR + "termination.rs",
        "        job_keys::delete(self.bus.as_ref(), job).await?;\n",
        "        let _ = job_keys::delete(self.bus.as_ref(), job);\n",
    ),
]


def run(*command, **arguments):
    return subprocess.run(command, cwd=COPY, text=True, capture_output=True, **arguments)


def prepare():
    """Copies the working tree. A file that has not changed keeps its time, so it is not compiled
    again. The copy has build results of its own."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, text=True, capture_output=True).stdout
    for name in names.splitlines():
        source, target = ROOT / name, COPY / name
        if source.is_file() and not (target.is_file() and filecmp.cmp(source, target, shallow=False)):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def build():
    cargo = os.environ.get("CARGO", "cargo")
    built = run(cargo, "test", "-p", "forge-simulation", "--locked", "--no-run")
    if built.returncode != 0:
        sys.exit(f"the build failed:\n{built.stderr[-4000:]}")
    return re.search(r"\((.*/simulation-[0-9a-f]+)\)", built.stderr).group(1)


def check(name, reason, file, old, new):
    """Returns the first seed that finds the bug, and what it says; `None` if none does."""
    path = COPY / file
    text = path.read_text()
    path.write_text(text.replace(old, new))
    try:
        binary = build()
        environment = dict(os.environ, SEEDS=str(SEEDS), RUST_BACKTRACE="0")
        tested = run(binary, "no_seed", "--nocapture", env=environment)
    finally:
        path.write_text(text)
    failures = re.findall(r"^seed (\d+): (.*)", tested.stderr, re.MULTILINE)
    found = min(((int(seed), said) for seed, said in failures), default=None)
    said = f"seed {found[0]}: {found[1][:120]}" if found else f"NOT FOUND within {SEEDS} seeds"
    print(f"{name}: {reason}: {said}", flush=True)
    return found


def main():
    prepare()
    chosen = [mutation for mutation in MUTATIONS if not sys.argv[1:] or mutation[0] in sys.argv[1:]]
    for name, _, file, old, _ in chosen:
        places = (COPY / file).read_text().count(old)
        if places != 1:
            sys.exit(f"{name}: {places} places in {file} look like:\n{old}")
    missed = [mutation[0] for mutation in chosen if check(*mutation) is None]
    if missed:
        sys.exit(f"not found: {', '.join(missed)}")


if __name__ == "__main__":
    main()
