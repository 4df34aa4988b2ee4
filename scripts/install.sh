#!/usr/bin/env bash
# install.sh install|uninstall: puts the module and its documentation where servers find them, or removes exactly that.
# PREFIX is /usr, since Debian's services run libraries from /usr/lib alone; DESTDIR goes before it.
set -euo pipefail
. "$(dirname "$0")/common.sh"

prefix=${PREFIX:-/usr}
[[ $prefix == /* ]] || die "PREFIX=$prefix is not an absolute path."
modules=${DESTDIR:-}$prefix/lib/redis/modules
docs=${DESTDIR:-}$prefix/share/doc/redis-lock
files=("$modules/$library" "$docs/redis.conf.example" "$docs/README.md" "$docs/CHANGELOG.md" "$docs/LICENSE")

case ${1:-} in
    install)
        # Whoever installs as root has built as somebody else, and may have no cargo.
        [[ -e $module ]] || "$root/scripts/with-module.sh"
        install -d "$modules" "$docs"
        # Servers load no library that may not be executed.
        install -m 755 "$module" "$modules/$library"
        for file in redis.conf.example README.md CHANGELOG.md LICENSE; do
            install -m 644 "$file" "$docs/$file"
        done
        sed -i.tmp "s|^loadmodule .*|loadmodule $prefix/lib/redis/modules/$library|" "$docs/redis.conf.example"
        rm "$docs/redis.conf.example.tmp"
        cat <<END
Installed $modules/$library. Load it with this line in the server's configuration, then restart the server:

  loadmodule $prefix/lib/redis/modules/$library

All settings are in $docs/redis.conf.example.
END
        ;;
    uninstall)
        rm -f "${files[@]}"
        # Folders stay that others use as well.
        rmdir --ignore-fail-on-non-empty "$modules" "$docs" 2>/dev/null || true
        echo "Removed redis-lock from ${DESTDIR:-}$prefix. A server that loads it must not be started before its line is removed too."
        ;;
    *) die "install.sh install, or install.sh uninstall" ;;
esac
