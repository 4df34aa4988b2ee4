package redislock;

import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.LongUnaryOperator;

/**
 * A lock that is held, or one level of it; or several locks that are held together. {@link #close} releases it, so it is made
 * for try-with-resources. Any thread may use it. Who drops it without releasing it lets its lease run out.
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
     * The name of the lock, or of the first of several.
     *
     * @return as it was given
     */
    public String name() {
        return names().get(0);
    }

    /**
     * The names of all locks that are held together.
     *
     * @return as they were given, but each once
     */
    public List<String> names() {
        return request.asked;
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
     * one. Across the servers of a {@link Redlock} that is so only as far as their clocks agree. Several locks have one.
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
     * @return the signal, which is that of all levels; a future of its own each time, which its caller may cancel or complete
     */
    public CompletableFuture<Void> lost() {
        return hold.lost.copy();
    }

    /**
     * Begins the lease anew.
     *
     * @return false when the lock is lost
     * @throws LockException when the server cannot be asked
     * @throws InterruptedException when the thread is interrupted; the extension may come about all the same
     */
    public boolean extend() throws InterruptedException {
        return Locks.await(extend(current -> current));
    }

    /**
     * Begins the lease anew, with another length from now on. An inner level does not make it shorter.
     *
     * @param lease a millisecond or more
     * @return false when the lock is lost
     * @throws LockException when the server cannot be asked
     * @throws InterruptedException when the thread is interrupted; the extension may come about all the same
     */
    public boolean extend(Duration lease) throws InterruptedException {
        return Locks.await(extend(to(lease)));
    }

    /**
     * Does what {@link #extend(Duration)} does.
     *
     * @param lease a millisecond or more
     * @return of false when the lock is lost; fails with a {@link LockException} when the server cannot be asked
     */
    public CompletableFuture<Boolean> extendAsync(Duration lease) {
        return Locks.forCaller(extend(to(lease)));
    }

    /** An inner level makes the lease no shorter. */
    private LongUnaryOperator to(Duration lease) {
        long wanted = AcquireOptions.millis(lease, 1);
        return current -> isInner() ? Math.max(wanted, current) : wanted;
    }

    private CompletableFuture<Boolean> extend(LongUnaryOperator next) {
        var done = isHeld() ? hold.extend(next) : CompletableFuture.<Void>completedFuture(null);
        return done.thenApply(nothing -> isHeld());
    }

    /**
     * Runs a command by LOCK.GUARD: only if the lock is held at that moment, in one step. In a cluster its keys are in the slot
     * of the lock. Of several locks the first guards it. When no reply comes, the command may have run, and is not sent again.
     *
     * @param command its words: bytes, or what {@link Object#toString} says
     * @return the reply: a number, bytes, null, a list of these, or what else Jedis or Lettuce gives for it
     * @throws LockException.Lost when the lock is not held any more; nothing has run then
     * @throws LockException.NoReply when no reply came in time
     * @throws LockException when the command fails; the cause is what Jedis or Lettuce threw
     * @throws InterruptedException when the thread is interrupted; the command may run all the same
     */
    public Object guard(Object... command) throws InterruptedException {
        return guardBy(name(), command);
    }

    /**
     * Does what {@link #guard} does, by the one of several locks that is named.
     *
     * @param name one of {@link #names}
     * @param command its words
     * @return the reply
     * @throws LockException when it fails
     * @throws InterruptedException when the thread is interrupted; the command may run all the same
     */
    public Object guardBy(String name, Object... command) throws InterruptedException {
        return Locks.await(guarded(name, command));
    }

    /**
     * Does what {@link #guard} does.
     *
     * @param command its words
     * @return of the reply; fails with a {@link LockException}
     */
    public CompletableFuture<Object> guardAsync(Object... command) {
        return guardByAsync(name(), command);
    }

    /**
     * Does what {@link #guardBy} does.
     *
     * @param name one of {@link #names}
     * @param command its words
     * @return of the reply; fails with a {@link LockException}
     */
    public CompletableFuture<Object> guardByAsync(String name, Object... command) {
        return Locks.forCaller(guarded(name, command));
    }

    private CompletableFuture<Object> guarded(String name, Object... command) {
        return Tasks.from(() -> guardedNow(name, command));
    }

    private CompletableFuture<Object> guardedNow(String name, Object... command) {
        if (!names().contains(name)) {
            throw new IllegalArgumentException("This is not the name of a lock that is held here: " + name);
        }
        if (!isHeld()) {
            return CompletableFuture.failedFuture(new LockException.Lost("The lock " + name + " is not held."));
        }
        return Tasks.orElse(hold.remote.guard(request, name, command), error -> {
            if (!Failure.is(error, "NOTOWNER")) {
                return CompletableFuture.failedFuture(Failure.ofGuarded(error));
            }
            if (!released.get()) {
                hold.loseRest();
            }
            return CompletableFuture.failedFuture(new LockException.Lost(
                    "The lock " + name + " was lost, and the command has not run.", error.getCause()));
        });
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
            return hold.levels.take(() -> releaseInner(wasHeld));
        }
        // Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
        long keepUntil = request.atLeast > 0 && request.level == 1 && wasHeld ? hold.acquired + request.atLeast : 0;
        hold.isGivenBack = true;
        hold.end();
        // An extension on its way must not come after the one that keeps the lock.
        var done = keepUntil > 0
                ? hold.leases.take(() -> told(wasHeld, hold.remote.release(request, hold.longest(), keepUntil)))
                : told(wasHeld, hold.remote.release(request, hold.longest(), 0));
        return done.whenComplete((was, error) -> hold.remote.end());
    }

    /** Gives it back at once: for a level that was just granted, whose turn it still is. */
    CompletableFuture<Boolean> giveUp() {
        return isInner() && !released.getAndSet(true) ? releaseInner(true) : giveBack();
    }

    /** The server gives back a level and what is above it, so one that is not the innermost waits for those. */
    private CompletableFuture<Boolean> releaseInner(boolean wasHeld) {
        Request lowest = null;
        synchronized (hold) {
            while (!hold.inner.isEmpty() && hold.inner.getLast().released.get()) {
                lowest = hold.inner.removeLast().request;
            }
        }
        return told(wasHeld, lowest == null ? CompletableFuture.completedFuture(Optional.of(true))
                : hold.remote.release(lowest, hold.longest(), 0));
    }

    private CompletableFuture<Boolean> told(boolean wasHeld, CompletableFuture<Optional<Boolean>> release) {
        return release.thenApply(done -> {
            boolean isRefused = done.isPresent() && !done.get();
            if (isRefused && wasHeld) {
                hold.loseRest();
                // Who gave back all of it has ended it before.
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
            throw new LockException.Lost(LockException.named(names()) + " was lost before the work was done.");
        }
    }

    @Override
    public String toString() {
        return "HeldLock[" + String.join(", ", names()) + ", fence " + fence() + ", level " + level() + "]";
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
