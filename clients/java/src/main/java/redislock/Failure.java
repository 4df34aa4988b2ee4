package redislock;

import java.util.Set;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

/** Why a request failed: the server's error reply, or that no reply came. */
@SuppressWarnings("serial")
final class Failure extends RuntimeException {
    private static final Set<String> PASSING = Set.of("LOADING", "READONLY", "UNBLOCKED", "MOVED", "ASK", "TRYAGAIN",
            "CLUSTERDOWN", "MASTERDOWN", "BUSY", "NOREPLICAS", "MISCONF", "OOM");

    /** The word with which the error reply begins; empty when there was no reply. */
    final String code;

    private Failure(String code, String message, Throwable cause) {
        super(message, cause, false, false);
        this.code = code;
    }

    static Failure reply(Throwable error) {
        String code = error.getMessage().split(" ", 2)[0];
        return new Failure(code.isEmpty() ? "ERR" : code, error.getMessage(), error);
    }

    static Failure noReply(String why, Throwable cause) {
        return new Failure("", why, cause);
    }

    /** What a stage of a future was completed with. */
    static Throwable unwrapped(Throwable error) {
        boolean wrapped = error instanceof CompletionException || error instanceof ExecutionException;
        return wrapped && error.getCause() != null ? unwrapped(error.getCause()) : error;
    }

    static boolean is(Throwable error, String code) {
        return error instanceof Failure failure && failure.code.equals(code);
    }

    static boolean isNoReply(Throwable error) {
        return is(error, "");
    }

    /** Whether the same request may succeed later: the table in docs/clients.md. */
    static boolean passes(Throwable error) {
        return error instanceof Failure failure && (failure.code.isEmpty() || PASSING.contains(failure.code));
    }

    /** What a guarded command has come to: its errors say nothing of the lock. */
    static Throwable ofGuarded(Throwable error) {
        return error instanceof Failure failure && !isNoReply(error)
                ? new LockException(failure.getMessage(), failure.getCause()) : forCaller(error);
    }

    /** As the caller gets it. */
    static Throwable forCaller(Throwable error) {
        if (!(error instanceof Failure failure)) {
            return error;
        }
        String message = failure.getMessage();
        Throwable cause = failure.getCause();
        return switch (failure.code) {
            case "" -> new LockException.NoReply(message, cause);
            case "QUEUEFULL" -> new LockException.QueueFull(message, cause);
            case "DEADLOCK" -> new LockException.Deadlock(message, cause);
            case "NOPERM" -> new LockException.NotPermitted(message, cause);
            case "WRONGTYPE" -> new LockException.WrongType(message, cause);
            default -> new LockException(message, cause);
        };
    }
}
