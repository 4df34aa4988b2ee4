package redislock;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;
import redislock.Attempt.Wish;
import redislock.Library.Link;

/**
 * Hears whose turn it is: the messages of one node, for all who wait there. A message only makes prompt what repeating makes
 * right, so whatever goes wrong here ends in somebody asking once more.
 */
final class Calls {
    /** How long a ticket is remembered that was called before the reply that names it, and a channel that nobody uses. */
    private static final long KEPT = 5_000;
    private static final long NEVER = -1;

    private final Function<Consumer<byte[]>, CompletableFuture<Link>> open;
    private final Map<Long, CompletableFuture<Void>> tickets = new ConcurrentHashMap<>();
    private final Map<ByteBuffer, Channel> channels = new HashMap<>();
    private CompletableFuture<Link> ear;
    /** Whether a subscription of this ear was confirmed: otherwise nobody has missed a call when it is lost. */
    private boolean hasHeard;

    private static final class Channel {
        /** Since when, or NEVER. */
        CompletableFuture<Long> heardSince;
        int users;
    }

    Calls(Function<Consumer<byte[]>, CompletableFuture<Link>> open) {
        this.open = open;
    }

    /** Until the ticket, which was asked for at `sent`, is called, or a call may have been missed, or the time is over. */
    CompletableFuture<Void> await(byte[] name, long ticket, long sent, long time, Wish wish) {
        ByteBuffer key = ByteBuffer.wrap(name);
        Channel channel;
        synchronized (this) {
            channel = channels.computeIfAbsent(key, this::subscribe);
            channel.users++;
        }
        // Who had asked before the subscription stood asks again: the message is sent once, and may have been sent before.
        return channel.heardSince
                .thenCompose(since -> since >= sent ? CompletableFuture.<Void>completedFuture(null) : called(ticket, time, wish))
                .whenComplete((done, error) -> leave(key, channel));
    }

    private CompletableFuture<Void> called(long ticket, long time, Wish wish) {
        CompletableFuture<Void> call = tickets.computeIfAbsent(ticket, t -> new CompletableFuture<>());
        // At random, or many would come to ask in step.
        long most = time / 2 + ThreadLocalRandom.current().nextLong(time / 2 + 1);
        return wish.during(call.completeOnTimeout(null, most, TimeUnit.MILLISECONDS))
                .whenComplete((done, error) -> tickets.remove(ticket, call));
    }

    private void heard(byte[] message) {
        long ticket = Long.parseLong(new String(message, StandardCharsets.US_ASCII));
        CompletableFuture<Void> call = tickets.computeIfAbsent(ticket, t -> new CompletableFuture<>());
        call.complete(null);
        Tasks.after(KEPT, () -> tickets.remove(ticket, call));
    }

    private Channel subscribe(ByteBuffer key) {
        if (ear == null) {
            ear = open.apply(this::heard);
            CompletableFuture<Link> opened = ear;
            opened.thenCompose(Link::closed).whenCompleteAsync((closed, error) -> lost(opened), Tasks.BACKGROUND);
        }
        Channel channel = new Channel();
        channel.heardSince = ear
                .thenCompose(link -> Server.within(link.timeout(), link, link.send(Words.of("SSUBSCRIBE", key.array()))))
                // Without the right to it, or while it cannot be had, repeats are enough.
                .handle((done, error) -> heardOf(error == null));
        return channel;
    }

    private synchronized long heardOf(boolean isConfirmed) {
        hasHeard |= isConfirmed;
        return isConfirmed ? Tasks.now() : NEVER;
    }

    private void leave(ByteBuffer key, Channel channel) {
        synchronized (this) {
            if (--channel.users > 0) {
                return;
            }
        }
        Tasks.after(KEPT, () -> {
            synchronized (this) {
                if (channel.users == 0 && channels.remove(key, channel) && ear != null) {
                    ear.thenCompose(link -> link.send(Words.of("SUNSUBSCRIBE", key.array())));
                }
            }
        });
    }

    /** All who wait ask again, and subscribe again by that. */
    private synchronized void lost(CompletableFuture<Link> gone) {
        if (ear != gone) {
            return;
        }
        ear = null;
        channels.clear();
        if (hasHeard) {
            Tasks.after(Steps.PAUSE, () -> tickets.values().forEach(call -> call.complete(null)));
        }
        hasHeard = false;
    }
}
