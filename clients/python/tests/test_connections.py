"""Connections that are closed, stand still, lead to a replica, or are many."""

import asyncio
import os
import signal
import threading
import unittest
from unittest import mock

import redis
import redis.asyncio
from redis.crc import key_slot
from support import Server, ServerTest, eventually

import redis_lock_client
import redis_lock_client.asyncio
from redis_lock_client import LockError


class Connections(ServerTest):
    def client(self, port=None, **settings):
        client = redis_lock_client.LockClient(redis.Redis(port=port or self.server.port, **settings))
        self.addCleanup(client.close)
        return client

    def with_asyncio(self, work, port=None, **settings):
        async def main():
            library = redis.asyncio.Redis(port=port or self.server.port, **settings)
            async with redis_lock_client.asyncio.LockClient(library) as client:
                await asyncio.wait_for(work(client), 20)

        asyncio.run(main())

    def test_a_client_that_is_closed_renews_nothing_and_connects_no_more(self):
        client = self.client()
        held = client.acquire(self.lock, lease=0.9)
        client.close()
        self.assertTrue(eventually(lambda: not held.held, 10))
        self.assert_nothing_left()
        for session in (False, True):
            with self.assertRaises(LockError):
                client.acquire(self.lock, wait=10, session=session)

        async def work(client):
            held = await client.acquire(self.lock, lease=0.9)
            await client.close()
            await asyncio.wait_for(held.lost.wait(), 10)
            for session in (False, True):
                with self.assertRaises(LockError):
                    await client.acquire(self.lock, wait=10, session=session)

        self.with_asyncio(work)
        self.assert_nothing_left()

    def test_who_waits_when_the_client_is_closed_is_told(self):
        self.direct.execute_command("LOCK.ACQUIRE", self.lock, "PX", 60000, "TOKEN", "other")
        client, told = self.client(), []

        def wait():
            try:
                client.acquire(self.lock)
            except LockError as error:
                told.append(error)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        self.assert_becomes(waiting=1)
        client.close()
        waiting.join(10)
        self.assertEqual(len(told), 1)

    def test_an_extension_of_a_session_ends_though_the_server_stands_still(self):
        client = self.client(socket_timeout=1)
        held = client.acquire(self.lock, session=True, lease=60, renew=False)

        def extend():
            with self.assertRaises(redis.exceptions.RedisError):
                held.extend(1.5)

        extending = threading.Thread(target=extend, daemon=True)
        os.kill(self.server.process.pid, signal.SIGSTOP)
        try:
            extending.start()
            extending.join(5)
            self.assertFalse(extending.is_alive() or held.held)
        finally:
            os.kill(self.server.process.pid, signal.SIGCONT)

        async def work(client):
            held = await client.acquire(self.lock, session=True, lease=60, renew=False)
            os.kill(self.server.process.pid, signal.SIGSTOP)
            try:
                with self.assertRaises(redis.exceptions.RedisError):
                    await asyncio.wait_for(held.extend(1.5), 5)
                self.assertFalse(held.held)
            finally:
                os.kill(self.server.process.pid, signal.SIGCONT)

        self.with_asyncio(work, socket_timeout=1)
        self.assert_nothing_left()

    def test_a_session_waits_for_longer_than_the_socket_timeout(self):
        client = self.client(socket_timeout=0.5)

        async def work(client):
            for wait in (20, None):
                self.direct.execute_command("LOCK.ACQUIRE", self.lock, "PX", 1500, "TOKEN", "other")
                held = await client.acquire(self.lock, session=True, wait=wait)
                self.assertTrue(await held.release())

        for wait in (20, None):
            self.direct.execute_command("LOCK.ACQUIRE", self.lock, "PX", 1500, "TOKEN", "other")
            self.assertTrue(client.acquire(self.lock, session=True, wait=wait).release())
        self.with_asyncio(work, socket_timeout=0.5)

    def test_a_server_that_has_become_a_replica_is_looked_up_again(self):
        other = Server()
        self.addCleanup(other.stop)

        def fail_over():
            """The name leads to another server from now on, and the connections that are open to the old one."""
            self.direct.execute_command("REPLICAOF", "127.0.0.1", other.port)
            self.proxy.server_port = other.port

        def go_back():
            self.direct.execute_command("REPLICAOF", "NO", "ONE")
            self.proxy.server_port = self.server.port

        self.addCleanup(go_back)
        client = self.client(self.proxy.port)
        self.assertTrue(client.acquire(self.lock).release())
        fail_over()
        self.assertTrue(client.acquire(self.lock, wait=10).release())
        go_back()

        async def work(client):
            self.assertTrue(await (await client.acquire(self.lock)).release())
            fail_over()
            self.assertTrue(await (await client.acquire(self.lock, wait=10)).release())

        self.with_asyncio(work, self.proxy.port)

    def test_any_number_may_ask_at_once(self):
        async def work(client):
            held = await client.acquire(self.lock)
            replies = await asyncio.gather(*(held.guard("INCR", "count") for _ in range(300)), return_exceptions=True)
            self.assertEqual(sorted(map(str, replies)), sorted(map(str, range(1, 301))))
            await held.release()

        self.with_asyncio(work)
        self.assertGreater(self.client()._server._single.connection_pool.max_connections, 100000)

    def test_a_session_goes_where_its_slot_is_on_the_way_to(self):
        nodes = [Server("--cluster-enabled", "yes") for _ in range(2)]
        direct = [redis.Redis(port=each.port) for each in nodes]
        for each in (*nodes, *direct):
            self.addCleanup(getattr(each, "stop", None) or each.close)
        ids = [each.execute_command("CLUSTER MYID") for each in direct]
        direct[0].execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        direct[0].execute_command("CLUSTER MEET", "127.0.0.1", nodes[1].port)
        for each in direct:
            self.assertTrue(eventually(lambda: b"cluster_state:ok" in raw(each, "CLUSTER INFO"), 20))
            self.assertTrue(eventually(lambda: all(id in raw(each, "CLUSTER NODES") for id in ids), 20))
        slot = key_slot(self.lock.encode())
        direct[1].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        direct[0].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        client = redis_lock_client.LockClient(redis.RedisCluster("127.0.0.1", nodes[0].port))
        self.addCleanup(client.close)
        held = client.acquire(self.lock, session=True, wait=10)
        inner = client.acquire(self.lock, wait=0)
        self.assertTrue(held.extend() and inner.release() and held.held and held.release())

        async def main():
            async with redis_lock_client.asyncio.LockClient(redis.asyncio.RedisCluster("127.0.0.1", nodes[0].port)) as client:
                held = await client.acquire(self.lock, session=True, wait=10)
                inner = await client.acquire(self.lock, wait=0)
                self.assertTrue(await held.extend() and await inner.release() and held.held and await held.release())

        asyncio.run(main())

    def test_a_session_has_its_replicas_confirm_on_its_own_connection(self):
        other = Server("--replicaof", "127.0.0.1", str(self.server.port))
        self.addCleanup(other.stop)
        self.assertTrue(eventually(lambda: self.direct.execute_command("WAIT", 1, 100) == 1, 20))

        def connection():
            return self.direct.execute_command("LOCK.INFO", self.lock)[b"holders"][0][b"session"]

        def patient(wait_for):
            return lambda *of: (*wait_for(*of)[:2], 4000)

        # The client gives the replicas a second, for which the machine may stand still.
        for module in (redis_lock_client._server, redis_lock_client.asyncio._server):
            self.enterContext(mock.patch.object(module, "wait_for", patient(module.wait_for)))
        client = self.client()
        held = client.acquire(self.lock, session=True, replicas=1)
        mine = connection()
        inner = client.acquire(self.lock)
        self.assertEqual(connection(), mine)
        self.assertTrue(held.extend() and inner.release() and held.release())

        async def work(client):
            held = await client.acquire(self.lock, session=True, replicas=1)
            mine = connection()
            inner = await client.acquire(self.lock)
            self.assertEqual(connection(), mine)
            self.assertTrue(await held.extend() and await inner.release() and await held.release())

        self.with_asyncio(work)


def raw(client, command):
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*command.split())
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


if __name__ == "__main__":
    unittest.main()
