package redislock;

import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import redislock.Library.Link;

/** A library whose servers answer as the test says: for what no real one does at the right moment. */
final class Scripted implements Library {
    private final Map<Integer, String> owners;
    /** The reply of the node to the command. */
    private final BiFunction<String, Words, CompletableFuture<Object>> replies;

    Scripted(Map<Integer, String> owners, BiFunction<String, Words, CompletableFuture<Object>> replies) {
        this.owners = owners;
        this.replies = replies;
    }

    Locks locks() {
        return new Locks(new Server(this));
    }

    /** What a server says is an error, as a library would raise it. */
    static CompletableFuture<Object> error(String message) {
        return CompletableFuture.failedFuture(Failure.reply(new IllegalStateException(message)));
    }

    @Override
    public Map<Integer, String> owners() {
        return owners;
    }

    @Override
    public int slot(byte[] key) {
        return 0;
    }

    @Override
    public Link open(String address) {
        return new Opened(address);
    }

    @Override
    public Link openEar(String address, Consumer<byte[]> heard) {
        return open(address);
    }

    @Override
    public int blocked() {
        return 0;
    }

    private final class Opened implements Link {
        private final String address;
        private final CompletableFuture<Void> closed = new CompletableFuture<>();

        Opened(String address) {
            this.address = address;
        }

        @Override
        public CompletableFuture<Object> send(Words words) {
            return replies.apply(address, words);
        }

        @Override
        public long timeout() {
            return TIMEOUT;
        }

        @Override
        public CompletableFuture<?> end() {
            closed.complete(null);
            return closed;
        }

        @Override
        public CompletableFuture<Void> closed() {
            return closed;
        }
    }
}
