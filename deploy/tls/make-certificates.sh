#!/usr/bin/env bash
# Makes the certificates with which Dask's client, scheduler and workers know each other:
#
#   make-certificates.sh DIRECTORY [DAYS]
#
# ca.pem goes to every machine; scheduler.*, worker.* and client.* each to their own. ca.key signs: whoever has it can
# make a certificate that is let in, so keep it off all of them. A second call makes new ones with the same authority.
# Dask asks that a certificate was signed by ca.pem, and not for which host, so one pair serves all workers.
set -euo pipefail
umask 077

folder=${1:?"usage: make-certificates.sh DIRECTORY [DAYS]"}
days=${2:-365}
mkdir -p "$folder"
cd "$folder"

if [[ ! -e ca.key ]]; then
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -new -x509 -sha256 -key ca.key -days 3650 -subj "/O=hcs-nuclei/CN=Dask authority" -out ca.pem \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
fi

for role in scheduler worker client; do
  openssl ecparam -name prime256v1 -genkey -noout -out "$role.key"
  openssl req -new -sha256 -key "$role.key" -subj "/O=hcs-nuclei/CN=$role" -out "$role.csr"
  # A scheduler and a worker are called as well as calling.
  openssl x509 -req -sha256 -in "$role.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" -out "$role.pem" \
    -extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\n' \
      "$([[ $role == client ]] && echo clientAuth || echo serverAuth,clientAuth)")
  rm "$role.csr"
done
chmod 644 ca.pem
