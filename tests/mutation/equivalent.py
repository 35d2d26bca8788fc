"""
Mutants that no test can kill because they change nothing that is promised, each with its reason.

Guarantees: each name is one that the finder finds today (a test holds to that); the report prints every reason.
"""

EQUIVALENT: dict[str, str] = {
    "epoch:router/control/changes.py:since:2": "a short cut: the queries behind it find the same nothing",
    "epoch:router/control/tail.py:Tail._follow:3": "the epoch that was acknowledged before is acknowledged once more",
    "epoch:router/control/tail.py:Tail._keep_house.look:1": "a short cut: prune() finds by itself that nothing is old",
    "epoch:router/pipeline/follow.py:Following._gained_addresses:1": (
        "on the safe side: after missed changes more deliveries than needed are called back, and tried again at once"
    ),
    "turn:router/classify/flight.py:GatheredFind.find:1": (
        "a second start in the same turn finds no questions; they share one read less"
    ),
    "turn:router/daemon/beyond.py:Fetcher._unanswered:1": "two who hear of the same silence may both tell it",
    "turn:router/daemon/beyond.py:Fetcher._write_all:1": "one task writes, and nobody else begins a confirmation",
    "turn:router/daemon/companion.py:Companion._run_once:1": "one task runs the companion process",
    "turn:router/daemon/worker.py:Worker._joined:1": (
        "nothing is delivered and no hold is acknowledged before the member has joined, so nobody can come in between"
    ),
    "turn:router/daemon/nursery.py:Nursery.start:1": "to listen a second time to the same socket changes nothing",
    "turn:router/deliver/feeder.py:Feeder.feed:1": "one task feeds; nobody else looks at the time of the next revival",
    "turn:router/deliver/feeder.py:Feeder.feed:2": "one task feeds; nobody else knows when it will look ahead",
    "turn:router/deliver/feeder.py:Feeder._feed_lane:1": "one task feeds; the set names lanes to look at again",
    "turn:router/deliver/pool.py:Pool.close:1": "the reaper is cancelled already when the turn comes",
    "turn:router/directory/lookups.py:LdapLookups._join:2": "a second start in the same turn finds nobody waiting",
    "turn:router/spool/bodies.py:SpoolBody.write:1": "a body belongs to one session, which does one thing at a time",
    "turn:router/spool/bodies.py:SpoolBody.discard:1": "a body belongs to one session; giving it up twice is allowed",
    "turn:router/spool/spool.py:Spool.accept:1": "who comes in between is counted late: a message waits 4 ms, or not",
}
