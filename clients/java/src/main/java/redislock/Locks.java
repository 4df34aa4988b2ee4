package redislock;

import java.lang.ref.WeakReference;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.Deque;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.locks.Lock;
import redislock.Remote.Place;

/**
 * Locks of a server: see {@link JedisLocks}, {@link LettuceLocks}, {@link Redlock}. Safe to share among threads; one is enough
 * for a process.
 */
public final class Locks implements AutoCloseable {
    final Place place;
    /** What each thread has acquired, the last first: by this its inner work gets the next level. */
    private final ThreadLocal<Deque<WeakReference<HeldLock>>> mine = ThreadLocal.withInitial(ArrayDeque::new);

    Locks(Place place) {
        this.place = place;
    }

    /**
     * Acquires the lock, and waits for it without end.
     *
     * @param name of the lock: the key
     * @return the lock, held
     * @throws LockException when it cannot be had
     * @throws InterruptedException when the thread is interrupted; nothing is held then
     */
    public HeldLock acquire(String name) throws InterruptedException {
        return acquire(name, AcquireOptions.defaults());
    }

    /**
     * Acquires the lock. A thread that holds it already is granted the next level.
     *
     * @param name of the lock: the key
     * @param how to acquire it; without {@link AcquireOptions#waitFor} this waits without end
     * @return the lock, held
     * @throws LockException.NotAcquired when it did not become available in time
     * @throws LockException when it cannot be had
     * @throws InterruptedException when the thread is interrupted; nothing is held then
     */
    public HeldLock acquire(String name, AcquireOptions how) throws InterruptedException {
        return acquire(name, how, Long.MAX_VALUE).orElseThrow(() -> new LockException.NotAcquired(List.of(name)));
    }

    /**
     * Acquires several locks, all of them or none, held as one, and waits for them without end.
     *
     * @param names of the locks; see {@link #acquireAll(Collection, AcquireOptions)}
     * @return the locks, held
     * @throws LockException when they cannot be had
     * @throws InterruptedException when the thread is interrupted; nothing is held then
     */
    public HeldLock acquireAll(Collection<String> names) throws InterruptedException {
        return acquireAll(names, AcquireOptions.defaults());
    }

    /**
     * Acquires several locks, all of them or none, held as one. Nothing is held while this waits, so those who acquire several
     * do not wait for each other in a circle. A thread that holds all of them already, as one, is granted the next level.
     *
     * @param names of the locks, 1 to 256, in any order; in a cluster all are in one slot. Not of a {@link Redlock}
     * @param how to acquire them; without {@link AcquireOptions#waitFor} this waits without end
     * @return the locks, held
     * @throws LockException.NotAcquired when they did not become available together in time
     * @throws LockException when they cannot be had
     * @throws InterruptedException when the thread is interrupted; nothing is held then
     */
    public HeldLock acquireAll(Collection<String> names, AcquireOptions how) throws InterruptedException {
        return acquireAll(names, how, Long.MAX_VALUE)
                .orElseThrow(() -> new LockException.NotAcquired(names));
    }

    /**
     * Acquires several locks, all of them or none, held as one, if they become available together in time.
     *
     * @param names of the locks; see {@link #acquireAll(Collection, AcquireOptions)}
     * @param how to acquire them; without {@link AcquireOptions#waitFor} this does not wait
     * @return the locks, held, or empty when they were not available together in time
     * @throws LockException when something else is wrong
     * @throws InterruptedException when the thread is interrupted; nothing is held then
     */
    public Optional<HeldLock> tryAcquireAll(Collection<String> names, AcquireOptions how) throws InterruptedException {
        return acquireAll(names, how, 0);
    }

    /**
     * Acquires the lock if it is available now. A thread that holds it already is granted the next level.
     *
     * @param name of the lock: the key
     * @return the lock, held, or empty when it is not available
     * @throws LockException when something else is wrong
     * @throws InterruptedException when the thread is interrupted; nothing is held then
     */
    public Optional<HeldLock> tryAcquire(String name) throws InterruptedException {
        return tryAcquire(name, AcquireOptions.defaults());
    }

    /**
     * Acquires the lock if it becomes available in time. A thread that holds it already is granted the next level.
     *
     * @param name of the lock: the key
     * @param how to acquire it; without {@link AcquireOptions#waitFor} this does not wait
     * @return the lock, held, or empty when it was not available in time
     * @throws LockException when something else is wrong
     * @throws InterruptedException when the thread is interrupted; nothing is held then
     */
    public Optional<HeldLock> tryAcquire(String name, AcquireOptions how) throws InterruptedException {
        return acquire(name, how, 0);
    }

