"""The client where the server of a lock changes: Sentinels that fail over, a cluster whose slots move, TLS."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from support import Loop, Server, Task, Thread, eventually

import redis_lock_client
import redis_lock_client.asyncio

SLOTS = 16384
LEASE = 2.0
MASTER = "locks"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Cluster:
    """Two masters, that share the slots."""

    def __init__(self, test):
        self.nodes = []
        for _ in range(2):
            self.nodes.append(
                Server("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "5000"))  # fmt: skip
            test.addCleanup(self.nodes[-1].stop)
        self.direct = [redis.Redis(port=node.port) for node in self.nodes]
        half = SLOTS // 2
        self.direct[0].execute_command("CLUSTER ADDSLOTSRANGE", 0, half - 1)
        self.direct[1].execute_command("CLUSTER ADDSLOTSRANGE", half, SLOTS - 1)
        for number, each in enumerate(self.direct):
            each.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        bus = self.direct[1].config_get("cluster-port")["cluster-port"]
        self.direct[0].execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[1].port, bus)

        def ready():
            return all(
                each.cluster("info")["cluster_state"] == "ok" and len(each.cluster("nodes")) == 2 for each in self.direct)  # fmt: skip

        test.assertTrue(eventually(ready, 20))
        self.ids = [each.execute_command("CLUSTER MYID").decode() for each in self.direct]

    def slot(self, name):
        return self.direct[0].execute_command("CLUSTER KEYSLOT", name)

    def owner(self, name):
        return 0 if self.slot(name) < SLOTS // 2 else 1

    def begin_move(self, name, source):
        target = 1 - source
        self.direct[target].execute_command("CLUSTER SETSLOT", self.slot(name), "IMPORTING", self.ids[source])
        self.direct[source].execute_command("CLUSTER SETSLOT", self.slot(name), "MIGRATING", self.ids[target])

    def move_keys(self, name, source):
        slot, to = self.slot(name), self.nodes[1 - source].port
        for key in self.direct[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            self.direct[source].execute_command("MIGRATE", "127.0.0.1", to, key, 0, 5000)

    def end_move(self, name, source):
        for number in (1 - source, source):
            self.direct[number].execute_command("CLUSTER SETSLOT", self.slot(name), "NODE", self.ids[1 - source])


class Routes:
    """Each test has a client of one kind, and actors: `one` and `other`."""

    def setUp(self):
        self.one, self.other = self.actor(), self.actor()
        for each in (self.one, self.other):
            self.addCleanup(each.stop)

    def acquire(self, actor, client, name, **how):
        return actor.submit(client.acquire, name, **how)

    def survive(self, client, name, change, info, lease=LEASE, **how):
        """Somebody holds it and somebody waits, while `change` happens."""
        held = self.acquire(self.one, client, name, lease=lease, **how).result(20)
        waiting = self.acquire(self.other, client, name, lease=lease, wait=60)
        self.assertTrue(eventually(lambda: info().get(b"waiting") == 1, 10))
        change()
        # For longer than its lease.
        end = time.monotonic() + 1.5 * lease
        while time.monotonic() < end:
            self.assertTrue(held.held)
            self.assertFalse(waiting.done(), waiting.done() and (waiting.exception() or waiting.result()))
            time.sleep(0.05)
        self.assertTrue(eventually(lambda: info().get(b"held") == 1 and info().get(b"waiting") == 1, 10), info())
        self.assertTrue(self.one.submit(held.release).result(20))
        later = waiting.result(20)
        self.assertGreater(later.fence, held.fence)
        self.assertTrue(self.other.submit(later.release).result(20))
        self.assertTrue(eventually(lambda: not info(), 10))

    def test_a_slot_that_moves_takes_hold_and_waiter_along(self):
        cluster = Cluster(self)
        client = self.cluster_client(cluster)
        name, here = "moved", [cluster.owner("moved")]

        def move():
            source = here[0]
            cluster.begin_move(name, source)
            cluster.move_keys(name, source)
            # For a while it is on neither side for who does not ask.
            time.sleep(0.5)
            cluster.end_move(name, source)
            here[0] = 1 - source

        def info():
            with redis.Redis(port=cluster.nodes[here[0]].port, protocol=3) as direct:
                return direct.execute_command("LOCK.INFO", name) or {}

        self.survive(client, name, move, info)
        # And back.
        self.survive(client, name, move, info)

    def test_a_lock_of_a_slot_on_its_way_is_acquired_where_it_will_be(self):
        cluster = Cluster(self)
        client = self.cluster_client(cluster)
        name = "asked"
        source = cluster.owner(name)
        cluster.begin_move(name, source)
        held = self.acquire(self.one, client, name, wait=5).result(20)
        self.assertEqual(cluster.direct[1 - source].execute_command("CLUSTER COUNTKEYSINSLOT", cluster.slot(name)), 1)
        self.assertIsNone(self.acquire(self.other, client, name, wait=0).result(20))
        cluster.end_move(name, source)
        self.assertTrue(self.one.submit(held.extend).result(20))
        self.assertTrue(self.one.submit(held.release).result(20))

    def test_both_nodes_of_a_cluster_are_used(self):
        cluster = Cluster(self)
        client = self.cluster_client(cluster)
        for number in range(2):
            name = next(f"lock-{each}" for each in range(100) if cluster.owner(f"lock-{each}") == number)
            for how in ({}, {"session": True}):
                held = self.acquire(self.one, client, name, **how).result(20)
                self.assertTrue(cluster.direct[number].exists(name))
                self.assertTrue(self.one.submit(held.release).result(20))
                self.assertFalse(cluster.direct[number].exists(name))

    def test_a_failover_by_sentinels_takes_hold_and_waiter_along(self):
        servers = [Server() for _ in range(2)]
        for each in servers:
            self.addCleanup(each.stop)
        direct = [redis.Redis(port=each.port, protocol=3) for each in servers]
        direct[1].replicaof("127.0.0.1", servers[0].port)
        self.assertTrue(eventually(lambda: direct[1].info("replication").get("master_link_status") == "up", 20))
        sentinel = self.sentinel(servers[0].port)

        def accepted():
            try:
                return sentinel.execute_command("SENTINEL FAILOVER", MASTER)
            except redis.exceptions.ResponseError as error:
                # It has not looked at the replica yet.
                self.assertIn("NOGOODSLAVE", str(error))

        def fail_over():
            self.assertEqual(direct[0].wait(1, 5000), 1)
            self.assertTrue(eventually(accepted, 30))
            self.assertTrue(eventually(lambda: direct[1].info("replication")["role"] == "master", 30))
            # As the Sentinel does some ten seconds later. Until then there are two masters.
            direct[0].replicaof("127.0.0.1", servers[1].port)

        def info():
            master = direct[1] if direct[1].info("replication")["role"] == "master" else direct[0]
            return master.execute_command("LOCK.INFO", MASTER) or {}

        client = self.sentinel_client(sentinel.connection_pool.connection_kwargs["port"])
        # With less a master that is none any more confirms what nobody else knows of.
        self.survive(client, MASTER, fail_over, info, lease=12.0, replicas=1)

    def sentinel(self, master):
        folder = tempfile.mkdtemp(prefix="redis-lock-py-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        port, conf = free_port(), os.path.join(folder, "sentinel.conf")
        with open(conf, "w") as file:
            file.write(f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {MASTER} 127.0.0.1 {master} 1\n"
                       f"sentinel down-after-milliseconds {MASTER} 60000\nsentinel failover-timeout {MASTER} 10000\n")  # fmt: skip
        process = subprocess.Popen(
            [os.environ.get("REDIS_SERVER") or "redis-server", conf, "--sentinel"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        sentinel = redis.Redis(port=port)

        def knows_the_replica():
            try:
                return len(sentinel.execute_command("SENTINEL REPLICAS", MASTER)) == 1
            except redis.exceptions.ConnectionError:
                return False

        self.assertTrue(eventually(knows_the_replica, 30))
        return sentinel

    def test_tls(self):
        if not shutil.which("openssl"):
            self.skipTest("there is no openssl to make a certificate with")
        folder = tempfile.mkdtemp(prefix="redis-lock-py-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        key, certificate = os.path.join(folder, "key"), os.path.join(folder, "certificate")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        port = free_port()
        try:
            server = Server("--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key,
                            "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")  # fmt: skip
        except RuntimeError as error:
            self.skipTest(f"this server has no TLS: {str(error).splitlines()[-1]}")
        self.addCleanup(server.stop)
        client = self.client(host="127.0.0.1", port=port, ssl=True, ssl_ca_certs=certificate)
        with redis.Redis(port=server.port, protocol=3) as direct:
            for name, how in (("tls", {}), ("tls-session", {"session": True})):
                self.survive(
                    client, name, lambda: None, lambda name=name: direct.execute_command("LOCK.INFO", name) or {}, **how)  # fmt: skip


class Threads(Routes, unittest.TestCase):
    actor = staticmethod(Thread)

    def made(self, some):
        client = redis_lock_client.LockClient(some)
        self.addCleanup(client.close)
        return client

    def client(self, **settings):
        return self.made(redis.Redis(**settings))

    def cluster_client(self, cluster):
        return self.made(redis.RedisCluster("127.0.0.1", cluster.nodes[0].port))

    def sentinel_client(self, port):
        return self.made(redis.sentinel.Sentinel([("127.0.0.1", port)]).master_for(MASTER))


class Tasks(Routes, unittest.TestCase):
    actor = staticmethod(Task)

    def made(self, some):
        async def begin():
            given = some()
            return given, redis_lock_client.asyncio.LockClient(given)

        given, client = Loop.run(begin())
        self.addCleanup(lambda: Loop.run(given.aclose()))
        self.addCleanup(lambda: Loop.run(client.close()))
        return client

    def client(self, **settings):
        return self.made(lambda: redis.asyncio.Redis(**settings))

    def cluster_client(self, cluster):
        return self.made(lambda: redis.asyncio.RedisCluster("127.0.0.1", cluster.nodes[0].port))

    def sentinel_client(self, port):
        return self.made(lambda: redis.asyncio.sentinel.Sentinel([("127.0.0.1", port)]).master_for(MASTER))


if __name__ == "__main__":
    unittest.main()
