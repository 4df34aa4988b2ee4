package redislock;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.function.Supplier;

/** The clock, the timer, and the threads of this library. All are daemons. */
final class Tasks {
    private static final long START = System.nanoTime();
    private static final ScheduledThreadPoolExecutor TIMER = new ScheduledThreadPoolExecutor(1, named("redis-lock timer"));
    /** For what may take its time: opening connections, and the code of users. It grows as it has to. */
    static final ExecutorService BACKGROUND = Executors.newCachedThreadPool(named("redis-lock"));

    static {
        TIMER.setRemoveOnCancelPolicy(true);
    }

    private Tasks() {}

    /** Milliseconds of a clock that nobody sets. Rounded down, so that a lease never seems longer than it is. */
    static long now() {
        return (System.nanoTime() - START) / 1_000_000;
    }

    /** Never on the thread of the timer: who sends may be held up by a connection that takes nothing more. */
    static Future<?> after(long millis, Runnable what) {
        return TIMER.schedule(() -> BACKGROUND.execute(what), Math.max(0, millis), TimeUnit.MILLISECONDS);
    }

    static CompletableFuture<Void> pause(long millis) {
        CompletableFuture<Void> over = new CompletableFuture<>();
        after(millis, () -> over.complete(null));
        return over;
    }

    static ThreadFactory named(String name) {
        return task -> {
            Thread thread = new Thread(task, name);
            thread.setDaemon(true);
            return thread;
        };
    }

    /** What one round of {@link #repeat} has come to: a value, or a pause before the next one. */
    record Round<T>(boolean isLast, T value, long pause) {
        static <T> CompletableFuture<Round<T>> last(T value) {
            return CompletableFuture.completedFuture(new Round<>(true, value, 0));
        }

        static <T> CompletableFuture<Round<T>> againAfter(long pause) {
            return CompletableFuture.completedFuture(new Round<>(false, null, pause));
        }
    }

    /** A loop, however many rounds it takes: a chain of futures would grow with each. */
    static <T> CompletableFuture<T> repeat(Supplier<CompletableFuture<Round<T>>> round) {
        CompletableFuture<T> result = new CompletableFuture<>();
        repeat(round, result);
        return result;
    }

    private static <T> void repeat(Supplier<CompletableFuture<Round<T>>> round, CompletableFuture<T> result) {
        from(round).whenComplete((done, error) -> {
            if (error != null) {
                result.completeExceptionally(Failure.unwrapped(error));
            } else if (done.isLast()) {
                result.complete(done.value());
            } else {
                after(done.pause(), () -> repeat(round, result));
            }
        });
    }

    /** What is thrown becomes the failure of the future. */
    static <T> CompletableFuture<T> from(Supplier<CompletableFuture<T>> what) {
        return CompletableFuture.completedFuture(null).thenCompose(nothing -> what.get());
    }

    /** With the error itself, and not what futures wrap it in. */
    static <T> CompletableFuture<T> orElse(CompletableFuture<T> what, Function<Throwable, CompletableFuture<T>> other) {
        return what.exceptionallyCompose(error -> other.apply(Failure.unwrapped(error)));
    }
}
