"""checker - decides from what clients saw and what the instance says afterwards whether a promise was broken.

A history is a plain dictionary, so that a test can write a bad one by hand:
  submits    [{id, project, session, outcome: "ok" | "refused" | "unknown", jobId?, replies: [bytes, ...]}]
  jobs       {jobId: job as drafter.job answers it, or None when it was not found}
  listed     {project: [jobId, ...]}          every job the instance lists for the project
  versions   {project: [{version, author, jobId?}, ...]}   any order
  puts       {project: number of acknowledged drafter.document.put}
  events     {session: [json text, ...]}      as read from drafter.events, from the first
  live       {session: {seq: json text}}      as heard on the event socket
  followed   {session: [json text, ...]}      what libstet's subscriber handed out (`stet watch`)
  problems   [...]                            of drafter.check and probe.check
and, when there were writers of probe values, each key with one writer that counts up and waits for each answer:
  writes     {key: {sent, acked, last}}       highest number sent and acknowledged; last: what is there in the end, 0 for nothing
  reads      [{key, acked, value, sent}, ...] by others meanwhile, in order; acked: before the read, sent: after it
  bursts     [{key, sent: [number, ...], resent, value}, ...]   put one after the other without waiting, all acknowledged in
                                              the end; resent: some only as a further copy; value: read after that
"""

import json

FINAL = ("done", "error", "cancelled")


def check(history):
    """The list of violations, each beginning with the name of the invariant; empty when all is well."""
    found = []
    for rule in RULES:
        found += [f"{rule.__name__}: {text}" for text in rule(history)]
    return found


def acknowledged_is_there(history):
    for submit in history["submits"]:
        if submit["outcome"] == "ok" and not history["jobs"].get(submit["jobId"]):
            yield f"job {submit['jobId']} of request {submit['id']} was acknowledged and is gone"


def one_job_per_request(history):
    owner = {}
    for submit in history["submits"]:
        if submit["outcome"] != "ok":
            continue
        other = owner.setdefault(submit["jobId"], submit["id"])
        if other != submit["id"]:
            yield f"requests {other} and {submit['id']} were both answered with job {submit['jobId']}"
    for project, listed in history["listed"].items():
        mine = [s for s in history["submits"] if s["project"] == project and s["outcome"] != "refused"]
        acked = {s["jobId"] for s in mine if s["outcome"] == "ok"}
        unknown = sum(s["outcome"] == "unknown" for s in mine)
        extra = set(listed) - acked
        if len(listed) != len(set(listed)):
            yield f"project {project} lists a job twice"
        if len(extra) > unknown:
            yield f"project {project} has {len(extra)} jobs that nobody asked for, {unknown} requests are unknown"


def same_answer_to_a_repeat(history):
    for submit in history["submits"]:
        if len(set(submit["replies"])) > 1:
            yield f"request {submit['id']} got different answers to its repeats"


def one_final_state(history):
    for job_id, job in history["jobs"].items():
        if job and job["status"] not in FINAL:
            yield f"job {job_id} ended as {job['status']}"


def one_version_per_done_job(history):
    for project, versions in history["versions"].items():
        numbers = sorted(v["version"] for v in versions)
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"project {project} has versions {numbers}"
        users = sum(v["author"] == "user" for v in versions)
        if users != history["puts"].get(project, 0):
            yield f"project {project} has {users} versions by users, {history['puts'].get(project, 0)} were acknowledged"
    written = {}
    for versions in history["versions"].values():
        for version in versions:
            if version.get("jobId"):
                written[version["jobId"]] = written.get(version["jobId"], 0) + 1
    for job_id, job in history["jobs"].items():
        expected = 1 if job and job["status"] == "done" else 0
        if job and written.get(job_id, 0) != expected:
            yield f"job {job_id} ({job['status']}) wrote {written.get(job_id, 0)} versions"


