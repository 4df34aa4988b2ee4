"""A plugin for pytest: the tests of redis-py take our classes for their own."""

import redis.asyncio.lock
import redis.lock

from redis_lock_client.lock_class import AsyncLock, Lock

redis.lock.Lock = Lock
redis.asyncio.lock.Lock = AsyncLock
