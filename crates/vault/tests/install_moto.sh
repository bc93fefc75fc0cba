#!/bin/sh
# Makes target/moto with moto's S3 server, which tests/s3.rs uses where it is there.
set -eu
target="${CARGO_TARGET_DIR:-$(dirname "$0")/../../../target}"
python3 -m venv "$target/moto"
"$target/moto/bin/pip" install --quiet 'moto[server]>=5.1,<6'
