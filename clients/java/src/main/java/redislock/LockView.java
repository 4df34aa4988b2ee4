package redislock;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.Lock;

/** A lock as java.util.concurrent has it. */
final class LockView implements Lock {
    private final Locks locks;
    private final String name;
    private final AcquireOptions how;
    private final ThreadLocal<Deque<HeldLock>> held = ThreadLocal.withInitial(ArrayDeque::new);

    LockView(Locks locks, String name, AcquireOptions how) {
        if (how.token != null || how.level != 0) {
            throw new IllegalArgumentException("The levels of such a lock go by threads, not by token and level.");
        }
        this.locks = locks;
        this.name = name;
        this.how = how;
    }

    @Override
    public void lock() {
        locked(locks.acquireUninterruptibly(name, how.waitMillis(Long.MAX_VALUE)), true);
    }

    @Override
    public void lockInterruptibly() throws InterruptedException {
        locked(locks.tryAcquire(name, how.waitMillis(Long.MAX_VALUE)), true);
    }

    @Override
    public boolean tryLock() {
        return locked(locks.acquireUninterruptibly(name, how.waitMillis(0)), false);
    }

    @Override
    public boolean tryLock(long time, TimeUnit unit) throws InterruptedException {
        // What is longer than these can count becomes the longest, which is without end.
        Duration wait = Duration.ofNanos(unit.toNanos(Math.max(0, time)));
        return locked(locks.tryAcquire(name, how.waitFor(wait)), false);
    }

    private boolean locked(Optional<HeldLock> acquired, boolean hasTo) {
        acquired.ifPresent(held.get()::push);
        if (acquired.isEmpty() && hasTo) {
            throw new LockException.NotAcquired(List.of(name));
        }
        return acquired.isPresent();
    }

    @Override
    public void unlock() {
        HeldLock last = held.get().poll();
        if (last == null) {
            throw new IllegalMonitorStateException("This thread has not locked " + name + ".");
        }
        last.close();
    }

    @Override
    public Condition newCondition() {
        throw new UnsupportedOperationException("The server has no conditions.");
    }
}
