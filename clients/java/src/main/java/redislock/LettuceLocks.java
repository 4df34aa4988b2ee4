package redislock;

import io.lettuce.core.RedisChannelHandler;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisConnectionStateListener;
import io.lettuce.core.RedisException;
import io.lettuce.core.api.AsyncCloseable;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.SlotHash;
import io.lettuce.core.cluster.models.partitions.RedisClusterNode;
import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.output.CommandOutput;
import io.lettuce.core.protocol.AsyncCommand;
import io.lettuce.core.protocol.Command;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.ProtocolKeyword;
import io.lettuce.core.pubsub.RedisPubSubAdapter;
import io.lettuce.core.pubsub.StatefulRedisPubSubConnection;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.BiFunction;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import redislock.Library.Link;

/**
 * Locks on Lettuce. They have connections of their own, with the settings of the client that is given: one for all who ask,
 * one for the messages that say whose turn it is, one for each session, and some for {@link AcquireOptions#replicas}. Nobody
 * waits on a connection. A request has the timeout of the client, but no more than five seconds.
 */
public final class LettuceLocks {
    private LettuceLocks() {}

    /**
     * Of one server, or of the master that Sentinels name: what the client is for.
     *
     * @param client which remains the caller's to shut down
     * @return the locks, to be closed before that
     */
    public static Locks of(RedisClient client) {
        return new Locks(new Server(new LettuceLibrary(Map.of(), address -> {
            var connection = client.connect(ByteArrayCodec.INSTANCE);
            return new LettuceLink(connection, connection);
        }, (address, heard) -> {
            var connection = client.connectPubSub(ByteArrayCodec.INSTANCE);
            return new Ear(connection, connection, heard);
        })));
    }

    /**
     * Of a cluster. Asks it for its slots, if the client has not done so.
     *
     * @param client which remains the caller's to shut down
     * @return the locks, to be closed before that
     */
    public static Locks of(RedisClusterClient client) {
        Map<Integer, String> owners = new HashMap<>();
        for (RedisClusterNode each : client.getPartitions()) {
            String address = each.getUri().getHost() + ":" + each.getUri().getPort();
            each.getSlots().forEach(slot -> owners.put(slot, address));
        }
        if (owners.isEmpty()) {
            throw new RedisException("The cluster has no slots.");
        }
        // The client keeps to itself how to connect to a node. So each link is the connection to a node that a connection to
        // the cluster has, and is closed with it.
        return new Locks(new Server(new LettuceLibrary(owners,
                address -> closingIfFailed(client, client.connect(ByteArrayCodec.INSTANCE), whole ->
                        new LettuceLink(whole.getConnection(host(address), port(address)), whole)),
                (address, heard) -> closingIfFailed(client, client.connectPubSub(ByteArrayCodec.INSTANCE), whole ->
                        new Ear(whole.getConnection(host(address), port(address)), whole, heard)))));
    }

    private static <C extends AsyncCloseable> Link closingIfFailed(RedisClusterClient client, C whole, Function<C, Link> link) {
        try {
            return link.apply(whole);
        } catch (RedisException e) {
            // Perhaps the node is new.
            client.refreshPartitionsAsync();
            whole.closeAsync();
            throw e;
        }
    }

    private static String host(String address) {
        return address.substring(0, address.lastIndexOf(':'));
    }

    private static int port(String address) {
        return Integer.parseInt(address.substring(address.lastIndexOf(':') + 1));
    }

    private record LettuceLibrary(Map<Integer, String> owners, Function<String, Link> connect,
            BiFunction<String, Consumer<byte[]>, Link> connectEar) implements Library {
        @Override
        public int slot(byte[] key) {
            return SlotHash.getSlot(key);
        }

        @Override
        public int blocked() {
            return 0;
        }

        @Override
        public Link open(String address) {
            return inTime(() -> connect.apply(address));
        }

        @Override
        public Link openEar(String address, Consumer<byte[]> heard) {
            return inTime(() -> connectEar.apply(address, heard));
        }

        /** Lettuce takes the timeout of the client for this as well, however long it is. What comes too late is closed. */
        private static Link inTime(Supplier<Link> connect) {
            CompletableFuture<Link> link = CompletableFuture.supplyAsync(connect, Tasks.BACKGROUND);
            try {
                return link.get(Link.TIMEOUT, TimeUnit.MILLISECONDS);
            } catch (ExecutionException e) {
                throw failure(Failure.unwrapped(e));
            } catch (TimeoutException | InterruptedException e) {
                link.thenAccept(Link::end);
                throw Failure.noReply("There was no connection for " + Link.TIMEOUT + " ms.", e);
            }
        }
    }

