#!/usr/bin/env bash
# clients.sh [CLIENT [FILTER]]: tests the clients, or one of them: what is particular to its language, in an environment that
# the language's own package manager makes under target, and then the proofs that all clients pass, by their testees; see
# clients/conformance. FILTER chooses among the proofs. Wants REDIS_LOCK_MODULE, as scripts/with-module.sh gives it.
#
# REDIS_LOCK_PROOF_THREADS is how many proofs run at a time. They mostly wait, so more than there are cores. With
# REDIS_LOCK_LIBRARIES=newest the proofs leave out older versions of the libraries.
set -euo pipefail
. "$(dirname "$0")/common.sh"

# testee NAME PROGRAM [ARGS]: a client that takes part in the proofs.
testees=
testee() {
    local name=$1 command
    shift
    command=$(printf '\t%s' "$@")
    testees+="$name:${command#?}"$'\n'
}

# testee_of OLDER ...: of an older version of its library if OLDER is not empty.
testee_of() {
    local older=$1
    shift
    [[ -n $older && ${REDIS_LOCK_LIBRARIES:-} == newest ]] || testee "$@"
}

# Says by name what this machine cannot run, also to the report that scripts/on-each-server.sh makes.
skip() {
    echo "skipped: clients/$1: $2"
    [[ -z ${REDIS_LOCK_SKIPPED:-} ]] || echo "clients/$1: $2" >>"$REDIS_LOCK_SKIPPED"
}

test_python() {
    local python=$target/clients/python
    local tests=clients/python/tests
    local wanted=$tests/requirements.txt

    if ! have python3; then
        skip python 'python3 is not there'
        return
    fi
    if ! cmp -s "$wanted" "$python/installed"; then
        rm -rf "$python"
        python3 -m venv "$python" ||
            die 'python3 cannot make an environment for the client: its module venv or ensurepip fails, see above.'
        "$python/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" ||
            die "pip cannot get what $wanted names, see above: is there a network, or a package index that pip may use?"
        cp "$wanted" "$python/installed"
    fi
    # As it comes to whoever installs it from the folder. The build leaves its traces beside the sources, so it has a copy.
    rm -rf "$python/source"
    cp -r clients/python "$python/source"
    "$python/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
        "$python/source"
    (cd clients/python && "$python/bin/mypy" --cache-dir "$python/mypy")

    # The tests of redis-py are in its source distribution alone. Without it they are skipped, and the reason is said.
    local redis_py
    redis_py=$(sed -n 's/^redis==//p' "$wanted")
    if [[ ! -d $python/redis-$redis_py ]]; then
        if "$python/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary redis \
            --dest "$python" "redis==$redis_py"; then
            tar -xzf "$python/redis-$redis_py.tar.gz" -C "$python"
        fi
    fi
    if [[ -d $python/redis-$redis_py ]]; then
        export REDIS_PY_TESTS=$python/redis-$redis_py
    fi

    # Beside the newest redis-py the oldest that it may be installed with.
    local oldest
    oldest=$(sed -n 's/^dependencies = \["redis>=\(.*\)"\]$/\1/p' clients/python/pyproject.toml)
    if [[ ! -d $python/oldest-$oldest ]]; then
        "$python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$python/oldest-$oldest" \
            "redis==$oldest" || die "pip cannot get redis-py $oldest, see above."
    fi

    "$python/bin/python" -B "$tests"
    for kind in threads asyncio; do
        testee "python $kind" "$python/bin/python" -B "$tests/testee.py" "$kind"
        testee_of older "python $kind redis-py-$oldest" env PYTHONPATH="$python/oldest-$oldest" \
            "$python/bin/python" -B "$tests/testee.py" "$kind"
    done
}