    /**
     * Acquires the lock. Cancelling the future, or completing it in any other way, gives the lock up again, held or not. Code
     * that belongs to no thread holds nothing already, so a next level has to be asked for by token and level.
     *
     * @param name of the lock: the key
     * @param how to acquire it; without {@link AcquireOptions#waitFor} this waits without end
     * @return of the lock, held; it fails with {@link LockException.NotAcquired}, or another {@link LockException}
     */
    public CompletableFuture<HeldLock> acquireAsync(String name, AcquireOptions how) {
        return begin(new Request(name, how, Long.MAX_VALUE, null, Request.future()));
    }

    /**
     * Acquires several locks, all of them or none, held as one: see {@link #acquireAll(Collection, AcquireOptions)} and
     * {@link #acquireAsync}.
     *
     * @param names of the locks
     * @param how to acquire them; without {@link AcquireOptions#waitFor} this waits without end
     * @return of the locks, held; it fails with {@link LockException.NotAcquired}, or another {@link LockException}
     */
    public CompletableFuture<HeldLock> acquireAllAsync(Collection<String> names, AcquireOptions how) {
        return begin(new Request(names, how, Long.MAX_VALUE, null, Request.future()));
    }

    private CompletableFuture<HeldLock> begin(Request request) {
        return new Attempt<>(place, request, null,
                held -> held.orElseThrow(() -> new LockException.NotAcquired(request.asked)), Tasks.BACKGROUND).result;
    }

    /**
     * The lock as one of java.util.concurrent. It is re-entrant. A thread unlocks what it has locked; {@code unlock} throws
     * {@link LockException.Lost} when the lock was lost before. There are no conditions.
     *
     * @param name of the lock: the key
     * @param how to acquire it; how long to wait is left to the methods of the lock
     * @return a view of the lock, which holds nothing by itself
     */
    public Lock asLock(String name, AcquireOptions how) {
        return new LockView(this, name, how);
    }

    /** Closes the connections. What is held then lasts until its lease ends, and sessions end at once. */
    @Override
    public void close() {
        place.close();
    }

    private Optional<HeldLock> acquire(String name, AcquireOptions how, long wait) throws InterruptedException {
        return remembered(begin(name, how, wait).await(), how);
    }

    Optional<HeldLock> acquireUninterruptibly(String name, AcquireOptions how) {
        return remembered(begin(name, how, 0).join(), how);
    }

    private Optional<HeldLock> acquireAll(Collection<String> names, AcquireOptions how, long wait) throws InterruptedException {
        HeldLock outer = outer(names, how);
        return remembered(begin(new Request(names, how, wait, outer, Request.thread()), outer).await(), how);
    }

    private Attempt<Optional<HeldLock>> begin(String name, AcquireOptions how, long wait) {
        HeldLock outer = outer(List.of(name), how);
        return begin(new Request(name, how, wait, outer, Request.thread()), outer);
    }

    private Attempt<Optional<HeldLock>> begin(Request request, HeldLock outer) {
        return new Attempt<>(place, request, outer, held -> held, Runnable::run);
    }

    private Optional<HeldLock> remembered(Optional<HeldLock> held, AcquireOptions how) {
        if (how.level == 0) {
            // Level 1 is a hold of its own, and not for what this thread asks for later.
            held.ifPresent(lock -> mine.get().addFirst(new WeakReference<>(lock)));
        }
        return held;
    }

    /** What this thread holds of all of them, if it asks for their next level. */
    private HeldLock outer(Collection<String> names, AcquireOptions how) {
        var held = mine.get();
        held.removeIf(lock -> isGone(lock.get()));
        return how.level > 0 || how.token != null ? null : held.stream().map(WeakReference::get)
                .filter(lock -> !isGone(lock) && lock.names().containsAll(names)).findFirst().orElse(null);
    }

    private static boolean isGone(HeldLock lock) {
        return lock == null || lock.isReleased();
    }

    static <T> T await(CompletableFuture<T> done) throws InterruptedException {
        try {
            return done.get();
        } catch (ExecutionException e) {
            throw thrown(e);
        }
    }

    /** What failed on another thread, as if it had failed on this one. */
    static RuntimeException thrown(Throwable error) {
        Throwable cause = Failure.forCaller(Failure.unwrapped(error));
        if (cause instanceof LockException own) {
            own.setStackTrace(new Throwable().getStackTrace());
        }
        if (cause instanceof RuntimeException unchecked) {
            return unchecked;
        }
        throw new AssertionError(cause);
    }

    /** The same, where what the caller does next holds up nobody here. */
    static <T> CompletableFuture<T> forCaller(CompletableFuture<T> done) {
        CompletableFuture<T> result = new CompletableFuture<>();
        done.whenCompleteAsync((value, error) -> {
            if (error == null) {
                result.complete(value);
            } else {
                result.completeExceptionally(Failure.forCaller(Failure.unwrapped(error)));
            }
        }, Tasks.BACKGROUND);
        return result;
    }
}
