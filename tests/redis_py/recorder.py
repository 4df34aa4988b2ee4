"""Writes down what redis-py asks and is told, in the notation of checker/: see checker/src/notation.rs.

The library sends a call again by itself, so each try is a line. One whose reply did not come is `gave-up`: the connection is
closed by then, and whether the server did it is not known. Who asks is a pool and a connection of it, since threads share
those: `c0.7` is connection 7 of pool 0.
"""

import os
import subprocess
import threading
import time
import weakref

import redis

# A try has its reply within this time, what it was to wait not counted, or none: then the library gives up after 5 s.
TERMS = "terms fences=one-sequence patience=5000.000 claim=5000.000 writes=kept errors=DEADLOCK"
SHOWN = 4000


class Recorder:
    def __init__(self, errors=""):
        self.began, self.lines, self.lock, self.errors = time.monotonic(), [], threading.Lock(), errors
        self.numbers, self.by_port, self.connections = weakref.WeakKeyDictionary(), {}, 0

    def connection(self, pool, sock):
        """The name of a connection; a new one for one that was never seen open, which has no socket."""
        with self.lock:
            name = sock and self.numbers.get(sock)
            if not name:
                name = f"c{pool}.{self.connections}"
                self.connections += 1
                if sock:
                    self.numbers[sock] = name
                    self.by_port[sock.getsockname()[1]] = name
            return name

    def write(self, sent, answered, connection, ask, answer):
        times = [f"{(each - self.began) * 1000:12.3f}" for each in (sent, answered)]
        self.lines.append(f"{times[0]} {times[1]}  {connection:<6}  n0    {ask} => {answer}")

    def closing(self, port):
        """A connection that comes from this port is about to be closed, whatever it is used for."""
        now, connection = time.monotonic(), self.by_port.get(port)
        if connection:
            self.write(now, now, connection, "close", "done")

    def text(self):
        return "\n".join([TERMS + self.errors, *self.lines, ""])

    def checked(self, name):
        """What checker/ finds in the history, or nothing."""
        checker = os.environ.get("REDIS_LOCK_CHECKER")
        if not checker:
            print("not judged by checker/: REDIS_LOCK_CHECKER does not name its program", flush=True)
            return ""
        wanted = os.environ.get("REDIS_LOCK_HISTORY_FOLDER")
        folder = wanted or os.path.dirname(os.path.abspath(os.environ["REDIS_LOCK_MODULE"]))
        path = os.path.join(folder, f"redis-py-{name}.history")
        with open(path, "w") as file:
            file.write(self.text())
        found = subprocess.run([checker, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(f"checker: {found.stdout.splitlines()[-1]}", flush=True)
        if found.returncode == 0:
            if not wanted:
                os.remove(path)
            return ""
        return f"checker/ finds, in {path}:\n{found.stdout[:SHOWN]}"


class RecordingRedis(redis.Redis):
    """redis-py as it comes, but that it writes down each try."""

    def __init__(self, recorder, pool, port):
        self.recorder, self.pool_number = recorder, pool
        super().__init__("127.0.0.1", port)

    def _send_command_parse_response(self, conn, command_name, *words, **options):
        ask = as_written(words)
        if not ask:
            return super()._send_command_parse_response(conn, command_name, *words, **options)
        sent, answer = time.monotonic(), "gave-up"
        name = conn._sock and self.recorder.connection(self.pool_number, conn._sock)
        try:
            reply = super()._send_command_parse_response(conn, command_name, *words, **options)
            answer = answer_to(words[0], reply)
            return reply
        except redis.exceptions.ResponseError as error:
            answer = f"error {error}"
            raise
        finally:
            # What is not connected before connects when it sends; after a failure it is closed.
            name = name or self.recorder.connection(self.pool_number, conn._sock)
            self.recorder.write(sent, time.monotonic(), name, ask, answer)


def as_written(words):
    name, key, *rest = [word.decode() if isinstance(word, bytes) else str(word) for word in words]
    # What redis-py's own Lock sends: SET NX, and scripts with one key, its token, and for a new lease the milliseconds.
    if name == "SET":
        return f"acquire {key} {rest[0]} limit=1 lease={rest[rest.index('PX') + 1]}"
    if name == "EVALSHA":
        _, key, token, *lease = rest
        return f"extend {key} {token} lease={lease[0]}" if lease else f"release {key} {token}"
    if name == "PEXPIRE":
        return f"expire {key} ttl={rest[0]}"
    if name == "LOCK.INFO":
        return f"look {key}"
    if name == "LOCK.ACQUIRE":
        options = dict(zip(*[iter(valued(rest))] * 2))
        lease = options.get("PX") or int(options["EX"]) * 1000
        limit = options.get("LIMIT", "shared" if "SHARED" in options else "1")
        text = f"acquire {key} {options['TOKEN']} limit={limit} lease={lease}"
        for option in ("LEVEL", "BLOCK", "QUEUE"):
            if option in options:
                text += f" {option.lower()}={options[option]}"
        return text + (" session" if "SESSION" in options else "")
    if name in ("LOCK.RELEASE", "LOCK.EXTEND", "LOCK.CHECK"):
        text = f"{name[5:].lower()} {key} {rest[0]}"
        for option, value in zip(rest[1::2], rest[2::2]):
            if (option, value) != ("LEVEL", "1"):
                text += f" {'lease' if option == 'PX' else option.lower()}={value}"
        return text
    return None


def valued(words):
    """The options, each with a value."""
    for word in words:
        yield word
        if word in ("SHARED", "SESSION"):
            yield ""


def answer_to(name, reply):
    if name == "LOCK.INFO":
        queue = [each[b"owner"].decode() for each in reply[b"queue"]] if reply else []
        return " ".join(["queue", *queue])
    if reply is None:
        return "null"
    if name == "SET":
        return "granted 0"
    if name == "LOCK.ACQUIRE":
        return f"ticket {reply}" if isinstance(reply, int) else f"granted {reply[1]}"
    if name == "LOCK.CHECK":
        return f"held {reply[0]} {reply[1]}"
    return "yes" if reply else "no"
