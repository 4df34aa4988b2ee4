#!/usr/bin/env bash
# Puts together what is shipped, in target/dist: the library for x86_64 that runs with any glibc from 2.28 on, in an archive, a
# Debian package and an RPM, each with its licence, its configuration and a list of what the library is made of (CycloneDX),
# and the checksums of all. The tools come by pip and cargo, into target/tools.
set -euo pipefail
. "$(dirname "$0")/common.sh"

triple=x86_64-unknown-linux-gnu
oldest_glibc=2.28
dist=$root/target/dist
files=$dist/files
tools=$root/target/tools
python=$tools/zig/bin/python

[[ $(uname -sm) == 'Linux x86_64' ]] || die 'What is shipped is built on Linux on x86_64.'

# tool NAME VERSION: a command of cargo. What is there already stays.
tool() {
    cargo install --quiet --locked --root "$tools" "$1" --version "$2"
}

# zig links against an old glibc, and brings its symbols with it.
get_tools() {
    "$root/scripts/setup.sh" pip
    [[ -x $python ]] || python3 -m venv "$tools/zig"
    "$python" -m pip install --quiet --disable-pip-version-check ziglang==0.15.2
    tool cargo-zigbuild 0.24.1
    tool cargo-cyclonedx 0.5.9
    tool cargo-deb 3.8.0
    tool cargo-generate-rpm 0.21.1
    PATH=$tools/bin:$PATH
}

# The headers that the compiler itself brings, for libclang.
clang_headers() {
    local all=(/usr/lib/llvm*/lib/clang/*/include/stddef.h /usr/lib*/clang/*/include/stddef.h)
    for each in "${all[@]}"; do
        if [[ -e $each ]]; then dirname "$each"; fi
    done | sort --version-sort | tail -n 1
}

# bindgen is given no headers by zig. The bindings of the module API are the same with the machine's.
build() {
    local cargo=${CARGO_HOME:-$HOME/.cargo}
    # Messages name source files. Where they stood on this machine is nobody's business.
    RUSTFLAGS="--remap-path-prefix=$root=/redis-lock --remap-path-prefix=$cargo=/cargo" \
        CARGO_ZIGBUILD_PYTHON_PATH=$python \
        BINDGEN_EXTRA_CLANG_ARGS="-I$(clang_headers) -I/usr/include/x86_64-linux-gnu -I/usr/include" \
        cargo zigbuild --locked --profile dist --target "$triple.$oldest_glibc" --package redis-lock --lib
}

collect() {
    rm -rf "$dist"
    mkdir -p "$files"
    cp "$target/$triple/dist/$library" README.md CHANGELOG.md LICENSE "$files"
    # Servers load no library that may not be executed.
    chmod 755 "$files/$library"
    cp redis.conf.example "$files/redis-lock.conf"
    list_components >"$files/redis-lock.cdx.json"
}

# What the library is made of. cargo-cyclonedx writes beside the manifest of each crate of the workspace.
list_components() {
    cargo cyclonedx --quiet --format json --target "$triple" --no-build-deps --spec-version 1.5 \
        --override-filename redis-lock.cdx >&2
    # It names the crates of the workspace by where they stand on this machine.
    sed "s|path+file://$root|path+file:///redis-lock|g" redis-lock.cdx.json
    rm -f redis-lock.cdx.json {core,checker,clients/conformance,tests/rslock}/redis-lock.cdx.json
}

archive() {
    local name=redis-lock-$version-x86_64-linux-gnu
    mkdir "$dist/$name"
    cp "$files/$library" "$files/redis-lock.conf" "$files/redis-lock.cdx.json" \
        "$files/README.md" "$files/CHANGELOG.md" "$files/LICENSE" "$dist/$name"
    tar --directory "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$when" -czf "$dist/$name.tar.gz" "$name"
    rm -r "${dist:?}/$name"
}

version=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"name":"redis-lock","version":"\([^"]*\)".*/\1/')
when=$(git log -1 --format=%ct 2>/dev/null || date +%s)
get_tools
build
collect
archive
cargo deb --quiet --no-build --no-strip --output "$dist/"
SOURCE_DATE_EPOCH=$when cargo generate-rpm --output "$dist/"
(cd "$dist" && sha256sum -- *.tar.gz *.deb *.rpm >SHA256SUMS)
rm -r "$files"
ls -l "$dist"
