"""A proxy on the loopback that loses replies.

It reads requests and replies as RESP, so that a fault hits the reply of one LOCK.* command and not the handshake of the
library. What is lost is always the reply: the server has run the command.

Faults of a reply:
  swallow   it is not delivered and the connection stays open; nothing comes on it any more
  close     the connection is closed instead
  cut       half of it is delivered, then the connection is closed
  delay     it comes late
  trickle   it comes byte by byte
Fault of a request:
  late      it reaches the server late
"""

import random
import re
import socket
import threading
import time

# What a subscriber is sent: with RESP2 an array, like a reply.
MESSAGE = re.compile(rb">|\*3\r\n\$\d+\r\n(smessage|ssubscribe|sunsubscribe)\r\n")
REPLY_FAULTS = ("swallow", "close", "cut", "delay", "trickle")


def end_of_value(data, at=0):
    """Where the RESP value that begins at `at` ends, or None while it is not complete."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    kind, head, at = data[at : at + 1], data[at + 1 : line], line + 2
    if kind in b"$=!":
        end = at + max(int(head) + 2, 0) if int(head) >= 0 else at
        return end if end <= len(data) else None
    if kind in b"*~>%|":
        for _ in range(int(head) * (2 if kind in b"%|" else 1)):
            at = end_of_value(data, at)
            if at is None:
                return None
    return at


def words_of(request):
    """The words of a request, which is an array of bulk strings."""
    words, at = [], request.index(b"\r\n") + 2
    for _ in range(int(request[1 : at - 2])):
        line = request.index(b"\r\n", at)
        size = int(request[at + 1 : line])
        words.append(request[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return words


class RandomFaults:
    """Faults from a seed. `shares` says of each fault how likely it is, for one LOCK.* command."""

    def __init__(self, seed, **shares):
        self.random = random.Random(seed)
        self.shares = shares
        self.lock = threading.Lock()

    def _draw(self, faults):
        with self.lock:
            drawn = self.random.random()
        for fault in faults:
            drawn -= self.shares.get(fault, 0)
            if drawn < 0:
                return fault
        return None

    def of_request(self, words):
        return self._draw(("late",))

    def of_reply(self, words):
        return self._draw(REPLY_FAULTS)


class EachOnce:
    """The given fault for the first reply of every different command: the library repeats each of them once."""

    def __init__(self, fault, names=None):
        self.fault, self.names, self.hit = fault, names, set()

    def of_request(self, words):
        return None

    def of_reply(self, words):
        if tuple(words) in self.hit or (self.names and words[0].upper() not in self.names):
            return None
        self.hit.add(tuple(words))
        return self.fault


class OnceThen(EachOnce):
    """The same, and something happens before the client can repeat it."""

    def __init__(self, fault, names, then):
        super().__init__(fault, names)
        self.then = then

    def of_reply(self, words):
        fault = super().of_reply(words)
        if fault:
            self.then()
        return fault


class Connection:
    def __init__(self, proxy, client):
        self.proxy, self.client, self.port = proxy, client, client.getpeername()[1]
        self.server = socket.create_connection(("127.0.0.1", proxy.server_port))
        for each in (self.client, self.server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.asked, self.lock = [], threading.Lock()
        self.mute = self.client_gone = False
        self.running = 2
        for run in (self.requests, self.replies):
            threading.Thread(target=self.run, args=(run,), daemon=True).start()

    def run(self, run):
        run()
        with self.lock:
            self.running -= 1
            last = self.running == 0
        # Not before: the number of a closed socket may be in use again at once, and the other thread uses it.
        if last:
            self.client.close()
            self.server.close()

    def values_from(self, side):
        data = b""
        while True:
            end = end_of_value(data) if data else None
            if end is None:
                try:
                    more = side.recv(65536)
                except OSError:
                    return
                if not more:
                    return
                data += more
            else:
                yield data[:end]
                data = data[end:]

    def requests(self):
        for request in self.values_from(self.client):
            words = words_of(request)
            if words[0].upper().startswith(b"LOCK."):
                self.proxy.sent.append(words)
                if self.proxy.fault_of_request(words) == "late":
                    time.sleep(self.proxy.seconds)
                    if self.client_gone and not self.proxy.half_open:
                        break
            if not words[0].upper().endswith(b"SUBSCRIBE"):
                # A subscription is confirmed by a message.
                with self.lock:
                    self.asked.append(words)
            try:
                self.server.sendall(request)
            except OSError:
                break
        self.client_gone = True
        if not self.proxy.half_open:
            self.close()

    def replies(self):
        for reply in self.values_from(self.server):
            if MESSAGE.match(reply):
                if self.proxy.loses_messages and b"smessage" in reply:
                    self.proxy.count("message")
                else:
                    self.deliver(reply)
                continue
            with self.lock:
                # Nothing was asked where a subscription is refused.
                words = self.asked.pop(0) if self.asked else [b""]
            fault = None
            if words[0].upper().startswith(self.proxy.hits):
                self.proxy.replied.append((words, reply))
                fault = self.proxy.fault_of_reply(words)
            if fault == "swallow":
                self.mute = True
            elif fault == "close":
                break
            elif fault == "cut":
                self.deliver(reply[: max(1, len(reply) // 2)])
                break
            elif fault == "delay":
                time.sleep(self.proxy.seconds)
                self.deliver(reply)
            elif fault == "trickle":
                for at in range(len(reply)):
                    self.deliver(reply[at : at + 1])
                    time.sleep(self.proxy.seconds / 50)
            else:
                self.deliver(reply)
        self.close()

    def deliver(self, data):
        if not self.mute:
            try:
                self.client.sendall(data)
            except OSError:
                self.client_gone = True

    def close(self):
        self.client_gone = True
        for side in (self.client, self.server):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.proxy.forget(self)


class Proxy:
    """`faults` has of_request(words) and of_reply(words). `half_open` keeps the server's side of a connection open when
    the client has closed its own, as a firewall does that drops what it does not know."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.faults, self.half_open, self.seconds = None, False, 0.05
        # The replies to what begins so have faults. A transaction is told in that to EXEC.
        self.hits = (b"LOCK.",)
        # Those of sharded channels, for clients of RESP3.
        self.loses_messages = False
        # Told the client's port before a connection is cut.
        self.closing = lambda port: None
        self.sent, self.replied, self.counts = [], [], {}
        self.connections, self.lock = set(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                connection = Connection(self, client)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.connections.add(connection)
            if connection.running < 2:
                # It ended before it was in the list.
                self.forget(connection)

    def count(self, fault):
        if fault:
            with self.lock:
                self.counts[fault] = self.counts.get(fault, 0) + 1
        return fault

    def fault_of_request(self, words):
        return self.count(self.faults and self.faults.of_request(words))

    def fault_of_reply(self, words):
        return self.count(self.faults and self.faults.of_reply(words))

    def forget(self, connection):
        with self.lock:
            self.connections.discard(connection)

    def times_sent(self, name):
        return sum(words[0].upper() == name for words in list(self.sent))

    def replies_to(self, name):
        return [reply for words, reply in list(self.replied) if words[0].upper() == name]

    def cut(self, choose=None):
        """Closes the connections on both sides: all, or the one that `choose` takes from their list."""
        with self.lock:
            chosen = sorted(self.connections, key=id)
        for each in [choose(chosen)] if choose and chosen else chosen:
            self.closing(each.port)
            each.close()
            self.count("cut off")

    def stop(self):
        # A thread that accepts is not woken by close alone.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.cut()
