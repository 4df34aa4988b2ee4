package redislock;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static redislock.LockServer.until;

import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import redislock.LockServer.Kind;

/** What is Java's own: interrupts, futures, and what becomes of locks that are dropped. The rest is in clients/cases. */
class LocksTest extends ServerTest {
    private static final AcquireOptions OPTIONS = AcquireOptions.defaults();

    private static void others(String name) {
        assertNotNull(server.ask("LOCK.ACQUIRE", name, "TOKEN", "other", "PX", "60000"));
    }

    private static long waiting(String name) {
        List<?> info = (List<?>) server.ask("LOCK.INFO", name);
        for (int i = 0; info != null && i < info.size(); i += 2) {
            if (new String((byte[]) info.get(i)).equals("waiting")) {
                return (Long) info.get(i + 1);
            }
        }
        return 0;
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aLockOfTryIsReleasedWhateverEndsTheBlock(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String name = "try " + kind;
        assertThrows(IllegalStateException.class, () -> {
            try (HeldLock held = locks.acquire(name)) {
                assertTrue(held.isHeld());
                throw new IllegalStateException();
            }
        });
        assertTrue(server.isFree(name));
        LockException.Lost lost = assertThrows(LockException.Lost.class, () -> {
            try (HeldLock held = locks.acquire(name)) {
                server.ask("LOCK.BREAK", held.name());
            }
        });
        assertTrue(lost.getMessage().contains(name));
        others(name);
        assertTrue(locks.tryAcquire(name).isEmpty());
        assertThrows(LockException.NotAcquired.class, () -> locks.acquire(name, OPTIONS.waitFor(Duration.ofMillis(20))));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void anInterruptEndsTheWaitAndLeavesNothing(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        for (AcquireOptions options : List.of(OPTIONS, OPTIONS.session())) {
            String name = "interrupt " + kind + options.session;
            others(name);
            CompletableFuture<Throwable> ended = new CompletableFuture<>();
            Thread thread = new Thread(() -> ended.complete(
                    assertThrows(InterruptedException.class, () -> locks.acquire(name, options))));
            thread.start();
            until(() -> waiting(name) == 1);
            thread.interrupt();
            ended.get(20, TimeUnit.SECONDS);
            until(() -> waiting(name) == 0);
            server.ask("LOCK.RELEASE", name, "other");
            until(() -> server.isFree(name));
        }
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aThreadThatIsInterruptedAlreadyReleasesAllTheSame(Kind kind) throws Exception {
        String name = "interrupted " + kind;
        HeldLock held = server.locks(kind).acquire(name);
        Thread.currentThread().interrupt();
        assertTrue(held.release());
        assertTrue(Thread.interrupted());
        until(() -> server.isFree(name));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void threeHundredFuturesThatAreCancelledAroundTheGrantLeaveNothing(Kind kind) {
        Locks locks = server.locks(kind);
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        int granted = 0;
        for (int i = 0; i < 300; i++) {
            // Each its own: who is cancelled before it has asked may ask, and be given up, once the lock has been seen free.
            String name = "cancel " + kind + i;
            others(name);
            CompletableFuture<HeldLock> future = locks.acquireAsync(name, OPTIONS);
            if (random.nextInt(4) > 0) {
                until(() -> waiting(name) == 1);
            }
            CompletableFuture<Void> released = CompletableFuture.runAsync(() -> server.ask("LOCK.RELEASE", name, "other"));
            java.util.concurrent.locks.LockSupport.parkNanos(random.nextInt(1_500_000));
            if (future.cancel(true)) {
                assertThrows(CancellationException.class, future::join);
            } else {
                granted++;
                assertTrue(future.join().release());
            }
            released.join();
        }
        for (int i = 0; i < 300; i++) {
            String name = "cancel " + kind + i;
            until(() -> server.isFree(name));
        }
        System.out.println(kind + ": granted before the cancellation " + granted + " of 300, seed " + seed);
        assertNotEquals(300, granted);
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void whoeverCompletesTheFutureHimselfGivesUp(Kind kind) {
        Locks locks = server.locks(kind);
        String name = "complete " + kind;
        others(name);
        CompletableFuture<HeldLock> late = locks.acquireAsync(name, OPTIONS).orTimeout(50, TimeUnit.MILLISECONDS);
        CompletionException error = assertThrows(CompletionException.class, late::join);
        assertSame(TimeoutException.class, error.getCause().getClass());
        until(() -> waiting(name) == 0);
        CompletableFuture<HeldLock> none = locks.acquireAsync(name, OPTIONS.waitFor(Duration.ofMillis(20)));
        error = assertThrows(CompletionException.class, none::join);
        assertSame(LockException.NotAcquired.class, error.getCause().getClass());
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void whatIsDoneWithAFutureHoldsUpNothing(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        CountDownLatch end = new CountDownLatch(1);
        String name = "stuck " + kind;
        AcquireOptions options = OPTIONS.lease(Duration.ofSeconds(4));
        CountDownLatch told = new CountDownLatch(1);
        CompletableFuture<Void> stuck = locks.acquireAsync(name, options).thenAccept(held -> {
            held.lost().thenRun(() -> {
                told.countDown();
                awaited(end);
            });
            awaited(end);
        });
        until(() -> !server.isFree(name));
        // The same connection serves another, and its renewals.
        try (HeldLock other = locks.acquire(name + " other", options)) {
            server.untilRenewed(other);
            assertTrue(other.isHeld());
            server.ask("LOCK.BREAK", name);
            assertTrue(told.await(20, TimeUnit.SECONDS));
            server.untilRenewed(other);
            assertTrue(other.isHeld());
        }
        assertFalse(stuck.isDone());
        end.countDown();
        stuck.join();
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aHundredWhoWaitAreServedWithoutDelay(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String name = "hundred " + kind;
        others(name);
        CompletableFuture<?>[] all = new CompletableFuture<?>[100];
        for (int i = 0; i < all.length; i++) {
            all[i] = locks.acquireAsync(name, OPTIONS).thenCompose(HeldLock::releaseAsync);
        }
        until(() -> waiting(name) == all.length);
        Thread.sleep(2_500);
        server.ask("LOCK.RELEASE", name, "other");
        // If each had to ask in order to be told, this would take about a minute.
        CompletableFuture.allOf(all).get(25, TimeUnit.SECONDS);
        assertTrue(server.isFree(name));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void whatBecomesOfOneSignalIsNotToldToTheOthers(Kind kind) throws Exception {
        HeldLock held = server.locks(kind).acquire("signal " + kind);
        assertTrue(held.lost().cancel(true));
        held.lost().complete(null);
        assertFalse(held.lost().isDone());
        server.ask("LOCK.BREAK", held.name());
        assertFalse(held.extend());
        held.lost().get(20, TimeUnit.SECONDS);
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void theNextLevelIsOfTheInnermostHold(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String name = "innermost " + kind;
        List<HeldLock> holds = new java.util.ArrayList<>();
        for (int i = 0; i < 5; i++) {
            holds.add(locks.acquire(name, OPTIONS.shared().token("t" + i)));
            try (HeldLock inner = locks.acquire(name)) {
                assertEquals("t" + i, inner.token());
            }
        }
        holds.forEach(HeldLock::release);
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aLevelTakesTheReplicasOfItsHold(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String name = "replicas " + kind;
        try (HeldLock held = locks.acquire(name)) {
            // There are none, and the hold has not asked for any.
            locks.acquire(name, OPTIONS.replicas(1)).close();
            assertTrue(held.isHeld());
        }
    }

    private static void awaited(CountDownLatch end) {
        try {
            end.await();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aLockThatIsDroppedEndsWithItsLease(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        for (AcquireOptions options : List.of(OPTIONS, OPTIONS.session())) {
            String name = "dropped " + kind + options.session;
            locks.acquire(name, options.lease(Duration.ofMillis(1_500)));
            until(() -> {
                System.gc();
                return server.isFree(name);
            });
        }
        // Who waits for the loss of it has not dropped it.
        String name = "watched " + kind;
        CompletableFuture<Void> lost = locks.acquire(name, OPTIONS.lease(Duration.ofSeconds(4))).lost();
        for (int i = 0; i < 5; i++) {
            System.gc();
            Thread.sleep(100);
        }
        server.untilRenewed(name);
        System.gc();
        server.untilRenewed(name);
        server.ask("LOCK.BREAK", name);
        lost.get(20, TimeUnit.SECONDS);
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aLevelThatIsReleasedOutOfTurnWaitsForTheOnesWithin(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String name = "levels " + kind;
        HeldLock one = locks.acquire(name);
        HeldLock two = locks.acquire(name);
        HeldLock three = locks.acquire(name);
        assertEquals(List.of(1, 2, 3), List.of(one.level(), two.level(), three.level()));
        assertTrue(two.release());
        assertFalse(two.isHeld());
        assertTrue(three.isHeld());
        assertTrue(three.release());
        assertTrue(one.isHeld());
        HeldLock again = locks.acquire(name);
        assertEquals(2, again.level());
        assertTrue(one.release());
        assertFalse(again.isHeld());
        assertTrue(server.isFree(name));
        // In a future there is no thread around it.
        one = locks.acquire(name);
        HeldLock handed = locks.acquireAsync(name, OPTIONS.token(one.token()).level(one.level() + 1)).join();
        assertEquals(2, handed.level());
        assertTrue(handed.releaseAsync().join());
        assertTrue(one.release());
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void namesTokensAndOwnersAreTakenAsTheyAre(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        for (String name : List.of("", "\0", "a\r\nb", "%s%n", "{", "{}", "ключ", "🔑", "'\"\\", "x".repeat(100_000))) {
            try (HeldLock held = locks.acquire(name, OPTIONS.owner(name.substring(0, Math.min(60, name.length())))
                    .token("t" + name.substring(0, Math.min(60, name.length()))))) {
                assertEquals(name, held.name());
                assertFalse(server.isFree(name));
            }
            assertTrue(server.isFree(name));
        }
        // These would all become the same question mark.
        assertThrows(IllegalArgumentException.class, () -> locks.acquire("\ud83d"));
        assertThrows(LockException.class, () -> locks.acquire("x", OPTIONS.token("")));
        assertThrows(LockException.class, () -> locks.acquire("x", OPTIONS.owner("o".repeat(256))));
        assertTrue(server.isFree("x"));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void withoutAServerItIsSaidSo(Kind kind) throws Exception {
        Locks locks;
        try (LockServer other = new LockServer()) {
            locks = other.locks(kind);
            locks.acquire("x").release();
        }
        assertThrows(LockException.class, () -> locks.acquire("x", OPTIONS.waitFor(Duration.ZERO)));
        Locks nobody = JedisLocks.of(new redis.clients.jedis.HostAndPort("127.0.0.1", 1));
        LockException.NoReply error = assertThrows(LockException.NoReply.class, () -> nobody.tryAcquire("x"));
        // As if it had been thrown here, and with what the library says.
        assertTrue(List.of(error.getStackTrace()).stream().anyMatch(frame -> frame.getClassName().endsWith("LocksTest")));
        assertTrue(error.getCause() instanceof redis.clients.jedis.exceptions.JedisConnectionException);
        nobody.close();
    }

    @Test
    void optionsAreCheckedAndNeverChange() {
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.lease(Duration.ZERO));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.waitFor(Duration.ofNanos(-1)));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.limit(0));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.limit(65_536));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.level(0));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.replicas(-1));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.session().atLeast(Duration.ofSeconds(1)));
        assertEquals(1, OPTIONS.lease(Duration.ofNanos(1)).lease);
        assertEquals(Long.MAX_VALUE, OPTIONS.waitFor(ChronoUnit.FOREVER.getDuration()).wait);
        OPTIONS.shared().limit(7).owner("x");
        assertEquals(1, OPTIONS.limit);
        Locks locks = server.locks(Kind.JEDIS);
        assertThrows(IllegalArgumentException.class, () -> locks.acquire("x", OPTIONS.level(2)));
        Locks redlock = Redlock.of(List.of(locks));
        assertThrows(IllegalArgumentException.class, () -> redlock.acquire("x", OPTIONS.session()));
    }
}
