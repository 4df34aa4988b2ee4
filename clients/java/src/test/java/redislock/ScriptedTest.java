package redislock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.lettuce.core.RedisClient;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import redislock.Remote.Grant;

/** What depends on a reply that comes, or does not, at one moment. */
@Timeout(60)
class ScriptedTest {
    private static final AcquireOptions OPTIONS = AcquireOptions.defaults();
    private static final CompletableFuture<Object> GRANT = CompletableFuture.completedFuture(List.of(new byte[0], 7L));

    private static CompletableFuture<Object> number(long number) {
        return CompletableFuture.completedFuture(number);
    }

    @Test
    void aReleaseIsTriedForAsLongAsTheLeaseMayLast() throws Exception {
        var told = new ConcurrentLinkedQueue<Long>();
        AtomicBoolean answers = new AtomicBoolean(true);
        Remote remote = new Remote() {
            @Override
            public CompletableFuture<Optional<Grant>> acquire(Request request, Attempt.Wish wish) {
                throw new AssertionError();
            }

            @Override
            public CompletableFuture<Optional<Long>> extend(Request request, long lease, long until) {
                return answers.get() ? CompletableFuture.completedFuture(Optional.of(Tasks.now() + lease))
                        : CompletableFuture.failedFuture(Failure.noReply("It was lost.", null));
            }

            @Override
            public CompletableFuture<Optional<Boolean>> release(Request request, long lease, long keepUntil) {
                told.add(lease);
                return CompletableFuture.completedFuture(Optional.of(true));
            }

            @Override
            public CompletableFuture<Object> guard(Request request, String name, Object... command) {
                throw new AssertionError();
            }
        };
        Request request = new Request("x", OPTIONS, 0, null, "me");
        HeldLock held = new HeldLock(new Hold(remote, request, new Grant(7, Tasks.now() + request.lease)), request);
        assertTrue(held.extend(Duration.ofMinutes(1)));
        assertTrue(held.release());
        held = new HeldLock(new Hold(remote, request, new Grant(7, Tasks.now() + request.lease)), request);
        answers.set(false);
        HeldLock unsure = held;
        assertThrows(LockException.NoReply.class, () -> unsure.extend(Duration.ofMinutes(2)));
        assertTrue(held.release());
        assertEquals(List.of(60_000L, 120_000L), List.copyOf(told));
    }

    @Test
    void afterALostReplyTheReleaseOfRedlockIsNotKnown() throws Exception {
        AtomicInteger releases = new AtomicInteger();
        Locks locks = Redlock.of(List.of(new Scripted(Map.of(), (address, words) ->
                words.command().equals("LOCK.ACQUIRE") ? GRANT
                        : releases.incrementAndGet() > 1 ? number(0)
                        : CompletableFuture.failedFuture(Failure.noReply("It was lost.", null))).locks()));
        HeldLock held = locks.acquire("x");
        // As far as is known: it may have been held.
        assertTrue(held.release());
        assertFalse(held.lost().isDone());
        assertEquals(2, releases.get());
        locks.close();
    }

    @Test
    void aRenewalOfRedlockThatFindsNoLocksHasLostIt() throws Exception {
        Locks locks = Redlock.of(List.of(new Scripted(Map.of(), (address, words) ->
                words.command().equals("LOCK.ACQUIRE") ? GRANT : Scripted.error("WRONGTYPE It is a string.")).locks()));
        HeldLock held = locks.acquire("x");
        assertFalse(held.extend());
        held.lost().get(20, TimeUnit.SECONDS);
        locks.close();
    }

    @Test
    void aSessionFollowsASlotThatIsMoving() throws Exception {
        var seen = new ConcurrentLinkedQueue<String>();
        AtomicBoolean said = new AtomicBoolean();
        Locks locks = new Scripted(Map.of(0, "a:1"), (address, words) -> {
            seen.add(address + " " + words.command());
            if (address.equals("a:1")) {
                return words.command().equals("LOCK.RELEASE") ? number(1) : Scripted.error("ASK 0 b:2");
            }
            if (words.command().equals("ASKING")) {
                said.set(true);
                return CompletableFuture.completedFuture("OK");
            }
            return !said.getAndSet(false) ? Scripted.error("MOVED 0 a:1")
                    : words.command().equals("LOCK.ACQUIRE") ? GRANT : number(1);
        }).locks();
        HeldLock held = locks.tryAcquire("x", OPTIONS.session()).orElseThrow();
        // Also while it moves on.
        assertTrue(held.extend());
        assertTrue(held.release());
        assertEquals(List.of("a:1 LOCK.ACQUIRE", "b:2 ASKING", "b:2 LOCK.ACQUIRE", "b:2 ASKING", "b:2 LOCK.EXTEND",
                "a:1 LOCK.RELEASE"), List.copyOf(seen));
        locks.close();
    }

    @Test
    void whoAsksBeforeTheSubscriptionStandsAsksAgain() throws Exception {
        AtomicLong tickets = new AtomicLong();
        AtomicBoolean isFree = new AtomicBoolean();
        CompletableFuture<Object> subscribed = new CompletableFuture<>();
        Locks locks = new Scripted(Map.of(), (address, words) -> switch (words.command()) {
            case "SSUBSCRIBE" -> subscribed;
            case "LOCK.ACQUIRE" -> isFree.get() ? GRANT : number(tickets.incrementAndGet());
            default -> number(1);
        }).locks();
        CompletableFuture<?> both = CompletableFuture.allOf(
                locks.acquireAsync("x", OPTIONS.shared()), locks.acquireAsync("x", OPTIONS.shared()));
        LockServer.until(() -> tickets.get() >= 2);
        // The calls are sent now, and nobody hears them.
        isFree.set(true);
        Thread.sleep(100);
        subscribed.complete(number(1).join());
        // Repeats come after a second or two. By the clock they could also come if the machine stood still for as long.
        for (int pauses = 0; pauses < 70 && !both.isDone(); pauses++) {
            Thread.sleep(10);
        }
        assertTrue(both.isDone());
        both.join();
        locks.close();
    }

    @Test
    void lettuceOpensAConnectionInTimeOrNotAtAll() throws Exception {
        // It takes connections, and says nothing.
        try (ServerSocket silent = new ServerSocket(0);
                RedisClient client = RedisClient.create("redis://127.0.0.1:" + silent.getLocalPort());
                Locks locks = LettuceLocks.of(client)) {
            long began = System.nanoTime();
            assertThrows(LockException.NoReply.class, () -> locks.tryAcquire("x"));
            assertTrue(System.nanoTime() - began < 15_000_000_000L);
        }
    }
}