test_typescript() {
    local folder=clients/typescript
    if ! have node || ! have npm; then
        skip typescript 'node or npm is not there'
        return
    fi
    # These have an ES module for whoever calls require().
    if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit((a == 20 && b >= 19) || a * 100 + +b >= 2212 ? 0 : 1)'; then
        skip typescript "node $(node --version) is not 20.19, nor 22.12 or later"
        return
    fi
    if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed"; then
        if ! npm --prefix "$folder" ci --silent --no-audit --no-fund --ignore-scripts; then
            die "npm cannot get what $folder/package-lock.json names, see above: is there a network, or a registry that npm may use?"
        fi
        cp "$folder/package-lock.json" "$folder/node_modules/.installed"
    fi
    (
        cd "$folder"
        rm -rf build
        node_modules/.bin/tsc
        node --test --test-concurrency=1 --test-reporter=spec build/test/*.test.js
    )
    local kind older
    for kind in node-redis-5 node-redis-6 ioredis-5 ioredis-6; do
        older=
        [[ $kind == *-6 ]] || older=older
        testee_of "$older" "typescript $kind" node "$folder/build/test/testee.js" "$kind"
    done
}

test_go() {
    local folder=clients/go least race=-race
    if ! have go; then
        skip go 'go is not there'
        return
    fi
    least=$(sed -n 's/^go //p' "$folder/go.mod")
    if [[ $(printf '%s\n' "go$least" "$(go env GOVERSION)" | sort -V | head -n 1) != "go$least" ]]; then
        skip go "$(go env GOVERSION) is older than $least"
        return
    fi
    mkdir -p "$target/clients/go"
    if [[ $(go env CGO_ENABLED) != 1 ]] || ! have "$(go env CC)"; then
        skip go 'its tests run without the detector of data races, since that needs cgo and a C compiler'
        race=
    fi
    (
        cd "$folder"
        [[ -z $(gofmt -l .) ]] || die "gofmt would change $(gofmt -l . | tr '\n' ' ')"
        go vet ./...
        go test -count=1 ${race:+"$race"} ./...
        go build -o "$target/clients/go/testee" ./internal/testee
    )
    testee go "$target/clients/go/testee"
}

test_rust() {
    (
        cd clients/rust
        export CARGO_TARGET_DIR=$target/clients/rust
        # A minimal toolchain has neither.
        ! cargo fmt --version >/dev/null 2>&1 || cargo fmt --check
        ! cargo clippy --version >/dev/null 2>&1 || cargo clippy --quiet --all-targets -- --deny warnings
        cargo test --quiet
        cargo build --quiet --example testee
    )
    testee rust "$target/clients/rust/debug/examples/testee"
}

test_java() {
    local folder=clients/java
    if ! have java || ! have mvn; then
        skip java 'java or mvn is not there'
        return
    fi
    if ! [[ $(java -version 2>&1) =~ \"([0-9]+) ]] || ((BASH_REMATCH[1] < 17)); then
        skip java "it is older than Java 17: $(java -version 2>&1 | head -n 1)"
        return
    fi
    local maven=(mvn --quiet --batch-mode --file "$folder")
    "${maven[@]}" test-compile ||
        die "mvn cannot build $folder, see above: is there a network, or a repository that it may use?"
    # As it comes to whoever installs it from the folder.
    "${maven[@]}" install

    # Built with the libraries that pom.xml names, and run with others too. With options that have it start sooner.
    local classes=$folder/target/redis-lock-client-0.1.0.jar:$folder/target/test-classes kind older
    for kind in jedis-7.1.0 jedis-8.0.2 lettuce-7.7.0.RELEASE; do
        older=
        [[ $kind != jedis-7* ]] || older=older
        "${maven[@]}" dependency:build-classpath "-D${kind%%-*}.version=${kind#*-}" -DincludeScope=test \
            "-Dmdep.outputFile=$root/$folder/target/$kind"
        testee_of "$older" "java $kind" java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$classes:$(<"$folder/target/$kind")" redislock.Testee "$kind"
    done
}

export REDIS_SERVER=$server
clients=(python typescript rust go java)
(($# == 0)) || clients=("$1")
failed=() all=
said=$(mktemp)
trap 'rm "$said"' EXIT
for client in "${clients[@]}"; do
    # In a shell of its own, where the first failure ends it: `||` and `&&` would let it go on.
    set +e
    (
        set -e
        "test_$client"
        printf '%s' "$testees" >"$said"
    )
    status=$?
    set -e
    if ((status == 0)); then
        all+=$(<"$said")$'\n'
    else
        failed+=("$client")
    fi
done
REDIS_LOCK_TESTEES=$all cargo test --package client-conformance -- --test-threads "${REDIS_LOCK_PROOF_THREADS:-6}" \
    ${2:+"$2"} || failed+=('the proofs of all')
((!${#failed[@]})) || die "The tests of these clients have failed: ${failed[*]}"
