#!/bin/sh
# The certificates that the tests and the bench serve TLS with on loopback, and the authority to trust for them. Their
# keys are as public as this file; nothing else trusts that authority. Good for a hundred years.
set -eu
cd "$(dirname "$0")"
new="openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500"
$new -keyout authority-key.pem -out authority.pem -subj "/CN=KMS Key Guard tests" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
$new -keyout server-key.pem -out server.pem -subj "/CN=127.0.0.1" -CA authority.pem -CAkey authority-key.pem \
    -addext "basicConstraints=critical,CA:FALSE" -addext "subjectAltName=IP:127.0.0.1,DNS:localhost"
rm authority-key.pem
