#!/bin/sh
# Make the secrets of compose.production.yaml that belong to Prefect: its password, that of its database, and a certificate.
# secrets.sh [FOLDER]. Existing files are kept. Only root enters the folder; in it the files are readable, because they are
# mounted into containers whose user is not root.
set -eu
folder=${1:-/etc/spillway/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

[ -e prefect_auth ] || echo "spillway:$(openssl rand -hex 24)" >prefect_auth
[ -e prefect_database_password ] || openssl rand -hex 24 >prefect_database_password
# Signed by itself. Instead, use one of your own authority for the name `prefect`.
[ -e prefect_tls_key ] || {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=prefect \
    -addext subjectAltName=DNS:prefect,DNS:localhost -keyout prefect_tls_key -out prefect_tls_certificate
  cp prefect_tls_certificate prefect_tls_authority
}
chmod 444 prefect_*

for file in redis_url database_url; do
  [ -e "$file" ] || echo "missing: $folder/$file: write the URL of yours into it, with mode 444"
done
