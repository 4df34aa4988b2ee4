package redislock;

import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/** What Jedis and Lettuce differ in. Both open connections; everything else is done here in one way. */
interface Library {
    /** Of the one server, or of the master that Sentinels name, in place of an address. */
    String ONLY = "";

    /** Which node of the cluster has a slot, as `host:port`; empty where there is no cluster. Blocks. */
    Map<Integer, String> owners();

    int slot(byte[] key);

    /** Blocks. */
    Link open(String address);

    /** A connection for SSUBSCRIBE, which tells the messages that it hears. Blocks. */
    Link openEar(String address, Consumer<byte[]> heard);

    /** How many may wait at a time for their reply, each on a connection of its own. The others are called by messages. */
    int blocked();

    /** A connection. Requests are answered in the order in which they were sent. */
    interface Link {
        /** Milliseconds to wait for a reply, for who names none: no request may hang for ever. */
        long TIMEOUT = 5_000;

        /**
         * A number, bytes, a list of these, or null. What goes wrong is a {@link Failure}. Never blocks for a reply. Requests
         * that are sent while somebody has this object's monitor stand behind each other.
         */
        CompletableFuture<Object> send(Words words);

        /** Milliseconds to wait for a reply. */
        long timeout();

        /** Never blocks. The future is completed when nothing is left of it. */
        CompletableFuture<?> end();

        /** Completed once it is closed, by either side. */
        CompletableFuture<Void> closed();
    }
}
