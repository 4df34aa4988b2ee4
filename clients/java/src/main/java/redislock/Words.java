package redislock;

import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A command and its arguments; the first is the key, where there is one. */
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

    byte[] key() {
        return arguments.get(0);
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
