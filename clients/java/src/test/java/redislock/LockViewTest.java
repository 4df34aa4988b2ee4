package redislock;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static redislock.LockServer.until;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.Lock;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import redislock.LockServer.Kind;

class LockViewTest extends ServerTest {
    private static Lock view(Kind kind, String name) {
        return server.locks(kind).asLock(name, AcquireOptions.defaults());
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void threadsExcludeEachOther(Kind kind) throws Exception {
        Lock lock = view(kind, "count " + kind);
        AtomicInteger within = new AtomicInteger();
        CompletableFuture<?>[] all = new CompletableFuture<?>[8];
        for (int i = 0; i < all.length; i++) {
            all[i] = CompletableFuture.runAsync(() -> {
                for (int j = 0; j < 20; j++) {
                    lock.lock();
                    try {
                        assertTrue(within.incrementAndGet() == 1);
                        Thread.yield();
                        within.decrementAndGet();
                    } finally {
                        lock.unlock();
                    }
                }
            }, Tasks.BACKGROUND);
        }
        CompletableFuture.allOf(all).get(100, TimeUnit.SECONDS);
        assertTrue(server.isFree("count " + kind));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void itIsReentrantForItsThreadAlone(Kind kind) throws Exception {
        String name = "again " + kind;
        Lock lock = view(kind, name);
        lock.lock();
        assertTrue(lock.tryLock());
        lock.lockInterruptibly();
        assertFalse(CompletableFuture.supplyAsync(lock::tryLock, Tasks.BACKGROUND).get());
        assertFalse(CompletableFuture.supplyAsync(() -> tryLock(lock), Tasks.BACKGROUND).get());
        CompletableFuture.runAsync(() -> assertThrows(IllegalMonitorStateException.class, lock::unlock), Tasks.BACKGROUND).get();
        lock.unlock();
        lock.unlock();
        assertFalse(server.isFree(name));
        lock.unlock();
        assertTrue(server.isFree(name));
        assertThrows(IllegalMonitorStateException.class, lock::unlock);
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void theLongestTimeIsWithoutEnd(Kind kind) throws Exception {
        Lock lock = view(kind, "ages " + kind);
        assertTrue(lock.tryLock(Long.MAX_VALUE, TimeUnit.DAYS));
        lock.unlock();
    }

    private static boolean tryLock(Lock lock) {
        try {
            return lock.tryLock(50, TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void anInterruptEndsOneWaitAndNotTheOther(Kind kind) throws Exception {
        String name = "interrupt " + kind;
        Lock lock = view(kind, name);
        lock.lock();
        Thread patient = new Thread(() -> {
            lock.lock();
            assertTrue(Thread.interrupted());
            lock.unlock();
        });
        CompletableFuture<Throwable> ended = new CompletableFuture<>();
        Thread impatient = new Thread(() ->
                ended.complete(assertThrows(InterruptedException.class, lock::lockInterruptibly)));
        patient.start();
        impatient.start();
        Thread.sleep(300);
        patient.interrupt();
        impatient.interrupt();
        ended.get(20, TimeUnit.SECONDS);
        lock.unlock();
        patient.join(20_000);
        assertFalse(patient.isAlive());
        until(() -> server.isFree(name));
    }

    @Test
    void aLockThatWasLostSaysSoAtTheEnd() {
        Lock lock = view(Kind.JEDIS, "lost");
        lock.lock();
        server.ask("LOCK.BREAK", "lost");
        assertThrows(LockException.Lost.class, lock::unlock);
        // And is as good as new.
        lock.lock();
        lock.unlock();
        assertTrue(server.isFree("lost"));
        assertThrows(UnsupportedOperationException.class, lock::newCondition);
        assertThrows(IllegalArgumentException.class, () ->
                server.locks(Kind.JEDIS).asLock("x", AcquireOptions.defaults().level(1).lease(Duration.ofSeconds(1))));
    }
}
