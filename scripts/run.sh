#!/usr/bin/env bash
# Runs a server to try the module on: on loopback, in the foreground, forgetting everything when it stops.
# PORT chooses the port, REDIS_SERVER the server.
set -euo pipefail
. "$(dirname "$0")/common.sh"

port=${PORT:-6379}
if [[ ! $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
    die "PORT=$port is not a port: give one from 1 to 65535."
fi
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    die "Port $port is taken. Stop what listens there, or choose another one: make run PORT=$((port % 65535 + 1))"
fi

cargo build --release

# The settings of redis.conf.example, except that the module is the one just built.
dir=$(mktemp -d "${TMPDIR:-/tmp}/redis-lock.XXXXXX")
{
    echo "loadmodule \"$module\""
    grep -v '^loadmodule ' redis.conf.example
    echo "bind 127.0.0.1"
    echo "port $port"
    echo "dir \"$dir\""
    echo 'save ""'
} >"$dir/redis.conf"

cat <<END

Starting a server with redis-lock on 127.0.0.1:$port. Ctrl-C stops it. In another terminal, acquire a lock:

  redis-cli -p $port LOCK.ACQUIRE my-lock PX 30000

The reply is a token, which proves that you hold the lock, and a fence. Release the lock with the token:

  redis-cli -p $port LOCK.RELEASE my-lock <token>

END
# exec, so that Ctrl-C and signals reach the server and none is left behind.
exec "$server" "$dir/redis.conf"