    private static Failure failure(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof RedisCommandExecutionException) {
                return Failure.reply(cause);
            }
        }
        return Failure.noReply("Lettuce has no reply: " + error.getMessage(), error);
    }

    private static class LettuceLink implements Link, RedisConnectionStateListener {
        private final StatefulRedisConnection<byte[], byte[]> connection;
        private final AsyncCloseable whole;
        private final Set<CompletableFuture<Object>> unanswered = ConcurrentHashMap.newKeySet();
        private final CompletableFuture<Void> closed = new CompletableFuture<>();
        private final CompletableFuture<Void> gone = new CompletableFuture<>();
        private final long timeout;

        LettuceLink(StatefulRedisConnection<byte[], byte[]> connection, AsyncCloseable whole) {
            this.connection = connection;
            this.whole = whole;
            long set = connection.getTimeout().toMillis();
            timeout = set > 0 ? Math.min(set, TIMEOUT) : TIMEOUT;
            // Who waits on a connection of its own may do so for long. The time of each request is counted elsewhere.
            connection.setTimeout(Duration.ZERO);
            connection.addListener(this);
            if (!connection.isOpen()) {
                end();
            }
        }

        @Override
        public synchronized CompletableFuture<Object> send(Words words) {
            CommandArgs<byte[], byte[]> args = new CommandArgs<>(ByteArrayCodec.INSTANCE);
            words.arguments().forEach(args::add);
            var command = new AsyncCommand<>(new Command<>(new Keyword(words.command()), new Reply(), args));
            return answered(() -> {
                connection.dispatch(command);
                return command;
            });
        }

        /** Lettuce would send again what was not answered, once it has another connection. We do that ourselves. */
        final CompletableFuture<Object> answered(Supplier<CompletionStage<?>> command) {
            CompletableFuture<Object> reply = new CompletableFuture<>();
            unanswered.add(reply);
            reply.whenComplete((done, error) -> unanswered.remove(reply));
            if (closed.isDone()) {
                end();
                return reply;
            }
            try {
                command.get().whenComplete((done, error) -> {
                    if (error == null) {
                        reply.complete(done);
                    } else {
                        reply.completeExceptionally(failure(Failure.unwrapped(error)));
                    }
                });
            } catch (RedisException e) {
                reply.completeExceptionally(failure(e));
            }
            return reply;
        }

        @Override
        public void onRedisDisconnected(RedisChannelHandler<?, ?> gone) {
            end();
        }

        @Override
        public CompletableFuture<?> end() {
            if (closed.complete(null)) {
                whole.closeAsync().whenComplete((done, error) -> gone.complete(null));
            }
            for (CompletableFuture<Object> reply : unanswered) {
                reply.completeExceptionally(Failure.noReply("The connection was closed.", null));
            }
            return gone;
        }

        @Override
        public long timeout() {
            return timeout;
        }

        @Override
        public CompletableFuture<Void> closed() {
            return closed;
        }
    }

    private static final class Ear extends LettuceLink {
        private final StatefulRedisPubSubConnection<byte[], byte[]> connection;
        private final Set<ByteBuffer> unwanted = ConcurrentHashMap.newKeySet();

        Ear(StatefulRedisPubSubConnection<byte[], byte[]> connection, AsyncCloseable whole, Consumer<byte[]> heard) {
            super(connection, whole);
            this.connection = connection;
            connection.addListener(new RedisPubSubAdapter<byte[], byte[]>() {
                @Override
                public void smessage(byte[] channel, byte[] message) {
                    heard.accept(message);
                }

                @Override
                public void sunsubscribed(byte[] channel, long count) {
                    if (!unwanted.remove(ByteBuffer.wrap(channel))) {
                        // The slot has moved.
                        end();
                    }
                }
            });
        }

        @Override
        public synchronized CompletableFuture<Object> send(Words words) {
            byte[] channel = words.key();
            if (words.command().equals("SSUBSCRIBE")) {
                return answered(() -> connection.async().ssubscribe(channel));
            }
            unwanted.add(ByteBuffer.wrap(channel));
            return answered(() -> connection.async().sunsubscribe(channel));
        }
    }

    private record Keyword(String word) implements ProtocolKeyword {
        @Override
        public byte[] getBytes() {
            return Words.bytes(word);
        }

        @Override
        public String toString() {
            return word;
        }
    }

    /** A number, bytes, a list of these, or null. What RESP3 has beside that: a truth, a map as a list of names and values. */
    private static final class Reply extends CommandOutput<byte[], byte[], Object> {
        /** Lists that are not complete, the innermost last. */
        private final Deque<Unfinished> lists = new ArrayDeque<>();

        private record Unfinished(List<Object> elements, int count) {}

        Reply() {
            super(ByteArrayCodec.INSTANCE, null);
        }

        @Override
        public void multi(int count) {
            List<Object> elements = count < 0 ? null : new ArrayList<>(Math.min(count, 1_000));
            if (count > 0) {
                lists.addLast(new Unfinished(elements, count));
                return;
            }
            add(elements);
        }

        @Override
        public void set(long number) {
            add(number);
        }

        @Override
        public void set(double number) {
            add(number);
        }

        @Override
        public void set(boolean truth) {
            add(truth);
        }

        @Override
        public void set(ByteBuffer bytes) {
            add(bytes == null ? null : codec.decodeValue(bytes));
        }

        private void add(Object element) {
            Object complete = element;
            while (!lists.isEmpty()) {
                Unfinished last = lists.getLast();
                last.elements().add(complete);
                if (last.elements().size() < last.count()) {
                    return;
                }
                complete = last.elements();
                lists.removeLast();
            }
            output = complete;
        }
    }
}
