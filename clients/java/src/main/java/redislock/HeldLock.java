package redislock;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A lock that is held, or one level of it. {@link #close} releases it, so it is made for try-with-resources. Any thread may use
 * it. Who drops it without releasing it lets its lease run out.
 */
public final class HeldLock implements AutoCloseable {
    final Hold hold;
    private final Request request;
    private final AtomicBoolean released = new AtomicBoolean();

    HeldLock(Hold hold, Request request) {
        this.hold = hold;
        this.request = request;
        if (isInner()) {
            synchronized (hold) {
                hold.inner.addLast(this);
            }
        }
    }

    /**
     * The name of the lock.
     *
     * @return as it was given
     */
    public String name() {
        return request.lock;
    }

    /**
     * What proves the hold. Work that is to hold the next level is handed it.
     *
     * @return the token
     */
    public String token() {
        return request.token;
    }

    /**
     * How deep this is.
     *
     * @return 1, or more for who holds the lock and asked again
     */
    public int level() {
        return request.level;
    }

    /**
     * A number that is greater than that of every earlier holder: what the work writes to can refuse the writes of an earlier
     * one. Across the servers of a {@link Redlock} that is so only as far as their clocks agree.
     *
     * @return the fence
     */
    public long fence() {
        return hold.fence;
    }

    /**
     * Whether it is held, as far as is known here. Never again once it is lost or released.
     *
     * @return true while it is held
     */
    public boolean isHeld() {
        return !remaining().isZero();
    }

    /**
     * What is left of the lease, counted from before it was asked for.
     *
     * @return zero when it is not held
     */
    public Duration remaining() {
        return Duration.ofMillis(released.get() ? 0 : hold.remaining());
    }

    /**
     * Completed once the lock is lost: never when it is released before. What is done then is done in a thread of its own.
     *
     * @return the signal, the same for all levels
     */
    public CompletableFuture<Void> lost() {
        return hold.lost;
    }

    /**
     * Begins the lease anew.
     *
     * @return false when the lock is lost
     * @throws LockException when the server cannot be asked
     * @throws InterruptedException when the thread is interrupted; the extension may come about all the same
     */
    public boolean extend() throws InterruptedException {
        return Locks.await(extend(hold.lease()));
    }

    /**
     * Begins the lease anew, with another length from now on.
     *
     * @param lease a millisecond or more
     * @return false when the lock is lost
     * @throws LockException when the server cannot be asked
     * @throws InterruptedException when the thread is interrupted; the extension may come about all the same
     */
    public boolean extend(Duration lease) throws InterruptedException {
        return Locks.await(extend(AcquireOptions.millis(lease, 1)));
    }

    /**
     * Does what {@link #extend(Duration)} does.
     *
     * @param lease a millisecond or more
     * @return of false when the lock is lost; fails with a {@link LockException} when the server cannot be asked
     */
    public CompletableFuture<Boolean> extendAsync(Duration lease) {
        return Locks.forCaller(extend(AcquireOptions.millis(lease, 1)));
    }

    private CompletableFuture<Boolean> extend(long lease) {
        var done = isHeld() ? hold.extend(lease) : CompletableFuture.<Void>completedFuture(null);
        return done.thenApply(nothing -> isHeld());
    }

    /**
     * Gives it back. Returns when the server has done so, or when nothing can be held there any more. A thread that is
     * interrupted does not wait for that any longer than two seconds, and stays interrupted.
     *
     * @return whether it was held until now. When that is not known, because no server answers, it is counted as held
     */
    public boolean release() {
        CompletableFuture<Boolean> done = giveBack();
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    return interrupted ? done.get(Steps.PATIENCE, TimeUnit.MILLISECONDS) : done.get();
                } catch (InterruptedException e) {
                    interrupted = true;
                } catch (TimeoutException e) {
                    return true;
                } catch (ExecutionException e) {
                    throw Locks.thrown(e);
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /**
     * Gives it back, and goes on with that whatever becomes of the future.
     *
     * @return of what {@link #release} says
     */
    public CompletableFuture<Boolean> releaseAsync() {
        return Locks.forCaller(giveBack());
    }

    private CompletableFuture<Boolean> giveBack() {
        boolean wasHeld = isHeld();
        if (released.getAndSet(true)) {
            return CompletableFuture.completedFuture(false);
        }
        if (isInner()) {
            return hold.inTurn(() -> releaseInner(wasHeld));
        }
        long keepUntil = request.atLeast > 0 && wasHeld ? hold.acquired + request.atLeast : 0;
        hold.isGivenBack = true;
        hold.end();
        // An extension on its way must not come after the one that keeps the lock.
        var done = keepUntil > 0 ? hold.inTurn(() -> release(request.level, wasHeld, keepUntil))
                : release(request.level, wasHeld, 0);
        return done.whenComplete((was, error) -> hold.remote.end());
    }

    /** The server gives back a level and what is above it, so one that is not the innermost waits for those. */
    private CompletableFuture<Boolean> releaseInner(boolean wasHeld) {
        int level = 0;
        synchronized (hold) {
            while (!hold.inner.isEmpty() && hold.inner.getLast().released.get()) {
                level = hold.inner.removeLast().level();
            }
        }
        return level == 0 ? CompletableFuture.completedFuture(wasHeld) : release(level, wasHeld, 0);
    }

    private CompletableFuture<Boolean> release(int level, boolean wasHeld, long keepUntil) {
        return hold.remote.release(request, level, keepUntil).thenApply(done -> {
            boolean isRefused = done.isPresent() && !done.get();
            if (isRefused && wasHeld) {
                hold.end();
                hold.tellLost();
            }
            return wasHeld && !isRefused;
        });
    }

    /**
     * Releases it, unless that is done already.
     *
     * @throws LockException.Lost when it was lost before
     */
    @Override
    public void close() {
        if (!released.get() && !release()) {
            throw new LockException.Lost("The lock " + name() + " was lost before the work was done.");
        }
    }

    @Override
    public String toString() {
        return "HeldLock[" + name() + ", fence " + fence() + ", level " + level() + "]";
    }

    /** With the levels around it, too. */
    boolean isReleased() {
        return released.get() || hold.isGivenBack;
    }

    HeldLock innermost() {
        synchronized (hold) {
            return hold.inner.isEmpty() ? this : hold.inner.getLast();
        }
    }

    private boolean isInner() {
        return request != hold.request;
    }
}
