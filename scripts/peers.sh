#!/usr/bin/env bash
# Measures redis-lock beside what people use, each with its own client: see benches/peers/README.md. What it needs goes to
# target/peers; etcd and PostgreSQL come from Debian's packages. PEERS_QUICK=1 measures little, to see that all of it works.
set -euo pipefail
. "$(dirname "$0")/common.sh"

peers=$target/peers
sources=$root/benches/peers

for tool in python3 go node npm java mvn; do
    have "$tool" || die "$tool is not there, with which a peer is measured."
done
"$root/scripts/setup.sh" peers

# python: its own environment, with our client as it comes from its folder.
if ! cmp -s "$sources/python/requirements.txt" "$peers/python/installed"; then
    rm -rf "$peers/python"
    python3 -m venv "$peers/python"
    "$peers/python/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$sources/python/requirements.txt"
    cp "$sources/python/requirements.txt" "$peers/python/installed"
fi

(cd "$sources/go" && go build -o "$peers/go-worker" .)

# node: the client is built in a copy, with what its lock file names.
rm -rf "$peers/typescript/src"
mkdir -p "$peers/typescript" "$peers/node/node_modules"
cp -r clients/typescript/. "$peers/typescript"
npm --prefix "$peers/typescript" ci --silent --no-audit --no-fund --ignore-scripts
npm --prefix "$peers/typescript" run --silent build
cp "$sources/node"/{package.json,worker.mjs} "$peers/node"
npm --prefix "$peers/node" install --silent --no-audit --no-fund
ln -sfn "$peers/typescript" "$peers/node/node_modules/redis-lock-client"

mvn --quiet --batch-mode --file clients/java install -DskipTests
rm -rf "$peers/java"
cp -r "$sources/java" "$peers/java"
mvn --quiet --batch-mode --file "$peers/java/pom.xml" package dependency:build-classpath -Dmdep.outputFile="$peers/classpath"

exec "$root/scripts/with-module.sh" cargo bench --bench peers
