"""Has the client do what the proofs of clients/conformance tell it to; their README.md has the language.

testee.py threads | asyncio
"""

import asyncio
import contextlib
import ctypes
import inspect
import json
import queue
import sys
import threading

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

import redis_lock_client
import redis_lock_client.asyncio
from redis_lock_client import errors

KINDS = {
    "NOTACQUIRED": errors.NotAcquiredError,
    "LOST": errors.LockLostError,
    "QUEUEFULL": errors.QueueFullError,
    "DEADLOCK": errors.DeadlockError,
    "NOPERM": errors.NotPermittedError,
    "WRONGTYPE": errors.WrongTypeError,
    "REPLICAS": errors.TooFewReplicasError,
    "CONNECTION": (redis.ConnectionError, redis.TimeoutError),
}


class Interrupted(BaseException):
    """What a thread is cancelled by, as KeyboardInterrupt does to the main thread."""


def in_seconds(options):
    return {name: value / 1000 if name in ("lease", "wait", "at_least", "delay") else value for name, value in options.items()}


def in_json(reply):
    if isinstance(reply, list):
        return [in_json(each) for each in reply]
    return reply.decode() if isinstance(reply, bytes) else reply


def failed(error):
    kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), "OTHER")
    return {"outcome": "error", "error": kind, "message": repr(error)}


class Testee:
    """What both kinds of client have in common. What a request comes to is a value, or for asyncio an awaitable of one."""

    # The library, and the client of locks.
    library = locks = None

    def __init__(self):
        self.clients, self.holds, self.lost, self.actors = {}, {}, {}, {}
        self.saying = threading.Lock()
        self.say({"ready": True, "protocols": [2, 3], "places": ["standalone", "sentinel", "cluster", "redlock"]})

    def say(self, what):
        with self.saying:
            print(json.dumps(what), flush=True)

    def connected(self, of):
        """A client of locks, and what it is made of."""
        settings = {"protocol": of["protocol"], "socket_timeout": of["timeout"] / 1000}
        if "user" in of:
            settings.update(username=of["user"], password=of["password"])
        if "ca" in of:
            settings.update(ssl=True, ssl_ca_certs=of["ca"])
        servers = [{"host": host, "port": port} for host, port in of["servers"]]
        if of["place"] == "redlock":
            return self.locks.Redlock([self.library.Redis(**server, **settings) for server in servers])
        if of["place"] == "cluster":
            client = self.library.RedisCluster(**servers[0], **settings)
        elif of["place"] == "sentinel":
            sentinels = self.library.sentinel.Sentinel(of["servers"])
            client = sentinels.master_for(of["master"], **settings)
        else:
            client = self.library.Redis(**servers[0], **settings)
        return self.locks.LockClient(client)

    def held(self, name, held):
        if held is None:
            return {"outcome": "none"}
        self.holds[name], fired = held, []
        self.lost[name] = fired
        held.on_lost(lambda: fired.append(True))
        return {"outcome": "held", "fence": held.fence, "token": held.token}

    def state(self, name):
        held = self.holds[name]
        return {"held": held.held, "remaining": held.remaining * 1000, "lost": len(self.lost[name])}

    def take(self, request):
        """Does what is to be done at once; what has an actor is done by that."""
        what = request["do"]
        if what == "cancel":
            for actor in self.actors.values():
                actor.cancel(request["of"])
            return {}
        if what == "state":
            return self.state(request["hold"])
        if what == "connect":
            self.clients[request["client"]] = self.connected(request)
            return {}
        if what == "close":
            return self.clients.pop(request["client"]).close()
        if request["by"] not in self.actors:
            self.actors[request["by"]] = self.actor()
        self.actors[request["by"]].todo.put_nowait(request)
        return None

    def act(self, request):
        if request["do"] == "acquire":
            client, options = self.clients[request["client"]], in_seconds(request["options"])
            if "names" in request:
                return client.acquire_all(request["names"], **options)
            return client.acquire(request["name"], **options)
        held = self.holds[request["hold"]]
        if request["do"] == "guard":
            return held.guard(*request["command"], name=request.get("name"))
        if request["do"] == "release":
            return held.release()
        return held.extend(**in_seconds(request["options"]))

    def outcome(self, request, result):
        if request["do"] == "guard":
            return {"reply": in_json(result)}
        return self.held(request["as"], result) if request["do"] == "acquire" else {"is": result}


class Thread(threading.Thread):
    """An actor: a thread that does one thing after the other."""

    def __init__(self, testee):
        super().__init__(daemon=True)
        self.testee, self.todo = testee, queue.Queue()
        self.doing, self.lock = None, threading.Lock()
        self.start()

    def run(self):
        while True:
            request = self.todo.get()
            outcome = {"outcome": "cancelled"}
            with contextlib.suppress(Interrupted):
                # What comes while this one is left is met by the one around it.
                with contextlib.suppress(Interrupted):
                    outcome = self.do(request)
                self.interruptible(None)
            self.testee.say({"id": request["id"], **outcome})

    def do(self, request):
        self.interruptible(request["id"])
        try:
            return self.testee.outcome(request, self.testee.act(request))
        except Exception as error:
            return failed(error)
        finally:
            self.interruptible(None)

    def interruptible(self, request):
        """From here on this request is, or none."""
        with self.lock:
            self.doing = request
        if request is None:
            # What was to come has not come yet.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), None)

    def cancel(self, request):
        """Once only: while a thread starts another, what is meant for the one may reach the other. test_interrupts.py
        interrupts twice, by signals."""
        with self.lock:
            if self.doing == request:
                self.doing = None
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(Interrupted))


class Threads(Testee):
    library, locks = redis, redis_lock_client

    def actor(self):
        return Thread(self)

    def run(self):
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = self.take(request)
            except Exception as error:
                reply = failed(error)
            if request["do"] in ("cancel", "state", "connect", "close"):
                self.say({"id": request["id"], **(reply or {})})


class Task:
    """An actor: a task that does one thing after the other."""

    def __init__(self, testee):
        self.testee, self.todo, self.doing = testee, asyncio.Queue(), None
        self.task = asyncio.create_task(self.run())

    async def run(self):
        while True:
            request = await self.todo.get()
            self.doing = request["id"]
            try:
                outcome = self.testee.outcome(request, await self.testee.act(request))
            except asyncio.CancelledError:
                outcome = {"outcome": "cancelled"}
            except Exception as error:
                outcome = failed(error)
            self.doing = None
            self.testee.say({"id": request["id"], **outcome})

    def cancel(self, request):
        if self.doing == request:
            self.task.cancel()


class Tasks(Testee):
    library, locks = redis.asyncio, redis_lock_client.asyncio

    def actor(self):
        return Task(self)

    async def answer(self, line):
        request = json.loads(line)
        try:
            reply = self.take(request)
            if inspect.isawaitable(reply):
                reply = await reply
        except Exception as error:
            reply = failed(error)
        if request["do"] in ("cancel", "state", "connect", "close"):
            self.say({"id": request["id"], **(reply or {})})

    def run(self):
        asyncio.run(self.read())

    async def read(self):
        lines = asyncio.StreamReader(limit=2**20)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        answering = set()
        async for line in lines:
            task = asyncio.create_task(self.answer(line))
            answering.add(task)
            task.add_done_callback(answering.discard)


{"threads": Threads, "asyncio": Tasks}[sys.argv[1]]().run()
