"""worker.py LIBRARY PORT SCENARIO [NUMBER [NUMBER]]: does the work of one scenario with one library, and says what it saw as JSON.

benches/peers/README.md has the scenarios. Libraries are used as they come, but for the lease, which each is told.
"""

import json
import sys
import threading
import time

import redis

HOLD_S = 0.001


def redis_lock(port, _clients):
    from redis_lock_client import LockClient

    client = LockClient(redis.Redis(port=port))

    def acquire(name, lease_s=30):
        return client.acquire(name, lease=lease_s)

    return acquire, lambda held: held.release()


def redis_py(port, clients):
    client = redis.Redis(connection_pool=redis.ConnectionPool(port=port, max_connections=clients + 8))

    def acquire(name, lease_s=30):
        lock = client.lock(name, timeout=lease_s)
        lock.acquire()
        return lock

    return acquire, lambda lock: lock.release()


def python_redis_lock(port, clients):
    import redis_lock as other

    client = redis.StrictRedis(connection_pool=redis.ConnectionPool(port=port, max_connections=clients + 8))

    def acquire(name, lease_s=30):
        lock = other.Lock(client, name, expire=lease_s)
        lock.acquire()
        return lock

    return acquire, lambda lock: lock.release()


LIBRARIES = {"redis-lock": redis_lock, "redis-py": redis_py, "python-redis-lock": python_redis_lock}


def pairs(acquire, release, count):
    spans = []
    for number in range(count + 100):
        began = time.perf_counter_ns()
        release(acquire("pairs"))
        if number >= 100:
            spans.append((time.perf_counter_ns() - began) / 1000)
    return {"us": spans}


def contend(acquire, release, clients, ms):
    grants, waits = [0] * clients, [[] for _ in range(clients)]
    start = threading.Event()
    end = []

    def work(number):
        start.wait()
        while time.perf_counter() < end[0]:
            began = time.perf_counter_ns()
            held = acquire("contended")
            waits[number].append((time.perf_counter_ns() - began) / 1000)
            if time.perf_counter() < end[0]:
                grants[number] += 1
            time.sleep(HOLD_S)
            release(held)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    end.append(time.perf_counter() + ms / 1000)
    start.set()
    for thread in threads:
        thread.join()
    return {"grants": grants, "us": [span for spans in waits for span in spans]}


def hand_over(acquire, release, count):
    spans = []
    for _ in range(count):
        held = acquire("handed")
        returned = []

        def wait():
            mine = acquire("handed")
            returned.append(time.perf_counter_ns())
            release(mine)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.25)
        began = time.perf_counter_ns()
        release(held)
        thread.join()
        spans.append((returned[0] - began) / 1000)
    return {"us": spans}


def crowd(acquire, release, waiters):
    held = acquire("crowded")
    threads = [threading.Thread(target=lambda: release(acquire("crowded", 600))) for _ in range(waiters)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    began = time.perf_counter()
    release(held)
    for thread in threads:
        thread.join()
    return {"ms": (time.perf_counter() - began) * 1000}


def hold(acquire, _release, lease_ms):
    held = acquire("dying", lease_ms / 1000 if lease_ms else 30)
    print("held", flush=True)
    time.sleep(600)
    return {"held": bool(held)}


def wait(acquire, release):
    print("waiting", flush=True)
    held = acquire("dying")
    print("granted", flush=True)
    release(held)
    return {}


def main():
    library, port, scenario, *numbers = sys.argv[1:]
    numbers = [int(number) for number in numbers]
    work = {"pairs": pairs, "contend": contend, "hand-over": hand_over, "crowd": crowd, "hold": hold, "wait": wait}
    acquire, release = LIBRARIES[library](int(port), max(numbers[:1] or [1]))
    print(json.dumps(work[scenario](acquire, release, *numbers)), flush=True)


main()