def attempts_never_overlap(history):
    spans = {}
    for job_id, job in history["jobs"].items():
        numbers = [a["attempt"] for a in job["attempts"]] if job else []
        if numbers != sorted(set(numbers)):
            yield f"job {job_id} has attempts {numbers}"
        for attempt in job["attempts"] if job else []:
            spans.setdefault(job["projectId"], []).append(
                (attempt["startedAt"], attempt.get("finishedAt") or "9999", job_id, attempt["attempt"]))
    for project, attempts in spans.items():
        attempts.sort()
        for before, after in zip(attempts, attempts[1:]):
            if after[0] < before[1]:
                yield f"project {project}: {after[2]} attempt {after[3]} began before {before[2]} attempt {before[3]} ended"


def events_without_gap(history):
    for session, texts in history["events"].items():
        numbers = [json.loads(text)["seq"] for text in texts]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"session {session} has numbers {numbers[:20]}..."


def heard_equals_stored(history):
    for session, heard in history["live"].items():
        stored = {json.loads(text)["seq"]: text for text in history["events"].get(session, [])}
        for seq, text in heard.items():
            if stored.get(seq) != text:
                yield f"session {session}: event {seq} was published as {text!r} and is stored as {stored.get(seq)!r}"


def followed_once_and_in_order(history):
    for session, texts in history["followed"].items():
        stored = history["events"].get(session, [])
        if texts != stored:
            at = next((i for i, (a, b) in enumerate(zip(texts, stored)) if a != b), min(len(texts), len(stored)))
            yield f"session {session}: the subscriber got {len(texts)} events, {len(stored)} are stored; they differ at {at + 1}"


def events_tell_the_life_of_a_job(history):
    seen = {}
    for texts in history["events"].values():
        for text in texts:
            event = json.loads(text)
            if event.get("jobId"):
                seen.setdefault(event["jobId"], []).append(event["status"])
    for job_id, job in history["jobs"].items():
        statuses = seen.get(job_id, [])
        finals = [s for s in statuses if s in FINAL]
        once = len(finals) == 1 or job and job.get("retries", 0) > 0  # an operator's retry is a further life
        if job and (not once or statuses[-1] != job["status"]):
            yield f"job {job_id} is {job['status']}, its events say {statuses}"


def acknowledged_put_is_there(history):
    for key, write in history.get("writes", {}).items():
        if write["last"] < write["acked"]:
            yield f"key {key}: {write['acked']} was acknowledged, {write['last']} is there"
    for read in history.get("reads", []):
        if read["value"] < read["acked"]:
            yield f"key {read['key']}: {read['acked']} was acknowledged before {read['value']} was read"


def only_what_was_put_is_there(history):
    for key, write in history.get("writes", {}).items():
        if write["last"] > write["sent"]:
            yield f"key {key}: {write['last']} is there, at most {write['sent']} was sent"
    for read in history.get("reads", []):
        if read["value"] > read["sent"]:
            yield f"key {read['key']}: {read['value']} was read when at most {read['sent']} had been sent"
    for burst in history.get("bursts", []):
        if burst["value"] not in burst["sent"]:
            yield f"key {burst['key']}: {burst['sent']} were acknowledged, {burst['value']} is there"


def puts_of_a_key_in_order(history):
    seen = {}
    for read in history.get("reads", []):
        before = seen.get(read["key"], 0)
        if read["value"] < before:
            yield f"key {read['key']}: {read['value']} was read after {before}"
        seen[read["key"]] = max(before, read["value"])
    for burst in history.get("bursts", []):
        if not burst["resent"] and burst["value"] != burst["sent"][-1]:
            yield f"key {burst['key']}: {burst['sent']} were sent in this order, {burst['value']} was the last applied"


def indexes_are_clean(history):
    for problem in history["problems"]:
        yield str(problem)


RULES = (acknowledged_is_there, one_job_per_request, same_answer_to_a_repeat, one_final_state, one_version_per_done_job,
         attempts_never_overlap, events_without_gap, heard_equals_stored, followed_once_and_in_order, events_tell_the_life_of_a_job,
         acknowledged_put_is_there, only_what_was_put_is_there, puts_of_a_key_in_order, indexes_are_clean)
