"""Judges what clients were told, simply. checker/ judges the same in its own way, from what recorder.py writes.

A hold is certain from the moment its grant was told until the earliest of: its release was sent; its lease may have ended.
Its lease began when the server ran the command, which was not before the command was sent; so from the sending on it is
certain for that long, and for a grant that was waited for this is often no time at all. A PEXPIRE that may have come after the
grant may end it, whatever was promised since.

Some holds are left out of that, each counted:
  told too late    by the time the grant was told its lease may have been over: nothing was certain at any moment
  sessions         they end with their connection, which is not looked at here
"""

from dataclasses import dataclass, field, replace

# The server counts leases in whole milliseconds: one may end that much early, by the clock here.
TICK = 0.001
SHARED = float("inf")


@dataclass
class Hold:
    thread: int
    key: str
    most: float  # the highest limit it has had: how many holds it tolerates, its own included
    token: str
    fence: int
    sent: float  # before ACQUIRE was sent for the first time
    told: float  # its reply was read
    lease: float
    release_sent: float = float("inf")
    session: bool = False
    # (sent, told, lease, done, inner) of each EXTEND and of each further ACQUIRE, in order. `done` is None when its reply never
    # came. `inner` is an ACQUIRE with LEVEL, which makes no lease shorter.
    extensions: list = field(default_factory=list)
    # (sent, told, ttl) of each PEXPIRE of the key, `told` without end when its reply never came.
    expiries: list = field(default_factory=list, repr=False)

    def certain(self):
        if self.session:
            return self.told, self.told
        end = self.sent + self.lease
        for sent, _, lease, done, inner in self.extensions:
            if done and inner:
                end = max(end, sent + lease)
            elif done:
                end = sent + lease
            elif not inner:
                # Ran or not: certain is what holds in both cases.
                end = min(end, sent + lease)
        for sent, told, ttl in self.expiries:
            if told > self.sent:
                end = min(end, sent + ttl)
        return self.told, min(self.release_sent, end - TICK)


def judge(holds, samples=(), gone=None, expiries=()):
    """What is wrong, as lines of text; and what was counted. `samples` are (sent, key, owners) of LOCK.INFO, `gone` has for
    tokens the moment from which they must neither hold nor wait, `expiries` are (key, sent, told, ttl)."""
    wrong = []
    counted = {"holds": len(holds), "certain": 0, "told too late": 0, "sessions": 0, "pairs": 0, "samples": len(samples)}
    by_key = {}
    for hold in holds:
        hold.expiries = [each for key, *each in expiries if key == hold.key]
        by_key.setdefault(hold.key, []).append(hold)
    for key, all_of_key in by_key.items():
        certain = []
        for hold in all_of_key:
            start, end = hold.certain()
            if start < end:
                certain.append((start, end, hold))
            else:
                counted["sessions" if hold.session else "told too late"] += 1
            wrong += lost_too_early(hold)
        counted["certain"] += len(certain)
        wrong += overlapping(key, certain, counted)
    wrong += fallen_fences(holds)
    wrong += ghosts(samples, gone or {})
    return wrong, counted


def overlapping(key, certain, counted):
    """More holds at a time than one of them tolerates."""
    open_now, wrong = [], []
    for start, end, hold in sorted(certain, key=lambda each: each[:2]):
        open_now = [each for each in open_now if each[0] > start] + [(end, hold)]
        counted["pairs"] += len(open_now) - 1
        if len(open_now) > min(each.most for _, each in open_now):
            both = min(each[0] for each in open_now) - start
            names = " and ".join(str(each) for _, each in open_now)
            wrong.append(f"{len(open_now)} holders of {key} for {both * 1000:.1f} ms: {names}")
    return wrong


def fallen_fences(holds):
    """Who asked after another had been told has the higher fence. Holds are the first grants: a retry has the old fence."""
    wrong, highest, told = [], None, sorted(holds, key=lambda each: each.told)
    at = 0
    for hold in sorted(holds, key=lambda each: each.sent):
        while at < len(told) and told[at].told < hold.sent:
            if highest is None or told[at].fence > highest.fence:
                highest = told[at]
            at += 1
        if highest and highest.fence >= hold.fence:
            wrong.append(f"a fence fell: {highest}, then {hold}")
    if len({hold.fence for hold in holds}) < len(holds):
        wrong.append("a fence was given twice")
    return wrong


def lost_too_early(hold):
    """An EXTEND or an inner level was refused while the hold was certain."""
    wrong, known = [], replace(hold, extensions=[], release_sent=float("inf"))
    for extension in hold.extensions:
        sent, told, lease, done, inner = extension
        # The library may have sent it before, and the reply was lost: then that has set the lease.
        end = known.certain()[1] if inner else min(known.certain()[1], sent + lease - TICK)
        if done is False and told < end:
            wrong.append(f"lost before its lease was over, refused at {told}: {hold}")
        known.extensions.append(extension)
    return wrong


def ghosts(samples, gone):
    """LOCK.INFO shows a token that must be gone: its release was told, or its client died so long ago."""
    return [
        f"{token} is on {key} at {sent}, and was to be gone by {gone[token]}"
        for sent, key, owners in samples
        for token in owners
        if gone.get(token, float("inf")) < sent
    ]
