package redislock;

import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executor;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Function;
import java.util.function.Supplier;
import redislock.Remote.Grant;
import redislock.Remote.Place;

/** One acquire: the way to a held lock, and the ways out of it. */
final class Attempt<T> {
    /** What the caller gets. Who completes it in another way, by cancelling it for example, has given up. */
    final CompletableFuture<T> result = new CompletableFuture<>();
    private final CompletableFuture<Void> settled = new CompletableFuture<>();
    private final Place place;
    private final Request request;
    private final HeldLock outer;
    private final Remote remote;
    private final Function<Optional<HeldLock>, T> as;
    private final Wish wish = new Wish();
    private volatile boolean decided;

    /** Whether anybody still wants the lock. */
    static final class Wish {
        private volatile boolean over;
        private volatile CompletableFuture<Void> pause;

        boolean isOver() {
            return over;
        }

        /** A pause, which ends at once when the wish is over. */
        CompletableFuture<Void> during(CompletableFuture<Void> pause) {
            this.pause = pause;
            if (over) {
                pause.complete(null);
            }
            return pause;
        }

        private void end() {
            over = true;
            CompletableFuture<Void> current = pause;
            if (current != null) {
                current.complete(null);
            }
        }
    }

    Attempt(Place place, Request request, HeldLock outer, Function<Optional<HeldLock>, T> as, Executor executor) {
        this.place = place;
        this.request = request;
        this.outer = outer;
        this.as = as;
        this.remote = outer != null ? outer.hold.remote : place.forHold(request);
        result.whenComplete((held, error) -> {
            if (!decided) {
                wish.end();
                if (outer == null) {
                    remote.end();
                    // What waits in the server is answered by this. The rest is for `finish`.
                    release();
                }
            }
        });
        Supplier<CompletableFuture<Optional<Grant>>> acquire = () -> remote.acquire(request, wish);
        if (outer == null) {
            Tasks.from(acquire).whenCompleteAsync(this::finish, executor);
            return;
        }
        // A level that was given up is released before the next one, which may have its number, is asked for.
        Future<?> patience = Tasks.after(Math.max(request.wait, Steps.PATIENCE), () -> result.completeExceptionally(
                new LockException.NoReply("The level before this one is not released yet.", null)));
        outer.hold.levels.take(() -> {
            patience.cancel(false);
            outer.hold.leases.take(acquire).whenCompleteAsync(this::finish, executor);
            return settled;
        });
    }

    private void finish(Optional<Grant> grant, Throwable error) {
        T value;
        Optional<HeldLock> held;
        try {
            if (error != null) {
                throw error;
            }
            held = grant.map(this::held);
            decided = true;
            value = as.apply(held);
        } catch (Throwable failure) {
            failed(Failure.unwrapped(failure));
            return;
        }
        if (held.isEmpty()) {
            endRemote();
        }
        if (result.complete(value) || held.isEmpty()) {
            settled.complete(null);
        } else {
            held.get().giveUp().whenComplete((done, failure) -> settled.complete(null));
        }
    }

    private HeldLock held(Grant grant) {
        if (outer == null) {
            return new HeldLock(new Hold(remote, request, grant), request);
        }
        Hold hold = outer.hold;
        // It may have been lost by our own clock meanwhile, and nothing says after that that it is held.
        if (!hold.confirm(Math.max(grant.ends(), hold.ends()), Math.max(request.lease, hold.lease()))) {
            throw new LockException.Lost("The outer level was lost.");
        }
        return new HeldLock(hold, request);
    }

    /** Whatever the server did last, nothing is held and nobody waits. */
    private void failed(Throwable error) {
        boolean isUnavailable = error instanceof LockException.NotAcquired;
        if (outer != null && error instanceof LockException.Lost) {
            outer.hold.loseRest();
        }
        decided = true;
        endRemote();
        CompletableFuture<?> released = isUnavailable ? CompletableFuture.completedFuture(null) : release();
        if (Failure.isNoReply(error)) {
            // A request that was under way may be read by the server after the first release.
            released = released.thenCompose(done -> Tasks.pause(Steps.PAUSE)).thenCompose(over -> release());
        }
        released.whenComplete((done, other) -> settled.complete(null));
        CompletableFuture<Void> told = Failure.passes(error) ? CompletableFuture.completedFuture(null)
                : settled.copy().completeOnTimeout(null, Steps.PATIENCE, TimeUnit.MILLISECONDS);
        told.thenRun(() -> result.completeExceptionally(Failure.forCaller(error)));
    }

    private CompletableFuture<?> release() {
        return place.release(request, request.lease, 0);
    }

    private void endRemote() {
        if (outer == null) {
            remote.end();
        }
    }

    T join() {
        try {
            return result.join();
        } catch (CompletionException e) {
            throw Locks.thrown(e);
        }
    }

    /** For a thread that waits. When it is interrupted, it gives up, and waits a little until nothing is left. */
    T await() throws InterruptedException {
        try {
            return result.get();
        } catch (ExecutionException e) {
            throw Locks.thrown(e);
        } catch (InterruptedException e) {
            if (!result.cancel(false) && !result.isCompletedExceptionally()) {
                // It was granted just now. What blocks next finds that the thread is interrupted.
                Thread.currentThread().interrupt();
                return result.join();
            }
            try {
                settled.get(Steps.PATIENCE, TimeUnit.MILLISECONDS);
            } catch (TimeoutException | ExecutionException | InterruptedException goesOnByItself) {
                throw e;
            }
            throw e;
        }
    }
}
