package redislock;

import static redislock.Tasks.now;

import java.lang.ref.WeakReference;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.function.LongUnaryOperator;
import java.util.function.Supplier;
import redislock.Remote.Grant;

/** The hold of one token, whatever its level: when its lease is renewed, when it is over, and who is told. */
final class Hold {
    final Remote remote;
    final Request request;
    final long fence;
    final long acquired = now();
    final CompletableFuture<Void> lost = new Lost<>(this);
    /** The levels above the first that are not released, the innermost last. */
    final Deque<HeldLock> inner = new ArrayDeque<>();
    volatile boolean isGivenBack;
    private long ends;
    private long lease;
    /** The same, or what was asked for since and may have begun, if that is longer. */
    private long longest;
    private long renewAt;
    private boolean renewing;
    private boolean over;
    private Future<?> timer;
    /** What changes the lease is done one after the other, so that what is said last is what the server did last. */
    final Turns leases = new Turns();
    /** Levels are acquired and released one after the other, since the next one may have the number of one that has ended. */
    final Turns levels = new Turns();

    static final class Turns {
        private CompletableFuture<Void> last = CompletableFuture.completedFuture(null);

        <T> CompletableFuture<T> take(Supplier<CompletableFuture<T>> what) {
            CompletableFuture<Void> turn = new CompletableFuture<>();
            CompletableFuture<Void> before;
            synchronized (this) {
                before = last;
                last = turn;
            }
            return before.thenCompose(over -> Tasks.from(what)).whenComplete((done, error) -> turn.complete(null));
        }
    }

    /** Who waits for the loss of a lock need not hold anything else of it. */
    private static final class Lost<T> extends CompletableFuture<T> {
        @SuppressWarnings("unused")
        private final Hold hold;

        Lost(Hold hold) {
            this.hold = hold;
        }

        @Override
        public <U> CompletableFuture<U> newIncompleteFuture() {
            return new Lost<>(hold);
        }
    }

    Hold(Remote remote, Request request, Grant grant) {
        this.remote = remote;
        this.request = request;
        this.fence = grant.fence();
        this.ends = grant.ends();
        confirm(grant.ends(), request.lease);
        if (request.session) {
            var self = new WeakReference<>(this);
            remote.ended().thenRun(() -> {
                Hold hold = self.get();
                if (hold != null) {
                    hold.lose();
                }
            });
        }
    }

    synchronized long lease() {
        return lease;
    }

    synchronized long longest() {
        return longest;
    }

    synchronized long ends() {
        return ends;
    }

    /** The milliseconds that are left. Once this is 0 it stays so: the lock is lost, or was released. */
    long remaining() {
        synchronized (this) {
            if (over) {
                return 0;
            }
            long left = ends - now();
            if (left > 0) {
                return left;
            }
        }
        lose();
        return 0;
    }

    /** What comes too late does not count any more. */
    boolean confirm(long ends, long lease) {
        if (remaining() == 0) {
            return false;
        }
        synchronized (this) {
            this.ends = ends;
            this.lease = lease;
            longest = lease;
            renewAt = ends - lease / 3 * 2;
            watch();
            return !over;
        }
    }

    /** Nothing says from now on that it is held. Whether something did until now. */
    synchronized boolean end() {
        boolean was = !over;
        over = true;
        if (timer != null) {
            timer.cancel(false);
        }
        return was;
    }

    boolean lose() {
        boolean was = end();
        if (was) {
            tellLost();
            remote.end();
        }
        return was;
    }

    /** The server says that it is not held. Of several locks, what is left is of no use without it. */
    void loseRest() {
        if (lose() && !request.isOne) {
            remote.release(request, longest(), 0);
        }
    }

    void tellLost() {
        Tasks.BACKGROUND.execute(() -> lost.complete(null));
    }

    /** `next` makes the lease of the one that there is when the turn comes. */
    CompletableFuture<Void> extend(LongUnaryOperator next) {
        return leases.take(() -> {
            if (remaining() == 0) {
                return CompletableFuture.completedFuture(null);
            }
            long lease;
            synchronized (this) {
                lease = next.applyAsLong(this.lease);
                longest = Math.max(longest, lease);
                // A shorter lease may begin at once, also if the reply is lost.
                ends = Math.min(ends, now() + lease);
                watch();
            }
            return remote.extend(request, lease, ends()).thenAccept(until -> {
                if (until.isPresent()) {
                    confirm(until.get(), lease);
                } else {
                    loseRest();
                }
            });
        });
    }

    private void tend() {
        boolean due;
        synchronized (this) {
            due = !over && request.renew && !renewing && now() >= renewAt;
            renewing |= due;
        }
        if (remaining() > 0 && due) {
            // When nothing confirms it, it is tried again, and lost at its end.
            extend(current -> current).whenComplete((done, error) -> {
                synchronized (this) {
                    renewing = false;
                    renewAt = Math.max(renewAt, now() + lease / 10);
                    watch();
                }
            });
        }
        synchronized (this) {
            watch();
        }
    }

    /** As long as somebody has this: who drops a held lock lets its lease run out. */
    private void watch() {
        if (timer != null) {
            timer.cancel(false);
        }
        if (over) {
            return;
        }
        long due = request.renew && !renewing ? Math.min(renewAt, ends) : ends;
        var self = new WeakReference<>(this);
        Remote remote = this.remote;
        timer = Tasks.after(due - now(), () -> {
            Hold hold = self.get();
            if (hold != null) {
                hold.tend();
            } else {
                remote.end();
            }
        });
    }
}
