package redislock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
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
        held.lost().get(5, TimeUnit.SECONDS);
        locks.close();
    }
}
