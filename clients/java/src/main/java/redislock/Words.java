package redislock;

import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A command and its arguments; the first is the key, where there is one, or the number of keys for LOCK.M*. */
record Words(String command, List<byte[]> arguments) {
    static Words of(String command, Object... arguments) {
        return new Words(command, List.of()).and(arguments);
    }

    Words and(Object... more) {
        List<byte[]> all = new ArrayList<>(arguments);
        for (Object each : more) {
            all.add(each instanceof byte[] bytes ? bytes : bytes(each.toString()));
        }
        return new Words(command, all);
    }

    /** The first, where there are several. */
    byte[] key() {
        return arguments.get(isOfSeveral() ? 1 : 0);
    }

    private boolean isOfSeveral() {
        return command.startsWith("LOCK.M");
    }

    /**
     * Whether each lock was released or extended: the reply is how many of them. LOCK.ACQUIRE and LOCK.MACQUIRE that go one
     * level deeper say token and fence.
     */
    boolean isYes(Object reply) {
        long all = isOfSeveral() ? Long.parseLong(new String(arguments.get(0), StandardCharsets.US_ASCII)) : 1;
        return reply instanceof List || reply instanceof Long number && number == all;
    }

    /** Two names must never become one lock, so what UTF-8 cannot say is refused. */
    static byte[] bytes(String text) {
        try {
            var encoded = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
            byte[] bytes = new byte[encoded.remaining()];
            encoded.get(bytes);
            return bytes;
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException("half a surrogate pair in a name, a token or an owner", e);
        }
    }
}
