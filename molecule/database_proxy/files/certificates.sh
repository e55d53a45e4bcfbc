#!/bin/sh
# Makes an authority, if there is none yet, and a certificate for each address: certificates.sh FOLDER ADDRESS…
set -eu
mkdir -p "$1"
cd "$1"
shift
key() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 "$@"; }
[ -e authority.pem ] || key -x509 -keyout authority.key -out authority.pem -subj /CN=authority
for address in "$@"; do
  key -keyout "$address.key" -out "$address.csr" -subj "/CN=$address"
  printf 'subjectAltName=IP:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$address" >"$address.ext"
  openssl x509 -req -in "$address.csr" -extfile "$address.ext" -CA authority.pem -CAkey authority.key -CAcreateserial -days 30 -out "$address.pem"
done
