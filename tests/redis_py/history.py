"""Judges what clients were told.

A hold is certain from the moment its grant was told until the earliest of: its release was sent; its lease may have ended.
Its lease began when the server ran the command, which was not before the command was sent; so from the sending on it is
certain for that long, and for a grant that was waited for this is often no time at all.

A hold is left out of that only in these cases, each counted:
  told too late    by the time the grant was told its lease may have been over: nothing was certain at any moment
"""

from dataclasses import dataclass, field

# The server counts leases in whole milliseconds: one may end that much early, by the clock here.
TICK = 0.001


@dataclass
class Hold:
    thread: int
    key: str
    shared: bool
    token: str
    fence: int
    sent: float  # before ACQUIRE was sent for the first time
    told: float  # its reply was read
    lease: float
    release_sent: float = float("inf")
    release_told: float = float("inf")
    # (sent, told, lease, done) of each EXTEND and of each ACQUIRE of an inner level, in order. `done` is None when its
    # reply never came.
    extensions: list = field(default_factory=list)

    def certain(self):
        end = self.sent + self.lease
        for sent, _, lease, done, inner in self.extensions:
            if done and inner:
                end = max(end, sent + lease)
            elif done:
                end = sent + lease
            elif not inner:
                # Ran or not: certain is what holds in both cases.
                end = min(end, sent + lease)
        return self.told, min(self.release_sent, end - TICK)


def judge(holds, samples=()):
    """What is wrong, as lines of text; and what was counted."""
    wrong, counted = [], {"holds": len(holds), "certain": 0, "told too late": 0, "pairs": 0, "samples": len(samples)}
    by_key = {}
    for hold in holds:
        by_key.setdefault(hold.key, []).append(hold)
    for key, all_of_key in by_key.items():
        certain = []
        for hold in all_of_key:
            start, end = hold.certain()
            if start < end:
                certain.append((start, end, hold))
            else:
                counted["told too late"] += 1
            wrong += lost_too_early(hold)
        counted["certain"] += len(certain)
        wrong += overlapping(key, certain, counted)
        wrong += fallen_fences(key, all_of_key)
    wrong += ghosts(holds, samples)
    return wrong, counted


def overlapping(key, certain, counted):
    open_now, wrong = [], []
    for start, end, hold in sorted(certain, key=lambda each: each[:2]):
        open_now = [each for each in open_now if each[0] > start]
        for other_end, other in open_now:
            counted["pairs"] += 1
            if not (hold.shared and other.shared) and hold.token != other.token:
                both = min(end, other_end) - start
                wrong.append(f"two holders of {key} for {both * 1000:.1f} ms: {other} and {hold}")
        open_now.append((end, hold))
    return wrong


def fallen_fences(key, holds):
    """Who asked after another had been told has the higher fence. Holds are the first grants: a retry has the old fence."""
    wrong, highest, told = [], None, sorted(holds, key=lambda each: each.told)
    at = 0
    for hold in sorted(holds, key=lambda each: each.sent):
        while at < len(told) and told[at].told < hold.sent:
            if highest is None or told[at].fence > highest.fence:
                highest = told[at]
            at += 1
        if highest and highest.fence >= hold.fence:
            wrong.append(f"the fence of {key} fell: {highest}, then {hold}")
    fences = [hold.fence for hold in holds]
    if len(set(fences)) < len(fences):
        wrong.append(f"a fence of {key} was given twice")
    return wrong


def lost_too_early(hold):
    """An EXTEND or an inner level was refused while the hold was certain."""
    wrong, known = [], Hold(**{**hold.__dict__, "extensions": [], "release_sent": float("inf")})
    for extension in hold.extensions:
        sent, told, _, done, _ = extension
        if done is False and told < known.certain()[1]:
            wrong.append(f"lost before its lease was over, refused at {told}: {hold}")
        known.extensions.append(extension)
    return wrong


def ghosts(holds, samples):
    """LOCK.INFO, asked after a release was told, still shows the token. Samples are (sent, key, owners)."""
    released = {hold.token: hold.release_told for hold in holds}
    return [
        f"{token} is on {key} at {sent}, released at {released[token]}"
        for sent, key, owners in samples
        for token in owners
        if released.get(token, float("inf")) < sent
    ]
