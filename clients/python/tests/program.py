"""A client that test_kill.py kills: acquires a lock, works while it is renewed, releases it, again and again."""

import asyncio
import sys
import time

import redis
import redis.asyncio

import redis_lock_client
import redis_lock_client.asyncio

kind, port, name, lease = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
how = {"session": True} if "session" in kind else {}


def threads():
    client = redis_lock_client.LockClient(redis.Redis(port=port))
    while True:
        with client.lock(name, lease=lease, owner="program", **how):
            time.sleep(lease)


async def tasks():
    client = redis_lock_client.asyncio.LockClient(redis.asyncio.Redis(port=port))
    while True:
        async with client.lock(name, lease=lease, owner="program", **how):
            await asyncio.sleep(lease)


if "tasks" in kind:
    asyncio.run(tasks())
else:
    threads()
