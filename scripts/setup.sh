#!/usr/bin/env bash
# Gets what building and testing need beyond a Rust toolchain and make. Installs on Debian and Ubuntu; elsewhere it says
# what to install. Changes nothing when nothing is missing. With the argument pip it gets that as well, and what makes
# Python environments: only the fetching of servers and the tests of redis-py need them. With the argument valgrind it gets
# that, which only `make cost` needs; with the argument prometheus that and its exporter, for `make test-monitoring`; with the
# argument packages what opens packages and makes clean machines, for `make test-packages`; with the argument containers what makes
# those and images, for `make test-containers`; with the argument peers the servers of peers, for `make bench-peers`.
set -euo pipefail
. "$(dirname "$0")/common.sh"

also=${1:-}
missing='' debian='' fedora='' macos=''

# need WHAT DEBIAN-PACKAGES FEDORA-PACKAGES MACOS-COMMAND
need() {
    missing+="  $1"$'\n'
    debian+=" $2"
    [[ $fedora == *" $3"* ]] || fedora+=" $3"
    [[ $macos == *"$4"* ]] || macos+="${macos:+ && }$4"
}

have_file() {
    compgen -G "$1" >/dev/null
}

have_compiler() {
    # shellcheck disable=SC2086  # CC may be a command with arguments
    echo '#include <stdio.h>' | ${CC:-cc} -x c -fsyntax-only - 2>/dev/null
}

# Looks where the clang-sys crate looks, which loads libclang for bindgen.
have_libclang() {
    local dirs dir name prefix
    if [[ -n ${LIBCLANG_PATH:-} ]]; then
        dirs=("$LIBCLANG_PATH" "$(dirname "$LIBCLANG_PATH")")
    else
        IFS=: read -ra dirs <<<"${LD_LIBRARY_PATH:-}:${LIBRARY_PATH:-}"
        if prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null); then
            dirs+=("$prefix/lib" "$prefix/lib64")
        fi
        if [[ $(uname -s) == Darwin ]]; then
            dirs+=("$(xcode-select --print-path 2>/dev/null)/Toolchains/XcodeDefault.xctoolchain/usr/lib"
                /Library/Developer/CommandLineTools/usr/lib '/usr/local/opt/llvm*/lib')
        else
            have_clang_headers || return 1
            dirs+=('/usr/local/llvm*/lib*' '/usr/local/lib*' '/usr/local/lib*/*' '/usr/local/lib*/*/*'
                '/usr/lib*' '/usr/lib*/*' '/usr/lib*/*/*')
        fi
    fi
    for dir in "${dirs[@]}"; do
        for name in libclang.so 'libclang.so.[0-9]*' 'libclang-[0-9]*.so*' libclang.dylib; do
            if have_file "$dir/$name"; then return; fi
        done
    done
    return 1
}

# The library can be there without its own C headers; then bindgen stops at the first #include.
have_clang_headers() {
    local dir
    for dir in '/usr/lib*' '/usr/lib*/llvm*/lib*' '/usr/local/lib*' '/usr/local/llvm*/lib*'; do
        if have_file "$dir/clang/*/include/stddef.h"; then return; fi
    done
    have clang
}

have_pip() {
    python3 -m pip --version >/dev/null 2>&1
}

# Debian has venv itself in Python's own package, and what it cannot do without in another.
have_venv() {
    python3 -c 'import venv, ensurepip' >/dev/null 2>&1
}

have_prometheus() {
    have prometheus && have promtool && have prometheus-redis-exporter
}

have_package_tools() {
    have debootstrap && have rpm && have rpm2cpio && have cpio && have readelf
}

look() {
    missing='' debian='' fedora='' macos=''
    have_compiler || need 'a C compiler' 'gcc libc6-dev' 'gcc' 'xcode-select --install'
    have_libclang || need 'libclang and its headers' 'libclang-dev' 'clang-devel' 'xcode-select --install'
    have "$server" || need 'redis-server' 'redis-server' 'redis' 'brew install redis'
    have redis-cli || need 'redis-cli' 'redis-tools' 'redis' 'brew install redis'
    [[ $also != pip ]] || have_pip || need 'pip' 'python3-pip' 'python3-pip' 'brew install python'
    [[ $also != valgrind ]] || have callgrind_annotate || need 'valgrind' 'valgrind' 'valgrind' 'brew install valgrind'
    [[ $also != prometheus ]] || have_prometheus ||
        need 'prometheus, promtool, and redis_exporter by the name of prometheus-redis-exporter' \
            'prometheus prometheus-redis-exporter' 'golang-github-prometheus' 'brew install prometheus'
    [[ $also != packages ]] || have_package_tools ||
        need 'debootstrap, rpm, rpm2cpio, cpio and readelf' 'debootstrap rpm rpm2cpio cpio binutils' 'debootstrap rpm cpio binutils' \
            'brew install rpm'
    [[ $also != containers ]] || { have debootstrap && have buildah; } ||
        need 'debootstrap and buildah' 'debootstrap buildah' 'debootstrap buildah' 'brew install podman'
    [[ $also != peers ]] || { have etcd && compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; } ||
        need 'etcd and PostgreSQL' 'etcd-server postgresql' 'etcd postgresql-server' 'brew install etcd postgresql'
    [[ $also != pip ]] || have_venv || need 'venv of Python' 'python3-venv' 'python3' 'brew install python'
}

give_up() {
    die "$1 redis-lock still needs:" '' "$missing" 'Install it, then run make again:' '' \
        "  Debian, Ubuntu   sudo apt-get install$debian" \
        "  Fedora           sudo dnf install$fedora" \
        "  macOS            $macos"
}

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

# Debian packages start their service once installed and at every boot. Tests start servers of their own, and port 6379
# is not ours to take, so for as long as this runs the policy file says no.
install_packages() {
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    as_root apt-get update --quiet --quiet || echo 'Going on with the package lists there are.' >&2
    # shellcheck disable=SC2086  # a list of packages
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get install --yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=120 $debian || return
    if [[ $debian == *redis-server* ]]; then
        as_root deb-systemd-helper disable redis-server.service || true
        as_root update-rc.d redis-server disable || true
    fi >/dev/null 2>&1
    if [[ $debian == *postgresql* ]]; then
        for service in etcd postgresql; do
            as_root deb-systemd-helper disable $service.service || true
            as_root update-rc.d $service disable || true
        done
    fi >/dev/null 2>&1
    if [[ $debian == *prometheus* ]]; then
        for service in prometheus prometheus-redis-exporter; do
            as_root deb-systemd-helper disable $service.service || true
            as_root update-rc.d $service disable || true
        done
    fi >/dev/null 2>&1
}

have cargo || die 'cargo is not there: redis-lock needs a Rust toolchain, 1.88 or newer.'
[[ -z ${REDIS_SERVER:-} ]] || have "$server" || die "REDIS_SERVER=$server is not there, or not executable."

look
if [[ -n $missing ]]; then
    have apt-get || give_up 'There is no apt-get here.'
    [[ $(id -u) == 0 ]] || have sudo || give_up 'Installing takes root or sudo, and here is neither.'
    echo "Installing:$debian"
    install_packages || give_up 'apt-get could not install everything.'
    look
    [[ -z $missing ]] || give_up 'The packages are installed, but'
fi

version=$("$server" --version)
if [[ ! $version =~ v=([0-9]+)\. ]] || ((BASH_REMATCH[1] < 7)); then
    die "redis-lock needs Redis 7.0 or newer, or Valkey. This is: $version" \
        'Choose another server with REDIS_SERVER=/path/to/redis-server.'
fi
