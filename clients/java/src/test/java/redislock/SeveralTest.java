package redislock;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static redislock.LockServer.text;
import static redislock.LockServer.until;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import redislock.LockServer.Kind;

/** Several locks held as one, weights, sessions that stay for a while, and commands that a lock guards. */
class SeveralTest extends ServerTest {
    private static final AcquireOptions OPTIONS = AcquireOptions.defaults();

    private static boolean areFree(Iterable<String> names) {
        for (String each : names) {
            if (!server.isFree(each)) {
                return false;
            }
        }
        return true;
    }

    private static Object ofHolder(String name, String field) {
        return server.field(name, field, true);
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void severalAreHeldAsOneEachOnceAndReleasedTogether(Kind kind) throws Exception {
        List<String> names = List.of("one " + kind, "two " + kind);
        List<String> twice = new ArrayList<>(names);
        twice.addAll(names);
        try (HeldLock held = server.locks(kind).acquireAll(twice)) {
            assertEquals(names, held.names());
            assertEquals(names.get(0), held.name());
            for (String each : names) {
                assertEquals(held.fence(), ofHolder(each, "fence"));
            }
            assertTrue(held.extend(Duration.ofMinutes(1)));
            assertEquals(60_000L, ofHolder(names.get(1), "lease"));
        }
        assertTrue(areFree(names));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void whoWaitsForSeveralHoldsNone(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        List<String> names = List.of("wait one " + kind, "wait two " + kind);
        HeldLock second = locks.acquire(names.get(1));
        assertTrue(locks.tryAcquireAll(names, OPTIONS.level(1)).isEmpty());
        LockException.NotAcquired none = assertThrows(LockException.NotAcquired.class,
                () -> locks.acquireAll(names, OPTIONS.level(1).owner("x").waitFor(Duration.ofMillis(50))));
        assertTrue(none.getMessage().startsWith("One of the locks wait one"), none.getMessage());
        CompletableFuture<HeldLock> both = locks.acquireAllAsync(names, OPTIONS);
        until(() -> Long.valueOf(1).equals(server.field(names.get(0), "waiting", false)));
        assertEquals(0L, server.field(names.get(0), "held", false));
        assertTrue(second.release());
        assertTrue(both.get(20, TimeUnit.SECONDS).releaseAsync().join());
        assertTrue(areFree(names));
        // Who gives up waits nowhere.
        HeldLock again = locks.acquire(names.get(1));
        CompletableFuture<HeldLock> cancelled = locks.acquireAllAsync(names, OPTIONS);
        until(() -> !server.isFree(names.get(0)));
        cancelled.cancel(true);
        until(() -> server.isFree(names.get(0)));
        assertTrue(again.release());
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void allAreRenewedAndOneThatIsBrokenLosesAll(Kind kind) throws Exception {
        List<String> names = List.of("renewed one " + kind, "renewed two " + kind);
        AtomicInteger told = new AtomicInteger();
        HeldLock held = server.locks(kind).acquireAll(names, OPTIONS.lease(Duration.ofSeconds(4)));
        held.lost().thenRun(told::incrementAndGet);
        server.untilRenewed(held);
        assertTrue(held.isHeld());
        server.ask("LOCK.BREAK", names.get(1));
        until(() -> told.get() == 1);
        until(() -> areFree(names));
        assertFalse(held.release());
        assertEquals(1, told.get());
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void oneThatIsNoLockAnyMoreKeepsNoneOfTheOthers(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        List<String> names = List.of("typed one " + kind, "typed two " + kind);
        HeldLock held = locks.acquireAll(names);
        server.ask("SET", names.get(1), "something");
        LockException.Lost lost = assertThrows(LockException.Lost.class, held::close);
        assertTrue(lost.getMessage().startsWith("One of the locks typed one"), lost.getMessage());
        assertTrue(server.isFree(names.get(0)));
        assertThrows(LockException.WrongType.class, () -> locks.acquireAll(names));
        server.ask("DEL", names.get(1));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aThreadIsGrantedTheNextLevelOfAllOrOfSome(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        List<String> names = List.of("level one " + kind, "level two " + kind);
        Consumer<List<Long>> levelsAre = levels ->
                assertEquals(levels, names.stream().map(name -> ofHolder(name, "level")).toList());
        HeldLock outer = locks.acquireAll(names);
        HeldLock all = locks.acquireAll(List.of(names.get(1), names.get(0)));
        HeldLock one = locks.acquire(names.get(0));
        assertEquals(List.of(2, 3), List.of(all.level(), one.level()));
        assertEquals(List.of(names.get(0)), one.names());
        // One lease, and so one level, of all.
        levelsAre.accept(List.of(3L, 3L));
        // Not the innermost, so it waits.
        assertTrue(all.release());
        assertTrue(one.release());
        levelsAre.accept(List.of(1L, 1L));
        HeldLock inner = locks.acquireAll(List.of(names.get(1)));
        assertTrue(inner.extend());
        assertTrue(inner.release());
        assertTrue(outer.release());
        assertTrue(areFree(names));
        // Who holds only one of them waits for himself, and is told so.
        HeldLock first = locks.acquire(names.get(0));
        server.ask("LOCK.ACQUIRE", names.get(1), "TOKEN", "other");
        assertThrows(LockException.Deadlock.class, () -> locks.acquireAll(names, OPTIONS.token(first.token()).level(1)));
        server.ask("LOCK.RELEASE", names.get(1), "other");
        assertTrue(areFree(names));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void weightsCount(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String name = "weighed " + kind;
        AcquireOptions five = OPTIONS.limit(5).level(1);
        try (HeldLock three = locks.acquire(name, five.weight(3))) {
            assertEquals(3L, ofHolder(three.name(), "weight"));
            assertTrue(locks.tryAcquire(name, five.weight(3)).isEmpty());
            try (HeldLock two = locks.acquire(name, five.weight(2))) {
                assertTrue(two.isHeld());
            }
        }
        assertTrue(locks.acquire(name, OPTIONS.shared().weight(65_535)).release());
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aSessionWithADelayIsLostWithItsConnectionAndStaysForThatLong(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String name = "delayed " + kind;
        HeldLock held = locks.acquire(name, OPTIONS.session().delay(Duration.ofSeconds(3)));
        // An inner level does not change it.
        locks.acquire(name).close();
        long began = System.nanoTime();
        server.ask("CLIENT", "KILL", "ID", ofHolder(name, "session").toString());
        held.lost().get(20, TimeUnit.SECONDS);
        assertFalse(server.isFree(name));
        until(() -> server.isFree(name));
        assertTrue(System.nanoTime() - began > 2_900_000_000L);
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aLabelIsOfOneThreadAndOfOneFuture(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        List<String> labels = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            try (HeldLock held = locks.acquire("label " + kind)) {
                labels.add((String) ofHolder(held.name(), "owner"));
            }
            HeldLock held = locks.acquireAsync("label " + kind, OPTIONS).join();
            labels.add((String) ofHolder(held.name(), "owner"));
            assertTrue(held.release());
        }
        String process = ":" + ProcessHandle.current().pid() + ":";
        assertTrue(labels.get(0).endsWith(process + Thread.currentThread().getId()), labels.get(0));
        assertEquals(labels.get(0), labels.get(2));
        assertTrue(labels.get(1).contains(process + "f"), labels.get(1));
        assertNotEquals(labels.get(1), labels.get(3));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aGuardRunsACommandWhileTheLockIsHeld(Kind kind) throws Exception {
        Locks locks = server.locks(kind);
        String key = "guarded " + kind;
        try (HeldLock held = locks.acquire("guard " + kind)) {
            assertEquals("OK", text(held.guard("SET", key, 1)));
            assertEquals(42L, held.guard("INCRBY", key.getBytes(UTF_8), 41));
            assertEquals("42", text(held.guardAsync("GET", key).join()));
            assertNull(held.guard("GET", "nothing"));
            List<?> deep = (List<?>) held.guard("EVAL", "return {1, {{}, 'two'}, {redis.call('GET', KEYS[1])}, 3}", 1, key);
            assertEquals(1L, deep.get(0));
            assertEquals(List.of(), ((List<?>) deep.get(1)).get(0));
            assertEquals("two", text(((List<?>) deep.get(1)).get(1)));
            assertEquals("42", text(((List<?>) deep.get(2)).get(0)));
            assertEquals(List.of(4, 3L), List.of(deep.size(), deep.get(3)));
            assertEquals(Arrays.asList((Object) null), held.guard("MGET", "nothing"));
        }
        List<String> names = List.of("guard one " + kind, "guard two " + kind);
        try (HeldLock held = locks.acquireAll(names, OPTIONS.session())) {
            assertEquals("one", text(held.guard("ECHO", "one")));
            assertEquals("two", text(held.guardBy(names.get(1), "ECHO", "two")));
            assertEquals("two", text(held.guardByAsync(names.get(1), "ECHO", "two").join()));
            assertThrows(IllegalArgumentException.class, () -> held.guardBy("another", "ECHO", "three"));
            // Of a future by the future.
            CompletableFuture<Object> wrong = held.guardByAsync("another", "ECHO", "three");
            assertSame(IllegalArgumentException.class,
                    assertThrows(CompletionException.class, wrong::join).getCause().getClass());
        }
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void anErrorOfTheGuardedCommandLosesNothing(Kind kind) throws Exception {
        String key = "string " + kind;
        try (HeldLock held = server.locks(kind).acquire("wrong " + kind)) {
            held.guard("SET", key, "x");
            for (Map.Entry<String, Object[]> each : Map.<String, Object[]>of(
                    "WRONGTYPE", new Object[] {"LPUSH", key, "1"}, "ERR LOCK.GUARD", new Object[] {"BLPOP", key, "0"},
                    "mine", new Object[] {"EVAL", "return {err = 'mine'}", "0"}).entrySet()) {
                LockException error = assertThrows(LockException.class, () -> held.guard(each.getValue()));
                assertSame(LockException.class, error.getClass());
                assertTrue(error.getMessage().contains(each.getKey()), error.getMessage());
                assertNotNull(error.getCause());
            }
            assertTrue(held.isHeld());
            assertFalse(held.lost().isDone());
        }
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void aGuardOfALockThatIsGoneRunsNothing(Kind kind) throws Exception {
        HeldLock held = server.locks(kind).acquire("gone " + kind);
        server.ask("LOCK.BREAK", held.name());
        String key = "unguarded " + kind;
        assertThrows(LockException.Lost.class, () -> held.guard("SET", key, 1));
        assertFalse(held.isHeld());
        held.lost().get(20, TimeUnit.SECONDS);
        CompletionException error = assertThrows(CompletionException.class, () -> held.guardAsync("SET", key, 1).join());
        assertSame(LockException.Lost.class, error.getCause().getClass());
        assertEquals(0L, server.ask("EXISTS", key));
        assertFalse(held.release());
        assertThrows(LockException.Lost.class, () -> held.guard("SET", key, 1));
    }

    @Test
    void whatCannotBeIsRefusedBeforeAnythingIsSent() throws Exception {
        Locks locks = server.locks(Kind.JEDIS);
        List<String> many = IntStream.range(0, 257).mapToObj(i -> "many " + i).toList();
        assertThrows(IllegalArgumentException.class, () -> locks.acquireAll(List.of()));
        assertThrows(IllegalArgumentException.class, () -> locks.acquireAll(many));
        assertTrue(locks.acquireAll(many.subList(0, 256)).release());
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.weight(0));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.weight(65_536));
        assertThrows(IllegalArgumentException.class, () -> OPTIONS.delay(Duration.ofNanos(-1)));
        AcquireOptions delayed = OPTIONS.delay(Duration.ofSeconds(1));
        AcquireOptions handed = OPTIONS.token("handed").level(2).session();
        for (AcquireOptions wrong : List.of(OPTIONS.weight(2), OPTIONS.weight(6).limit(5), delayed, handed)) {
            assertThrows(IllegalArgumentException.class, () -> locks.acquire("x", wrong));
        }
        Locks redlock = Redlock.of(List.of(locks));
        assertThrows(IllegalArgumentException.class, () -> redlock.acquireAll(List.of("a", "b")));
        try (HeldLock held = redlock.acquire("redlock", OPTIONS.limit(2).weight(2))) {
            assertThrows(UnsupportedOperationException.class, () -> held.guard("PING"));
        }
    }
}
